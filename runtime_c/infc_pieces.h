// infc_pieces.h: SentencePiece's byte-pair encoding: text is merged from characters, and spaces are part of it.
//
// Tokens are kept with spaces where the vocabulary has marks (U+2581); a mark in a text counts as a space. A character without a token
// is the tokens of its bytes, and so is each byte that is no UTF-8. Text is cut where no merge can join what is left and right.
#ifndef INFC_PIECES_H
#define INFC_PIECES_H
#include <stddef.h>
#include <stdint.h>

#include "infc_merge.h"
#include "infc_tokenizer.h"

enum { INFC_CHAR_IDS = 4 };  // most tokens of a character: those of its bytes

// Appends the tokens of text without added tokens. lead: a space comes first that is not in the text. 0, INFC_ENOMEM, INFC_ELIMIT.
int infc_pieces_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, int lead, infc_merge_cache *cache, infc_ids *out);

static inline uint32_t infc_space_id(const infc_tokenizer *t) {
    return t->char_ids[' '] != INFC_WORD_NONE ? t->char_ids[' '] : t->byte_ids[' '];
}

static inline int infc_is_mark(const uint8_t *text, size_t size) {
    return size >= 3 && text[0] == 0xE2 && text[1] == 0x96 && text[2] == 0x81;
}

// The tokens of the first character of text[0, size), size > 0, before any merge; returns its bytes. *n: 1 to INFC_CHAR_IDS.
static inline size_t infc_char_symbols(const infc_tokenizer *t, const uint8_t *text, size_t size, uint32_t *ids, size_t *n) {
    *n = 1;
    if (text[0] < 0x80) {
        ids[0] = t->char_ids[text[0]] != INFC_WORD_NONE ? t->char_ids[text[0]] : t->byte_ids[text[0]];
        return 1;
    }
    if (infc_is_mark(text, size)) {
        ids[0] = infc_space_id(t);
        return 3;
    }
    uint32_t code;
    const size_t bytes = infc_utf8_decode(text, size, &code);
    if (bytes > 1) {
        ids[0] = infc_word_find(&t->words, infc_word_key_at_end(text, bytes), 1);
        if (ids[0] < t->vocab_size) return bytes;
    }
    for (size_t i = 0; i < bytes; i++) ids[i] = t->byte_ids[text[i]];
    *n = bytes;
    return bytes;
}

// All of text's; returns how many, at most size.
static inline size_t infc_pieces_symbols(const infc_tokenizer *t, const uint8_t *text, size_t size, uint32_t *ids) {
    size_t n = 0;
    for (size_t at = 0, some; at < size; n += some) {
        uint32_t next[INFC_CHAR_IDS];
        at += infc_char_symbols(t, text + at, size - at, next, &some);
        for (size_t i = 0; i < some; i++) ids[n + i] = next[i];
    }
    return n;
}
#endif
