// infc_pretok.h: cuts text into the words that byte-pair merging works on, by the tables of compiler/tokenizer/pretokenizers.py.
//
// A split may also cut runs of some characters into threes, counted from the right: then it is a row of marks, see infc_pretok.c.
// Splits are nested: each cuts the pieces of the one before; text between matches is a piece too. A split is an automaton over
// character classes; a byte that is no UTF-8 is a character of its own, of the class of U+FFFD. Linear time, no memory.
#ifndef INFC_PRETOK_H
#define INFC_PRETOK_H
#include <stddef.h>
#include <stdint.h>

enum { INFC_PRETOK_STAGES = 16, INFC_PRETOK_BLOCK = 256, INFC_PRETOK_STAGE1 = 0x1100 };

typedef struct infc_pretok {
    const uint16_t *stage1;  // (0x1100) block of a code point
    const uint8_t *stage2;   // (n_blocks, 256) class
    const uint8_t *ascii;    // (128) class: a row of stage2
    uint32_t n_classes;      // the end of the text is class n_classes
    uint32_t n_stages;
    const uint16_t *rows[INFC_PRETOK_STAGES];  // (n_states, n_classes + 1) next state << 1 | a match ended before this class
    uint8_t threes[INFC_PRETOK_STAGES];        // 1: that stage's only row is marks
} infc_pretok;

// Where each split's current piece ends; end[0] is the end of the text.
typedef struct infc_pretok_cursor {
    size_t at;
    size_t end[INFC_PRETOK_STAGES + 1];
    // A run that is cut into threes: its characters from run_at on, where it ends, whether it is left alone.
    size_t run_at, run_left, run_end;
    int run_alone;
} infc_pretok_cursor;

// Points p into tables of these sizes (in bytes) and checks every entry; 0 or INFC_EFILE.
int infc_pretok_open(infc_pretok *p, uint32_t n_classes, uint32_t n_stages, const uint32_t *states, size_t states_size,
                     const uint16_t *stage1, size_t stage1_size, const uint8_t *stage2, size_t stage2_size, const uint16_t *rows,
                     size_t rows_size);
void infc_pretok_start(infc_pretok_cursor *c, size_t size);
// The next piece of text is [return value, c->at); the caller stops when c->at == c->end[0].
size_t infc_pretok_next(const infc_pretok *p, infc_pretok_cursor *c, const uint8_t *text);
// Decodes one code point of text[0, size), size > 0: returns its length and sets *code; an invalid byte is U+FFFD of length 1.
size_t infc_utf8_decode(const uint8_t *text, size_t size, uint32_t *code);
#endif
