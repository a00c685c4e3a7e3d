// infc_forward.h: what every emitted forward pass shares: the state of one thread in one chunk, and its partition of the work.
#ifndef INFC_FORWARD_H
#define INFC_FORWARD_H
#include <stddef.h>
#include <stdint.h>

#include "infc_attention.h"
#include "infc_epilogue.h"
#include "infc_linear.h"
#include "infc_norm.h"
#include "infc_program.h"
#include "infc_quantize.h"
#include "infc_threads.h"

// First of `units` work items of thread t of T: static, contiguous, sizes differ by at most one.
static inline int infc_share(int units, int t, int T) { return (int)((int64_t)units * t / T); }

// A q8 value of `rows` x `width` in one buffer: int8, then d, s and ds, each (rows, width / 32).
static inline infc_q8 infc_q8_view(uint8_t *base, size_t rows, size_t width)
{
    const size_t blocks = rows * (width / 32);
    uint8_t *d = base + rows * width;
    return (infc_q8){(int8_t *)base, (float *)d, (int32_t *)(d + 4 * blocks), (float *)(d + 8 * blocks)};
}

// Cosines and signed sines of one row, spread over the pairs: out is (2, head_dim), table is (rope_dim / 2, 2) of the position.
static inline void infc_rope_row(const float *table, int rope_dim, int head_dim, float *out)
{
    float *c = out, *s = out + head_dim;
    for (int i = 0; i < rope_dim / 2; i++) {
        c[2 * i] = c[2 * i + 1] = table[2 * i];
        s[2 * i] = -table[2 * i + 1];
        s[2 * i + 1] = table[2 * i + 1];
    }
    for (int i = rope_dim; i < head_dim; i++) {
        c[i] = 1.0f;
        s[i] = 0.0f;
    }
}
#endif
