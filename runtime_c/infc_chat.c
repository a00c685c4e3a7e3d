#include "infc_chat.h"

#include <stdlib.h>
#include <string.h>

enum { VERSION = 3, N_HEADER = 6, START = 3, END = 3, GENERATE = 4, STRIP_LEFT = 1, STRIP_RIGHT = 2, NOT_EMPTY = 4, STRIP_NEWLINES = 8, REFUSE = 16 };
#define ABSENT UINT32_MAX
#define DATE_MARK 0xFF

// Writes text with the date at its marks to out, which has room for INFC_DATE_GROWTH times the text. Returns the
// bytes; *ok is 0 for a mark that does not end or a format that is none.
static size_t with_date(infc_date date, const uint8_t *text, size_t size, uint8_t *out, int *ok) {
    size_t n = 0;
    *ok = 1;
    for (size_t at = 0; at < size;) {
        const uint8_t *mark = memchr(text + at, DATE_MARK, size - at);
        const size_t plain = mark ? (size_t)(mark - text) - at : size - at;
        if (plain) memcpy(out + n, text + at, plain);
        n += plain;
        at += plain;
        if (!mark) break;
        const uint8_t *end = memchr(mark + 1, DATE_MARK, size - at - 1);
        int known = 0;
        if (end) n += infc_date_format(date, mark + 1, (size_t)(end - mark) - 1, out + n, &known);
        if (!known) {
            *ok = 0;
            return n;
        }
        at = (size_t)(end - text) + 1;
    }
    return n;
}

// A glue's text; its dates are checked on a day of the calendar.
static int open_glue(const uint8_t *text, size_t size, infc_glue *out) {
    *out = (infc_glue){text, size, size && memchr(text, DATE_MARK, size) != NULL};
    if (!out->dated) return 0;
    if (size > SIZE_MAX / INFC_DATE_GROWTH) return INFC_EFILE;
    uint8_t *filled = malloc(size * INFC_DATE_GROWTH);
    int ok = 0;
    if (!filled) return INFC_ENOMEM;
    with_date((infc_date){2000, 1, 1}, text, size, filled, &ok);
    free(filled);
    return ok ? 0 : INFC_EFILE;
}

int infc_chat_open(const uint8_t *section, size_t size, infc_chat *out) {
    uint32_t h[N_HEADER], cells[INFC_CHAT_BEFORE][INFC_CHAT_AFTER][2];
    memset(out, 0, sizeof *out);
    if (size < 8 + sizeof h + sizeof cells || memcmp(section, "INFCCHT1", 8) != 0) return INFC_EFILE;
    memcpy(h, section + 8, sizeof h);
    memcpy(cells, section + 8 + sizeof h, sizeof cells);
    if (h[0] != VERSION || h[1] > size) return INFC_EFILE;
    for (int r = 0; r < INFC_CHAT_ROLES; r++) out->strip[r] = h[2 + r];
    const size_t fixed = 8 + sizeof h + sizeof cells;
    if (h[5] > INFC_CHAT_RULES || h[5] * (size_t)16 > size - fixed) return INFC_EFILE;
    out->n_rules = h[5];
    for (uint32_t i = 0; i < h[5]; i++) {
        uint32_t r[4];
        memcpy(r, section + fixed + i * sizeof r, sizeof r);
        if (r[0] >= INFC_CHAT_ROLES || r[3] == 0 || r[2] > h[1] || r[3] > h[1] - r[2]) return INFC_EFILE;
        out->rules[i] = (infc_chat_rule){r[0], r[1], section + r[2], r[3]};
    }
    for (int b = 0; b < INFC_CHAT_BEFORE; b++) {
        for (int a = 0; a < INFC_CHAT_AFTER; a++) {
            uint32_t offset = cells[b][a][0], bytes = cells[b][a][1];
            if (offset == ABSENT) continue;
            if (offset > h[1] || bytes > h[1] - offset) return INFC_EFILE;
            const int error = open_glue(section + offset, bytes, &out->glue[b][a]);
            if (error) return error;
        }
    }
    return 0;
}

static int role_of(const char *name) {
    static const char *const names[INFC_CHAT_ROLES] = {"system", "user", "assistant"};
    for (int r = 0; name && r < INFC_CHAT_ROLES; r++)
        if (strcmp(name, names[r]) == 0) return r;
    return -1;
}

// Python's str.isspace, which templates strip by.
static int is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// Narrows text[*begin, *end) by the white space that the flags say to remove.
static void strip(const uint8_t *text, uint32_t flags, size_t *begin, size_t *end) {
    size_t first = *end, last = *begin;  // of what is not white space
    for (size_t at = *begin, length; at < *end; at += length) {
        uint32_t code;
        length = infc_utf8_decode(text + at, *end - at, &code);
        if (is_space(code)) continue;
        if (last == *begin) first = at;
        last = at + length;
    }
    if (flags & STRIP_LEFT) *begin = first;
    else if (flags & STRIP_NEWLINES)
        while (*begin < *end && text[*begin] == '\n') ++*begin;
    if (flags & STRIP_RIGHT) *end = last > *begin ? last : *begin;
}

