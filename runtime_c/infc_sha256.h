// infc_sha256.h: SHA-256 (FIPS 180-4).
#ifndef INFC_SHA256_H
#define INFC_SHA256_H
#include <stddef.h>
#include <stdint.h>

typedef struct infc_sha256 {
    uint32_t h[8];
    uint64_t bytes;        // taken so far
    uint8_t block[64];     // the last bytes % 64 of them
} infc_sha256;

void infc_sha256_start(infc_sha256 *s);
void infc_sha256_add(infc_sha256 *s, const void *data, size_t n);
void infc_sha256_finish(infc_sha256 *s, uint8_t digest[32]);

#endif
