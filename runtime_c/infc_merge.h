// infc_merge.h: byte-pair merging of one word, with a small cache of what came of earlier ones.
#ifndef INFC_MERGE_H
#define INFC_MERGE_H
#include <stddef.h>
#include <stdint.h>

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

// Appends the tokens of a word that infc_word_find does not know. readable: bytes of text from the word's first on, at least size.
// 0, INFC_ENOMEM, INFC_ELIMIT.
int infc_merge_word(const infc_tokenizer *t, infc_merge_cache *cache, const uint8_t *word, size_t size, size_t readable, infc_ids *out);

// Appends the tokens of a part of a text that is merged from characters: nothing in it merges with what is outside. lead: a space comes
// first that is not in the text. readable as above. 0, INFC_ENOMEM, INFC_ELIMIT.
int infc_merge_part(const infc_tokenizer *t, infc_merge_cache *cache, const uint8_t *part, size_t size, size_t readable, int lead,
                    infc_ids *out);
#endif
