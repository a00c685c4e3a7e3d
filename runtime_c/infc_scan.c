// infc_scan.c: opens the table of infc_scan.h.
#include "infc_scan.h"

#include "infc.h"

enum { HEAD = 64, BYTES = 256, NIBBLES = 16 };

int infc_scan_open(infc_scan *s, const uint8_t *table, size_t size) {
    const size_t fixed = HEAD + 4 * BYTES + INFC_SCAN_KINDS * NIBBLES;
    if (size < fixed) return INFC_EFILE;
    const uint32_t n = table[0];
    if (n == 0 || size != fixed + (size_t)n * n) return INFC_EFILE;
    s->pair_class = table + HEAD;
    s->member = s->pair_class + BYTES;
    s->ends = s->member + BYTES;
    s->ends_one_back = s->ends + BYTES;
    s->nibbles = s->ends_one_back + BYTES;
    s->pairs = s->nibbles + INFC_SCAN_KINDS * NIBBLES;
    s->n_pairs = n;
    for (int b = 0; b < BYTES; b++)
        if (s->pair_class[b] >= n) return INFC_EFILE;
    uint32_t one_before = 0;  // kinds that some pair enters after one byte
    for (size_t i = 0; i < (size_t)n * n; i++) {
        const uint32_t kind = s->pairs[i] >> 2, before = s->pairs[i] & 3;
        if (s->pairs[i] && (kind >= INFC_SCAN_KINDS || before == 0 || before > 2)) return INFC_EFILE;
        if (s->pairs[i] && before == 1) one_before |= 1u << kind;
    }
    // A word has at least one byte, or the walk would not move on.
    for (int b = 0; b < BYTES; b++) {
        if (s->ends_one_back[b] & one_before) return INFC_EFILE;
        // The twins must agree: one reads the bytes, the others the nibbles.
        for (uint32_t k = 0; k < INFC_SCAN_KINDS; k++) {
            const uint32_t by_nibbles = b < 128 ? s->nibbles[k * NIBBLES + (b & 15)] >> (b >> 4) & 1u : 0;
            if (by_nibbles != (s->member[b] >> k & 1u)) return INFC_EFILE;
        }
    }
    return 0;
}
