// infc_trie.h: byte strings to tokens, step by step (compiler/tokenizer/trie.py).
#ifndef INFC_TRIE_H
#define INFC_TRIE_H
#include <stddef.h>
#include <stdint.h>

#define INFC_TRIE_NONE UINT32_MAX

// A node is its slot's value. From the low bits: 24 the slot of its first child, 7 of an odd multiplier, 4 a shift, 8 the byte that leads to
// it, 21 its token + 1. Slot 0 is empty, slot 1 the root.
typedef struct infc_trie {
    uint32_t n_slots;
    const uint64_t *slots;
} infc_trie;

// The slot of a number; 0 past the table.
static inline uint64_t infc_trie_at(const infc_trie *t, uint32_t slot) { return slot < t->n_slots ? t->slots[slot] : 0; }

static inline uint64_t infc_trie_root(const infc_trie *t) { return infc_trie_at(t, 1); }

// The child of a node by a byte; 0 if there is none. Any node and any table: nothing outside of it is read.
static inline uint64_t infc_trie_step(const infc_trie *t, uint64_t node, uint8_t byte) {
    const uint32_t multiplier = (uint32_t)(node >> 23 & 0xFE) | 1;
    const uint64_t child = infc_trie_at(t, (uint32_t)(node & 0xFFFFFF) + ((byte * multiplier & 0xFF) >> (node >> 31 & 15)));
    return (uint8_t)(child >> 35) == byte ? child : 0;
}

// The token that ends at a node, or INFC_TRIE_NONE.
static inline uint32_t infc_trie_token(uint64_t node) { return (uint32_t)(node >> 43) - 1; }
#endif
