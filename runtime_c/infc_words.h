// infc_words.h: short words that are one token, found by their bytes in the table of compiler/tokenizer/words.py.
#ifndef INFC_WORDS_H
#define INFC_WORDS_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { INFC_WORD_SHORT = 12, INFC_WORD_LOAD = 16 };  // bytes of a short word; bytes that infc_word_key reads
#define INFC_WORD_NONE UINT32_MAX

// bytes[0, 12), zeros after the word's end; then id | length << 20 | 1 << 24 for a token that merging does not make. Empty: all 0.
typedef struct infc_word_slot {
    uint64_t low, high;
} infc_word_slot;

typedef struct infc_words {
    const infc_word_slot *slots;  // the last is empty
    uint32_t n_homes;
} infc_words;

// Loads the n <= 12 bytes of a word, of which 16 can be read.
static inline infc_word_slot infc_word_key(const uint8_t *word, size_t n) {
    static const uint8_t keep[32] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    infc_word_slot key, mask;
    memcpy(&key, word, sizeof key);
    memcpy(&mask, keep + INFC_WORD_LOAD - n, sizeof mask);
    return (infc_word_slot){key.low & mask.low, (key.high & mask.high) | (uint64_t)n << 52};
}

// As infc_word_key, for a word that ends near the end of what can be read.
static inline infc_word_slot infc_word_key_at_end(const uint8_t *word, size_t n) {
    uint8_t copy[INFC_WORD_LOAD] = {0};
    memcpy(copy, word, n);
    return infc_word_key(copy, n);
}

// The token of the word with this key, INFC_WORD_NONE if it is not one. part: the word is a part of one, which only merging may join.
static inline uint32_t infc_word_find(const infc_words *w, infc_word_slot key, int part) {
    const uint64_t id_bits = UINT64_C(0xFFFFF) << 32, whole_only = UINT64_C(1) << 56;
    const uint64_t hash = key.low * UINT64_C(0x9E3779B97F4A7C15) + key.high * UINT64_C(0xD6E8FEB86659FD93);
    const infc_word_slot *s = w->slots + (((hash >> 32) * w->n_homes) >> 32);
    for (; s->high >> 32; s++) {
        // The id is what is asked for; everything else of the slot must be the key.
        if ((s->low ^ key.low) | ((s->high ^ key.high) & ~(part ? id_bits : id_bits | whole_only))) continue;
        return (uint32_t)(s->high >> 32) & 0xFFFFF;
    }
    return INFC_WORD_NONE;
}
#endif
