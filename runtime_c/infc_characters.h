// infc_characters.h: what becomes of each character before WordPiece, by the tables of compiler/tokenizer/characters.py.
#ifndef INFC_CHARACTERS_H
#define INFC_CHARACTERS_H
#include <stddef.h>
#include <stdint.h>

enum { INFC_CHAR_BLOCK = 256, INFC_CHAR_STAGE1 = 0x1100 };

// Nothing; a part of a word; a word of its own; white space; nothing, but combining characters on its two sides keep their order; a Hangul
// syllable, which becomes its letters; or this and more: a sequence of items.
enum { INFC_CHAR_DROP, INFC_CHAR_LETTER, INFC_CHAR_ALONE, INFC_CHAR_SPACE, INFC_CHAR_FENCE, INFC_CHAR_HANGUL, INFC_CHAR_SEQUENCE };

typedef struct infc_characters {
    const uint16_t *stage1, *stage2;  // (0x1100) block of a code point; (n_blocks, 256) INFC_CHAR_*, from INFC_CHAR_SEQUENCE on sequences
    const uint32_t *offsets;          // (n_sequences + 1) into items
    const uint8_t *items;             // kind | combining class << 3, bytes, UTF-8
    uint32_t n_sequences, n_items;    // n_items: bytes
} infc_characters;

static inline uint32_t infc_char_kind(const infc_characters *c, uint32_t code) {
    return c->stage2[(size_t)c->stage1[code >> 8] * INFC_CHAR_BLOCK + (code & 255)];
}
#endif
