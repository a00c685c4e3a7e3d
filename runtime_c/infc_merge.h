// infc_merge.h: byte-pair merging of one word, with a small cache of what came of earlier ones.
#ifndef INFC_MERGE_H
#define INFC_MERGE_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "infc_tokenizer.h"

// Longest word that is kept, slots, and the most tokens of a word that a slot holds: 130 KB in all.
enum { INFC_CACHE_WORD = 32, INFC_CACHE_SLOTS = 1024, INFC_CACHE_IDS = 24 };

typedef struct infc_cached_word {
    uint64_t key[INFC_CACHE_WORD / 8];  // the word's bytes, then zeros
    uint32_t ids[INFC_CACHE_IDS];
} infc_cached_word;

// One per call of the tokenizer. A word has one slot, and takes it from the one before: no text makes a lookup slow.
typedef struct infc_merge_cache {
    int ready;                         // 0: tags is not yet set to 0; the rest is written before it is read
    uint8_t tags[INFC_CACHE_SLOTS];    // bytes of the word in a slot, + 128 if it was part of a longer one; 0: none
    uint8_t counts[INFC_CACHE_SLOTS];  // tokens of it
    infc_cached_word slots[INFC_CACHE_SLOTS];
} infc_merge_cache;

// The slot of a word: key as in infc_cached_word, tag as in tags. Makes the cache ready.
static inline size_t infc_cache_slot(infc_merge_cache *c, const uint64_t *key, uint8_t tag) {
    const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15);
    const uint64_t hash = (key[0] * odd + key[1]) * UINT64_C(0x100000001B3) + (key[2] + tag) * odd + key[3] * UINT64_C(0xCBF29CE484222325);
    if (!c->ready) {
        memset(c->tags, 0, sizeof c->tags);
        c->ready = 1;
    }
    return (hash ^ hash >> 29) * odd >> 32 & (INFC_CACHE_SLOTS - 1);
}

static inline int infc_cache_has(const infc_merge_cache *c, size_t slot, const uint64_t *key, uint8_t tag) {
    return c->tags[slot] == tag && memcmp(c->slots[slot].key, key, sizeof c->slots[slot].key) == 0;
}

// Nothing is kept of a word of more than INFC_CACHE_IDS tokens.
static inline void infc_cache_keep(infc_merge_cache *c, size_t slot, const uint64_t *key, uint8_t tag, const uint32_t *ids, size_t n) {
    if (n > INFC_CACHE_IDS) return;
    c->tags[slot] = tag;
    c->counts[slot] = (uint8_t)n;
    memcpy(c->slots[slot].key, key, sizeof c->slots[slot].key);
    memcpy(c->slots[slot].ids, ids, n * sizeof *ids);
}

// Appends the tokens of a word that infc_word_find does not know. readable: bytes of text from the word's first on, at least size.
// 0, INFC_ENOMEM, INFC_ELIMIT.
int infc_merge_word(const infc_tokenizer *t, infc_merge_cache *cache, const uint8_t *word, size_t size, size_t readable, infc_ids *out);

// Appends the tokens of a part of a text that is merged from characters: nothing in it merges with what is outside. lead: a space comes
// first that is not in the text. readable as above. 0, INFC_ENOMEM, INFC_ELIMIT.
int infc_merge_part(const infc_tokenizer *t, infc_merge_cache *cache, const uint8_t *part, size_t size, size_t readable, int lead,
                    infc_ids *out);
#endif
