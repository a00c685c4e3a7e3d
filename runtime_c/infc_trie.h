// infc_trie.h: byte strings to tokens, step by step (compiler/tokenizer/trie.py).
#ifndef INFC_TRIE_H
#define INFC_TRIE_H
#include <stddef.h>
#include <stdint.h>

#define INFC_TRIE_NONE UINT32_MAX

// The children of node i are nodes first[i] to first[i + 1], by ascending byte; node 0 is the root, and no node's child.
typedef struct infc_trie {
    uint32_t n_nodes;
    const uint32_t *first;   // (n_nodes + 1)
    const uint8_t *bytes;    // (n_nodes) the byte that leads to a node
    const uint32_t *tokens;  // (n_nodes) the token that ends there, or INFC_TRIE_NONE
} infc_trie;

// The child of a node by a byte; 0 if there is none. Any node and any table: nothing outside of the tables is read.
static inline uint32_t infc_trie_step(const infc_trie *t, uint32_t node, uint8_t byte) {
    if (node >= t->n_nodes) return 0;
    uint32_t low = t->first[node];
    const uint32_t high = t->first[node + 1];
    if (high > t->n_nodes || low >= high) return 0;
    // Which half cannot be predicted: a choice, not a branch.
    for (uint32_t n = high - low; n > 1;) {
        const uint32_t half = n / 2;
        low = t->bytes[low + half - 1] < byte ? low + half : low;
        n -= half;
    }
    return t->bytes[low] == byte ? low : 0;
}
#endif
