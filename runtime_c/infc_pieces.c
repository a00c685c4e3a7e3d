#include "infc_pieces.h"

// A character's bytes, and those that it meets its neighbours with.
typedef struct character {
    size_t bytes;
    uint8_t first, last;
} character;

static inline character char_at(const uint8_t *text, size_t size) {
    if (text[0] < 0x80) return (character){1, text[0], text[0]};
    if (infc_is_mark(text, size)) return (character){3, ' ', ' '};
    uint32_t code;
    const size_t n = infc_utf8_decode(text, size, &code);
    return (character){n, text[0], text[n - 1]};
}

static inline int joins(const infc_tokenizer *t, uint8_t a, uint8_t b) { return t->joins[a * 32 + (b >> 3)] >> (b & 7) & 1; }

// The end of the part that begins at `at`: before the first character that no merge joins to the one before it.
static size_t part_end(const infc_tokenizer *t, const uint8_t *text, size_t at, size_t size) {
    character c = char_at(text + at, size - at);
    for (at += c.bytes; at < size; at += c.bytes) {
        const uint8_t last = c.last;
        c = char_at(text + at, size - at);
        if (!joins(t, last, c.first)) break;
    }
    return at;
}

int infc_pieces_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, int lead, infc_merge_cache *cache, infc_ids *out) {
    if (lead && size && !joins(t, ' ', char_at(text, size).first)) {
        infc_ids_put(out, infc_space_id(t));
        lead = 0;
    }
    int error = 0;
    for (size_t at = 0, end; at < size && !error; at = end) {
        end = part_end(t, text, at, size);
        error = infc_merge_part(t, cache, text + at, end - at, size - at, lead && at == 0, out);
    }
    return error;
}