// Where the last occurrence of the rule's word in text[begin, end) ends; begin if there is none.
static size_t after_word(const infc_chat_rule *r, const uint8_t *text, size_t begin, size_t end) {
    for (size_t at = end; at - begin >= r->size; at--)
        if (memcmp(text + at - r->size, r->word, r->size) == 0) return at;
    return begin;
}

// Narrows a content of a role to what the template writes of it; 0, or INFC_EINPUT if the template has another way with it.
static int narrow(const infc_chat *c, uint32_t role, const uint8_t *text, size_t *begin, size_t *end) {
    uint32_t flags = c->strip[role];
    for (uint32_t i = 0; i < c->n_rules; i++) {
        const infc_chat_rule *r = &c->rules[i];
        if (r->role != role) continue;
        const size_t after = after_word(r, text, *begin, *end);
        if (after == *begin) continue;
        if (r->flags & REFUSE) return INFC_EINPUT;
        *begin = after;
        flags = (flags & NOT_EMPTY) | r->flags;
    }
    strip(text, flags, begin, end);
    return *begin == *end && flags & NOT_EMPTY ? INFC_EINPUT : 0;
}

// Text that waits for the next special token, so that it is tokenized as one.
typedef struct pending {
    uint8_t *text;
    size_t size, cap;
    int32_t after;  // the special token before the text, or INFC_TOKEN_NONE
} pending;

static int append(pending *p, const uint8_t *text, size_t size) {
    if (size > p->cap - p->size) {
        size_t cap = p->cap ? p->cap : 256;
        while (cap - p->size < size) {
            if (cap > SIZE_MAX / 2) return INFC_ELIMIT;
            cap *= 2;
        }
        uint8_t *grown = realloc(p->text, cap);
        if (!grown) return INFC_ENOMEM;
        p->text = grown;
        p->cap = cap;
    }
    if (size) memcpy(p->text + p->size, text, size);
    p->size += size;
    return 0;
}

static int flush(pending *p, const infc_tokenizer *t, infc_ids *out) {
    const size_t begin = infc_tok_skip(t, p->after, p->text, 0, p->size);
    int error = begin < p->size ? infc_tok_encode(t, p->text + begin, p->size - begin, p->after == INFC_TOKEN_NONE ? 0 : INFC_TOK_CONTINUES, out) : 0;
    p->size = 0;
    return error;
}

// Text of the template: its special tokens are tokens.
static int append_text(pending *p, const infc_tokenizer *t, const uint8_t *text, size_t size, infc_ids *out) {
    size_t at = 0, begin = 0, end = 0;
    int error;
    for (;;) {
        int32_t id = infc_tok_find_added(t, 1, text, at, size, &begin, &end);
        if (id == INFC_TOKEN_NONE) return append(p, text + at, size - at);
        if ((error = append(p, text + at, begin - at)) || (error = flush(p, t, out))) return error;
        infc_ids_put(out, (uint32_t)id);
        p->after = id;
        at = end;
    }
}

static int append_glue(pending *p, const infc_tokenizer *t, const infc_glue *g, infc_date date, infc_ids *out) {
    if (!g->dated) return append_text(p, t, g->text, g->size, out);
    uint8_t *filled = malloc(g->size * INFC_DATE_GROWTH);
    if (!filled) return INFC_ENOMEM;
    int ok;
    const size_t size = with_date(date, g->text, g->size, filled, &ok);
    const int error = append_text(p, t, filled, size, out);
    free(filled);
    return error;
}

int infc_chat_encode(const infc_chat *c, const infc_tokenizer *t, const infc_message *messages, int32_t n, int add_generation_prompt,
                     infc_date date, infc_ids *out, int32_t *bad) {
    pending p = {NULL, 0, 0, INFC_TOKEN_NONE};
    int before = START, error = 0;
    for (int32_t i = 0; i <= n && !error; i++) {
        const infc_message *m = i < n ? &messages[i] : NULL;
        int after = m ? role_of(m->role) : add_generation_prompt ? GENERATE : END;
        *bad = i;
        if (after < 0 || !c->glue[before][after].text) {
            error = INFC_EINPUT;
            break;
        }
        error = append_glue(&p, t, &c->glue[before][after], date, out);
        if (!m || error) continue;
        const uint8_t *content = (const uint8_t *)m->content;
        size_t begin = 0, end = m->size;
        error = narrow(c, (uint32_t)after, content, &begin, &end);
        if (!error && begin < end) error = append(&p, content + begin, end - begin);
        before = after;
    }
    if (!error) error = flush(&p, t, out);
    free(p.text);
    return error;
}
