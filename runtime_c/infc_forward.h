// infc_forward.h: what every emitted forward pass shares: the state of one thread in one chunk, and its partition of the work.
#ifndef INFC_FORWARD_H
#define INFC_FORWARD_H
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "infc_attention.h"
#include "infc_epilogue.h"
#include "infc_experts.h"
#include "infc_linear.h"
#include "infc_norm.h"
#include "infc_profile.h"
#include "infc_program.h"
#include "infc_quantize.h"
#include "infc_threads.h"

// First of `units` work items of thread t of T: static, contiguous, sizes differ by at most one.
static inline int infc_share(int units, int t, int T) { return (int)((int64_t)units * t / T); }

// How many work items of one kv head's q, k and v are done in this chunk, over all layers: attention on that head waits for
// its own inputs only, which saves a barrier a layer. One cache line each.
typedef struct infc_ready {
    _Atomic uint32_t done;
    uint8_t pad[60];
} infc_ready;

static inline void infc_signal(infc_ready *r) { atomic_fetch_add_explicit(&r->done, 1, memory_order_release); }

// Waits until `target` items are done. The waiting thread has finished its own, so somebody else is running or wants to.
static inline void infc_await(infc_ready *r, uint32_t target)
{
    for (int spins = 1; atomic_load_explicit(&r->done, memory_order_acquire) < target; spins++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        if (spins % 256 == 0) sched_yield();  // more threads than cores: let the worker run
    }
}

// The chunk's row that is the i-th of those kept; NULL: all are.
static inline int infc_kept(const int32_t *kept, int i) { return kept != NULL ? kept[i] : i; }

// How many of n rows kept, from the i-th on and at most `most`, lie one after the other and are consecutive positions of one sequence.
static inline int infc_consecutive(const infc_batch *b, const int32_t *kept, int n, int i, int most)
{
    const int m = infc_kept(kept, i);
    int rows = 1;
    while (rows < most && i + rows < n && infc_kept(kept, i + rows) == m + rows && b->pages[m + rows] == b->pages[m] && b->pos[m + rows] == b->pos[m] + rows)
        rows++;
    return rows;
}

// Columns first..end-1 of the n rows kept of all: (., width) become those of rows 0.. of out, which may be `all`: kept ascends.
static inline void infc_gather_rows(const float *all, const int32_t *kept, int n, int width, int first, int end, float *out)
{
    for (int i = 0; i < n; i++) {
        const float *from = all + (size_t)kept[i] * width;
        float *to = out + (size_t)i * width;
        if (to != from) memcpy(to + first, from + first, (size_t)(end - first) * sizeof *to);
    }
}

// Rows of a block of attention when `items` pairs of a row and a kv head are to keep T threads busy: a power of 4 or what fills tiles.
static inline int infc_block_rows(int items, int T, int most)
{
    const int even = T == 1 ? most : items / (2 * T), n = even >= 32 ? 32 : even >= 16 ? 16 : even >= 4 ? 4 : 1;
    return n < most ? n : most;
}

// The thread whose turn block u is: 0 1 2 2 1 0 0 1 2 ..., since the blocks of a prompt grow longer one by one.
static inline int infc_turn(int u, int T)
{
    const int r = u % (2 * T);
    return r < T ? r : 2 * T - 1 - r;
}

// A q8 value of `rows` x `width` in one buffer: int8, then d, s and ds, each (rows, width / 32). Tiled: rows is a multiple of 16.
static inline infc_q8 infc_q8_view(uint8_t *base, size_t rows, size_t width, int tiled)
{
    const size_t blocks = rows * (width / 32);
    uint8_t *d = base + rows * width;
    return (infc_q8){(int8_t *)base, (float *)d, (int16_t *)(d + 4 * blocks), (float *)(d + 8 * blocks), tiled};
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

// x: (n), n a multiple of 16; x *= factor
static inline void infc_scale_row(float *x, int n, float factor)
{
    for (int i = 0; i < n; i += 16) v16f_store(x + i, v16f_mul(v16f_load(x + i), v16f_set1(factor)));
}

// x += y
static inline void infc_add_row(float *x, const float *y, int n)
{
    for (int i = 0; i < n; i += 16) v16f_store(x + i, v16f_add(v16f_load(x + i), v16f_load(y + i)));
}
#endif
