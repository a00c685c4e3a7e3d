#include "infc_pretok.h"

#include "infc.h"

size_t infc_utf8_decode(const uint8_t *t, size_t size, uint32_t *code) {
    uint32_t b = t[0];
    *code = 0xFFFD;
    if (b < 0x80) {
        *code = b;
        return 1;
    }
    size_t n = b >= 0xF0 ? 4 : b >= 0xE0 ? 3 : 2;
    if (b < 0xC2 || b > 0xF4 || size < n) return 1;
    uint32_t c = b & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((t[i] & 0xC0) != 0x80) return 1;
        c = c << 6 | (t[i] & 0x3Fu);
    }
    if ((n == 3 && (c < 0x800 || (c >= 0xD800 && c < 0xE000))) || (n == 4 && (c < 0x10000 || c > 0x10FFFF))) return 1;
    *code = c;
    return n;
}

int infc_pretok_open(infc_pretok *p, uint32_t n_classes, uint32_t n_stages, const uint32_t *states, size_t states_size,
                     const uint16_t *stage1, size_t stage1_size, const uint8_t *stage2, size_t stage2_size, const uint16_t *rows,
                     size_t rows_size) {
    size_t n_blocks = stage2_size / INFC_PRETOK_BLOCK;
    if (n_classes == 0 || n_classes > 255 || n_stages == 0 || n_stages > INFC_PRETOK_STAGES ||
        states_size != (size_t)n_stages * sizeof *states || stage1_size != INFC_PRETOK_STAGE1 * sizeof *stage1 ||
        stage2_size % INFC_PRETOK_BLOCK || n_blocks == 0)
        return INFC_EFILE;
    for (size_t i = 0; i < INFC_PRETOK_STAGE1; i++)
        if (stage1[i] >= n_blocks) return INFC_EFILE;
    for (size_t i = 0; i < stage2_size; i++)
        if (stage2[i] >= n_classes) return INFC_EFILE;
    size_t cells = rows_size / sizeof *rows, at = 0;
    for (uint32_t s = 0; s < n_stages; s++) {
        if (states[s] < 1 || states[s] > 0x7FFF) return INFC_EFILE;
        p->threes[s] = states[s] == 1;
        size_t n = (size_t)states[s] * (n_classes + 1);
        if (n > cells - at) return INFC_EFILE;
        p->rows[s] = rows + at;
        if (p->threes[s]) {
            at += n;
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            if (rows[at + i] >> 1 >= states[s]) return INFC_EFILE;
            // The dead state stops the walk, and so does the end of the text.
            if ((i % (n_classes + 1)) == n_classes && rows[at + i] >> 1 != 0) return INFC_EFILE;
        }
        at += n;
    }
    p->stage1 = stage1;
    p->stage2 = stage2;
    p->ascii = stage2 + (size_t)stage1[0] * INFC_PRETOK_BLOCK;
    p->n_classes = n_classes;
    p->n_stages = n_stages;
    return 0;
}

void infc_pretok_start(infc_pretok_cursor *c, size_t size) {
    c->at = 0;
    for (int i = 0; i <= INFC_PRETOK_STAGES; i++) c->end[i] = 0;
    c->run_at = c->run_left = c->run_end = 0;
    c->run_alone = 0;
    c->end[0] = size;
}

static inline uint32_t class_at(const infc_pretok *p, const uint8_t *text, size_t at, size_t end, size_t *length) {
    uint32_t code = text[at];
    *length = 1;
    if (code < 0x80) return p->ascii[code];
    *length = infc_utf8_decode(text + at, end - at, &code);
    return p->stage2[(size_t)p->stage1[code >> 8] * INFC_PRETOK_BLOCK + (code & 0xFF)];
}

// End of the match that begins at `at`, or `at` if there is none.
static size_t match(const infc_pretok *p, const uint16_t *rows, const uint8_t *text, size_t at, size_t end) {
    size_t width = p->n_classes + 1, found = at, length;
    uint32_t state = 1;
    while (at < end) {
        uint32_t next = rows[state * width + class_at(p, text, at, end, &length)];
        if (next & 1) found = at;
        state = next >> 1;
        if (!state) return found;
        at += length;
    }
    return rows[state * width + p->n_classes] & 1 ? end : found;
}

// Marks of a class, and of the split in the place of the end's.
enum { IN_RUN = 1, LEAVES_ALONE = 2, BETWEEN_ONLY = 4 };

static size_t skip(const infc_pretok *p, const uint8_t *text, size_t at, size_t end, size_t n) {
    for (size_t length; n > 0 && at < end; n--, at += length) class_at(p, text, at, end, &length);
    return at;
}

// Measures the run that begins at `at`, once: what is left of it is known from then on.
static void measure(const infc_pretok *p, infc_pretok_cursor *c, const uint16_t *marks, const uint8_t *text, size_t at, size_t end) {
    size_t length;
    if (c->run_at == at && c->run_end > at && c->run_end <= end) return;
    c->run_at = at;
    c->run_alone = 0;
    for (c->run_left = 0; at < end; at += length, c->run_left++) {
        const uint16_t mark = marks[class_at(p, text, at, end, &length)];
        c->run_alone = (mark & LEAVES_ALONE) != 0;
        if (!(mark & IN_RUN)) break;
        c->run_alone = 0;
    }
    c->run_end = at;
}

// End of the piece that begins at `begin`. Runs are cut where a multiple of three is left. What is between them is a piece, with runs that
// are left alone for what follows them; or, if cuts are only between groups, part of the piece that a run begins.
static size_t cut_threes(const infc_pretok *p, infc_pretok_cursor *c, const uint16_t *marks, const uint8_t *text, size_t begin, size_t end) {
    const int between = marks[p->n_classes] & BETWEEN_ONLY;
    size_t at = begin, length;
    while (at < end) {
        if (!(marks[class_at(p, text, at, end, &length)] & IN_RUN)) {
            at += length;
            continue;
        }
        measure(p, c, marks, text, at, end);
        size_t first = c->run_left % 3;
        if (!c->run_alone && at > begin && (!between || first == 0)) return at;
        if (first == 0) first = 3;
        if (c->run_alone || (between && first == c->run_left)) {
            at = c->run_end;
            continue;
        }
        c->run_left -= first;
        return c->run_at = skip(p, text, at, end, first);
    }
    return end;
}

size_t infc_pretok_next(const infc_pretok *p, infc_pretok_cursor *c, const uint8_t *text) {
    size_t begin = c->at, length;
    uint32_t stage = p->n_stages;
    while (stage > 0 && begin >= c->end[stage]) stage--;  // the innermost split whose piece is not used up
    for (; stage < p->n_stages; stage++) {
        size_t end = c->end[stage];
        if (p->threes[stage]) {
            c->end[stage + 1] = cut_threes(p, c, p->rows[stage], text, begin, end);
            continue;
        }
        size_t stop = match(p, p->rows[stage], text, begin, end);
        if (stop == begin) {  // a gap: up to where something matches again
            do {
                class_at(p, text, stop, end, &length);
                stop += length;
            } while (stop < end && match(p, p->rows[stage], text, stop, end) == stop);
        }
        c->end[stage + 1] = stop;
    }
    c->at = c->end[p->n_stages];
    return begin;
}
