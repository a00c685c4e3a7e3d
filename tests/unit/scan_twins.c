// The scalar, AVX2 and AVX-512 twins of infc_scan.h on random kinds and random bytes, with an unreadable page before and after the text.
// Usage: scan_twins FEATURES ROUNDS (FEATURES: INFC_CPU_* bits). Exit 0: equal everywhere; 1: not; a read too far ends the process.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "infc_program.h"
#include "infc_scan.h"

static uint64_t state = 88172645463325252u;

static uint32_t rnd(uint32_t n) {  // xorshift64
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % n);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const int features = atoi(argv[1]), rounds = atoi(argv[2]);
    enum { PAGE = 4096, HEAD = 64 + 256, N_PAIRS = 2 };
    uint8_t *pages = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE)) return 2;
    static uint8_t table[HEAD + 3 * 256 + 128 + N_PAIRS * N_PAIRS];
    infc_scan s;
    for (int round = 0; round < rounds; round++) {
        memset(table, 0, sizeof table);
        table[0] = N_PAIRS;
        uint8_t *member = table + HEAD, *nibbles = table + HEAD + 3 * 256;
        const uint32_t dense = rnd(40) + 1;  // one byte in so many is of no kind: runs of every length
        for (int b = 0; b < 128; b++)
            for (int k = 0; k < INFC_SCAN_KINDS; k++)
                if (rnd(dense)) {
                    member[b] |= (uint8_t)(1 << k);
                    nibbles[k * 16 + (b & 15)] |= (uint8_t)(1 << (b >> 4));
                }
        if (infc_scan_open(&s, table, sizeof table)) return 1;
        for (int i = 0; i < 400; i++) {
            const size_t size = rnd(i & 1 ? 80 : 300);
            uint8_t *text = pages + PAGE + (i & 2 ? 0 : i & 4 ? PAGE - size : rnd((uint32_t)(PAGE - size)));
            const uint32_t high = rnd(200) + 1;
            for (size_t j = 0; j < size; j++) text[j] = (uint8_t)(rnd(high) ? rnd(128) : rnd(256));
            for (uint32_t k = 0; k < INFC_SCAN_KINDS; k++) {
                const size_t at = rnd((uint32_t)size + 1), expected = infc_scan_run(INFC_SCAN_SCALAR, &s, k, text, at, size);
                int wrong = 0;
#if INFC_SCAN_WIDE
                if (features & INFC_CPU_AVX2) wrong |= infc_scan_run(INFC_SCAN_AVX2, &s, k, text, at, size) != expected;
                if (features & INFC_CPU_AVX512) wrong |= infc_scan_run(INFC_SCAN_AVX512, &s, k, text, at, size) != expected;
#endif
                if (wrong) {
                    printf("size %zu, from %zu, kind %u: expected %zu\n", size, at, k, expected);
                    return 1;
                }
            }
        }
    }
    return 0;
}
