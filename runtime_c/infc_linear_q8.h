// infc_linear_q8.h: the loops of a block-quantized format with q8 activations. Included once per format by quant/F.h, which defines
// INFC_FORMAT and, with F for its name:
//   F_SUPER           blocks of 32 k whose scales lie together: 1, or 8 where the file's block has 256 k
//   F_QUANT_BYTES     quants of 16 rows x 32 k in the r16 layout     F_SCALE_BYTES   scales of 16 rows x F_SUPER blocks: after a single block's
//                     quants, before those of several: a kernel that began with what lies 2 KB ahead would wait for it
//   F_HALVES          1, or 2 where a scale is that of 16 k          F_HAS_MIN       whether there is a minimum
//   F_SIGNED          weights are int8, else unsigned                F_FOLD          groups of 4 k between two folds of a vdot
//   F_ZERO            zero point: the weight is (q - F_ZERO) * d
//   v64b F_group(block, g)       16 rows x k = 4g..4g+3, g = 0..7
//   v16f F_scale(scales, b, h)   d of 16 rows: of half h of block b of those that lie together; exact in f32 (a zero of any sign)
//   v16f F_min(scales, b, h)     what is added to them, the same (only with F_HAS_MIN)
// and, where they apply, the macros
//   INFC_PAIRS                   F_group is pairs_group of quant/pairs.h
//   INFC_SCALE_OF_ROW, INFC_MIN_OF_ROW   F_scale and F_min with the sign of every zero, which a row of the embedding has
// One f32 accumulator per output element, scales ascending: acc = fma((float)(sum q x - F_ZERO s), dw dx, acc); with a minimum then
// acc = fma(mw, ds, acc). The sums run over the 32 or 16 k of a scale. Nothing here may change that.
// No include guard: this is a template.

enum {
    INFC_F(GROUPS) = 8 / INFC_F(HALVES),
    INFC_F(SUPER_BYTES) = INFC_F(SUPER) * INFC_F(QUANT_BYTES) + INFC_F(SCALE_BYTES),
    INFC_F(HEAD_BYTES) = INFC_F(SUPER) > 1 ? INFC_F(SCALE_BYTES) : 0,  // of a super-block before its quants
    INFC_F(BLOCK_BYTES) = INFC_F(SUPER_BYTES) / INFC_F(SUPER),  // a block's share of its super-block
    // Unpacked, a scale's groups are followed by d and m as f32
    INFC_F(PART_BYTES) = 64 * INFC_F(GROUPS) + 64 + 64 * INFC_F(HAS_MIN),
    INFC_F(UNPACKED_BYTES) = INFC_F(HALVES) * INFC_F(PART_BYTES)
};

INFC_INLINE size_t INFC_F(panel_bytes)(int K) { return (size_t)(K / 32 / INFC_F(SUPER)) * INFC_F(SUPER_BYTES); }
// Block b of a panel, and the scales of the blocks it lies with
INFC_INLINE const uint8_t *INFC_F(block)(const uint8_t *panel, int b)
{
    return panel + (size_t)((unsigned)b / INFC_F(SUPER)) * INFC_F(SUPER_BYTES) + INFC_F(HEAD_BYTES) +
           (size_t)((unsigned)b % INFC_F(SUPER)) * INFC_F(QUANT_BYTES);
}
INFC_INLINE const uint8_t *INFC_F(scales)(const uint8_t *panel, int b)
{
    return panel + (size_t)((unsigned)b / INFC_F(SUPER)) * INFC_F(SUPER_BYTES) + (INFC_F(SUPER) > 1 ? 0 : INFC_F(QUANT_BYTES));
}
INFC_INLINE int INFC_F(place)(int b) { return (int)((unsigned)b % INFC_F(SUPER)); }  // of block b among those

// The sum of q over the k of scale h of a block
INFC_INLINE int INFC_F(sum)(const int16_t *s, int h) { return INFC_F(HALVES) == 1 ? s[0] : h ? s[0] - s[1] : s[1]; }

// sum[p * MT + m] = sum over the k of scale h of a block of w x, for NP panels at w, w + stride and MT rows at x, x + ldx; NP * MT <= 8
INFC_INLINE void INFC_F(dot)(const uint8_t *w, size_t stride, int unpacked, int h, const int8_t *x, const int16_t *s, size_t ldx,
                             size_t lds, int NP, int MT, v16i *sum)
{
    const int zero = INFC_F(ZERO) + (INFC_F(SIGNED) ? INFC_S8_BIAS : 0), first = unpacked ? 0 : h * INFC_F(GROUPS);
    x += 4 * h * INFC_F(GROUPS);
    if (unpacked) w += h * INFC_F(PART_BYTES);
    INFC_UNROLL for (int i = 0; i < NP; i++) {
        INFC_UNROLL for (int m = 0; m < MT; m++) sum[i * MT + m] = v16i_set1(zero ? -zero * INFC_F(sum)(s + 2 * m * lds, h) : 0);
    }
#if defined(INFC_PAIRS) && defined(INFC_VDOT_WIDE)
    if (!unpacked) {
        // Pairs of bits stay where they are in their bytes. The highest come first, and before those below join them the sums, too large by
        // what the place is worth, are divided exactly.
        const int low = h * INFC_F(GROUPS) / 2, high = low + INFC_F(GROUPS) / 2 - 1;
        INFC_UNROLL for (int i = 0; i < NP; i++) {
            INFC_UNROLL for (int m = 0; m < MT; m++) {
                const v16i start = v16i_set1(zero ? -zero * INFC_F(sum)(s + 2 * m * lds, h) * (1 << 2 * high) : 0);
                sum[i * MT + m] = start;
            }
        }
        INFC_UNROLL for (int f = high; f >= low; f--) {
            INFC_UNROLL for (int v = 0; v < 2; v++) {
                INFC_UNROLL for (int i = 0; i < NP; i++) {
                    const v64b q = v64b_bits(v64b_load(w + i * stride + 64 * v), 2 * f, 2, 2 * f);
                    INFC_UNROLL for (int m = 0; m < MT; m++) {
                        const int8_t *at = x + m * ldx + 4 * (2 * (f - low) + v);
                        sum[i * MT + m] = vdot_fold(vdot_step(vdot_begin(sum + i * MT + m), q, at));
                    }
                }
            }
            INFC_UNROLL for (int i = 0; i < NP * MT; i++) sum[i] = v16i_divide(sum[i], f > low ? 2 : 2 * low);
        }
        return;
    }
#endif
    if (INFC_F(SIGNED)) {
        INFC_UNROLL for (int g = 0; g < INFC_F(GROUPS); g++) {
            INFC_UNROLL for (int i = 0; i < NP; i++) {
                const uint8_t *b = w + i * stride;
                const v64b v = unpacked ? v64b_load(b + 64 * g) : v64b_s8(INFC_F(group)(b, first + g));
                INFC_UNROLL for (int m = 0; m < MT; m++) sum[i * MT + m] = vdot_step_s8(sum[i * MT + m], v, x + m * ldx + 4 * g);
            }
        }
        return;
    }
    INFC_UNROLL for (int f = 0; f < INFC_F(GROUPS) / INFC_F(FOLD); f++) {
        vdot a[8];
        INFC_UNROLL for (int i = 0; i < NP * MT; i++) a[i] = f == 0 ? vdot_begin(sum + i) : vdot_zero();
        INFC_UNROLL for (int j = 0; j < INFC_F(FOLD); j++) {
            const int g = f * INFC_F(FOLD) + j;
            INFC_UNROLL for (int i = 0; i < NP; i++) {
                const uint8_t *b = w + i * stride;
                const v64b v = unpacked ? v64b_load(b + 64 * g) : INFC_F(group)(b, first + g);
                INFC_UNROLL for (int m = 0; m < MT; m++) a[i * MT + m] = vdot_step(a[i * MT + m], v, x + m * ldx + 4 * g);
            }
        }
        INFC_UNROLL for (int i = 0; i < NP; i++) {
            INFC_UNROLL for (int m = 0; m < MT; m++) sum[i * MT + m] = v16i_add(sum[i * MT + m], vdot_fold(a[i * MT + m]));
        }
    }
}

// Brings a block's share of the panels at p, p + stride .. closer. `drops`: this CPU drops prefetches
INFC_INLINE void INFC_F(fetch)(const uint8_t *p, size_t stride, int drops, int thrice, int NP)
{
    INFC_UNROLL for (int i = 0; i < NP; i++) {
        INFC_UNROLL for (int line = 0; line < (INFC_F(BLOCK_BYTES) + 63) / 64; line++) {
            const uint8_t *q = p + i * stride + 64 * line;
            if (!drops) infc_prefetch_weights(q + INFC_PREFETCH_BYTES);
            if (drops && thrice) infc_prefetch_thrice(q);
            if (drops && !thrice) infc_prefetch_l2(q + 8192);
        }
    }
}

// Blocks b0..b1 of NP panels and rows m0..m0+MT-1, added to y (panel i at y + i * ldy) or, at block 0, to zero.
// w: the first panel as stored (then b0 is 0), the next one `stride` bytes on; or its blocks from b0 on, unpacked by F_unpack: then x is
// tiled, and the MT rows lie in one tile.
INFC_INLINE void INFC_F(tile)(const uint8_t *w, size_t stride, int unpacked, const infc_q8 *x, int K, int b0, int b1, int m0, int NP,
                              int MT, float *y, size_t ldy)
{
    const size_t nb = (size_t)K / 32;
    const size_t first = unpacked ? m0 / 16 * 16 * nb + m0 % 16 : m0 * nb, row = unpacked ? 1 : nb, step = unpacked ? 16 : 1;
    const int8_t *q = x->q + 32 * first;
    const float *d = x->d + first, *ds = x->ds + first;
    const int16_t *s = x->s + 2 * first;
    v16f acc[8];
    INFC_UNROLL for (int i = 0; i < NP; i++) {
        INFC_UNROLL for (int m = 0; m < MT; m++) acc[i * MT + m] = b0 ? v16f_load(y + i * ldy + 16 * (m0 + m)) : v16f_zero();
    }
    // Later tiles find the panel in cache. Full ones multiply longer than memory takes, so that one prefetch in three is enough. Weights that
    // need no unpacking are asked for fast enough without.
    const int drops = infc_drops_prefetches(), thrice = MT < INFC_SMALL_TILE_ROWS, bytes = INFC_F(QUANT_BYTES) == 512;
    const int prefetch = !unpacked && m0 == 0 && !(drops && bytes && MT < 3);
    // A single block's scales, on its last line, are read last, as the CPU's own prefetcher wants it (not mxfp4's few: slower with prefetches).
    const int last = !unpacked && INFC_F(SUPER) == 1 && MT == 1 && INFC_F(SCALE_BYTES) >= 32;
    const int run = unpacked ? 1 : INFC_F(SUPER);
    const uint8_t *block = w, *ahead = w;
    for (int b = b0; b < b1; b += run) {
        const uint8_t *scales = unpacked || INFC_F(SUPER) > 1 ? block : block + INFC_F(QUANT_BYTES);
        float half[8][16];  // what a minimum multiplies where scales are of 16 k
        if (!unpacked) {
            block += INFC_F(HEAD_BYTES);
            if (INFC_F(HAS_MIN) && INFC_F(HALVES) == 2) {
                INFC_UNROLL for (int m = 0; m < MT; m++) infc_half_terms(d + row * m + b, s + 2 * (row * m + b), half[m]);
            }
        }
        for (int j = 0; j < run; j++) {
            const size_t at = step * (size_t)(b + j);
            if (prefetch) INFC_F(fetch)(ahead, stride, drops, thrice, NP);
            INFC_UNROLL for (int h = 0; h < INFC_F(HALVES); h++) {
                v16i sum[8];
                INFC_F(dot)(block, stride, unpacked, h, q + 32 * at, s + 2 * at, 32 * row, row, NP, MT, sum);
                INFC_UNROLL for (int i = 0; i < NP; i++) {
                    const uint8_t *sc = unpacked ? block + i * stride + h * INFC_F(PART_BYTES) + 64 * INFC_F(GROUPS) : scales + i * stride;
                    if (last) sc = infc_after(sc, sum[i]);
                    const v16f dw = unpacked ? v16f_load((const float *)(const void *)sc) : INFC_F(scale)(sc, j, h);
                    v16f mw = dw;
                    if (INFC_F(HAS_MIN)) mw = unpacked ? v16f_load((const float *)(const void *)(sc + 64)) : INFC_F(min)(sc, j, h);
                    INFC_UNROLL for (int m = 0; m < MT; m++) {
                        const size_t r = row * m + at;
                        v16f *a = acc + i * MT + m;
                        *a = v16f_fma(v16f_from_i32(sum[i * MT + m]), v16f_mul(dw, v16f_set1(d[r])), *a);
                        if (INFC_F(HAS_MIN) && INFC_F(HALVES) == 1) *a = v16f_fma(mw, v16f_set1(ds[r]), *a);
                        if (INFC_F(HAS_MIN) && INFC_F(HALVES) == 2)
                            *a = v16f_fma(mw, v16f_set1(unpacked ? d[r] * (float)INFC_F(sum)(s + 2 * r, h) : half[m][2 * j + h]), *a);
                    }
                }
            }
            block += unpacked ? INFC_F(UNPACKED_BYTES) : INFC_F(SUPER) > 1 ? INFC_F(QUANT_BYTES) : INFC_F(SUPER_BYTES);
            ahead += INFC_F(BLOCK_BYTES);
        }
    }
    INFC_UNROLL for (int i = 0; i < NP; i++) {
        INFC_UNROLL for (int m = 0; m < MT; m++) v16f_store(y + i * ldy + 16 * (m0 + m), acc[i * MT + m]);
    }
}

// Rows in tiles of `most` (INFC_TILE_ROWS or, one panel as stored, INFC_SMALL_TILE_ROWS); the last tile takes what is left.
INFC_INLINE void INFC_F(rows)(const uint8_t *w, size_t stride, int unpacked, const infc_q8 *x, int K, int b0, int b1, int M, int NP,
                              int most, float *y, size_t ldy)
{
    int m = 0;
    for (; m + most <= M; m += most) INFC_F(tile)(w, stride, unpacked, x, K, b0, b1, m, NP, most, y, ldy);
#define INFC_REST(n)                                                                          \
    case n:                                                                                   \
        if (n < most) INFC_F(tile)(w, stride, unpacked, x, K, b0, b1, m, NP, n, y, ldy);       \
        break;
    switch (M - m) {
        INFC_REST(7)
        INFC_REST(6)
        INFC_REST(5)
        INFC_REST(4)
        INFC_REST(3)
        INFC_REST(2)
        INFC_REST(1)
    default: break;
    }
#undef INFC_REST
}

// n_panels * panel bytes read; 16 * n_panels * K MACs
INFC_INLINE void INFC_LINEAR(_q8_gemv)(const uint8_t *w, int n_panels, int K, const infc_q8 *x, float *y)
{
    const size_t panel = INFC_F(panel_bytes)(K);
    for (int p = 0; p < n_panels; p++) INFC_F(tile)(w + p * panel, 0, 0, x, K, 0, K / 32, 0, 1, 1, y + 16 * (size_t)p, 0);
}

INFC_INLINE void INFC_LINEAR(_q8_small)(const uint8_t *w, int n_panels, int K, const infc_q8 *x, int M, float *y)
{
    const size_t panel = INFC_F(panel_bytes)(K), ldy = 16 * (size_t)M;
    for (int p = 0; p < n_panels; p++) INFC_F(rows)(w + p * panel, 0, 0, x, K, 0, K / 32, M, 1, INFC_SMALL_TILE_ROWS, y + p * ldy, ldy);
}

// Blocks b0..b1 of a panel -> groups, as the dot product wants them or (tiles) as int8 with the zero point taken off, and f32 scales
INFC_INLINE void INFC_F(unpack)(const uint8_t *panel, int b0, int b1, int tiles, uint8_t *out)
{
    for (int b = b0; b < b1; b++) {
        const uint8_t *block = INFC_F(block)(panel, b), *scales = INFC_F(scales)(panel, b);
        INFC_UNROLL for (int h = 0; h < INFC_F(HALVES); h++, out += INFC_F(PART_BYTES)) {
            INFC_UNROLL for (int g = 0; g < INFC_F(GROUPS); g++) {
                const v64b v = INFC_F(group)(block, h * INFC_F(GROUPS) + g);
                v64b_store(out + 64 * g, tiles ? v64b_sub(v, INFC_F(ZERO)) : INFC_F(SIGNED) ? v64b_s8(v) : v);
            }
            float *f = (float *)(void *)(out + 64 * INFC_F(GROUPS));
            v16f_store(f, INFC_F(scale)(scales, INFC_F(place)(b), h));
            if (INFC_F(HAS_MIN)) v16f_store(f + 16, INFC_F(min)(scales, INFC_F(place)(b), h));
        }
    }
}

INFC_INLINE void INFC_F(gemm_panels)(const uint8_t *w, int K, const infc_q8 *x, int M, int NP, float *y, uint8_t *scratch)
{
    // Chunks of nearly equal length that fit the scratch; y holds the accumulators from one chunk to the next.
    const int nb = K / 32, most = INFC_GEMM_CHUNK_BYTES / INFC_F(UNPACKED_BYTES) / NP, chunks = (nb + most - 1) / most;
    const size_t panel = INFC_F(panel_bytes)(K);
    for (int c = 0; c < chunks; c++) {
        const int b0 = nb * c / chunks, b1 = nb * (c + 1) / chunks;
        const size_t stride = (size_t)(b1 - b0) * INFC_F(UNPACKED_BYTES);
        for (int i = 0; i < NP; i++) INFC_F(unpack)(w + i * panel, b0, b1, 0, scratch + i * stride);
        INFC_F(rows)(scratch, stride, 1, x, K, b0, b1, M, NP, INFC_TILE_ROWS, y, 16 * (size_t)M);
    }
}

INFC_INLINE void INFC_LINEAR(_q8_gemm)(const uint8_t *w, int n_panels, int K, const infc_q8 *x, int M, float *y, void *scratch)
{
    const size_t panel = INFC_F(panel_bytes)(K), ldy = 16 * (size_t)M;
    int p = 0;
    for (; p + INFC_GEMM_PANELS <= n_panels; p += INFC_GEMM_PANELS)
        INFC_F(gemm_panels)(w + p * panel, K, x, M, INFC_GEMM_PANELS, y + p * ldy, (uint8_t *)scratch);
    if (INFC_GEMM_PANELS > 1)
        for (; p < n_panels; p++) INFC_F(gemm_panels)(w + p * panel, K, x, M, 1, y + p * ldy, (uint8_t *)scratch);
}

#if defined(INFC_ISA_AMX)
#include "infc_linear_tiles.h"
#endif

#if !defined(INFC_SCALE_OF_ROW)
#define INFC_SCALE_OF_ROW INFC_F(scale)
#define INFC_MIN_OF_ROW INFC_F(min)
#endif

// out: (K) floats: (q - F_ZERO) * d, exact, plus m by fma. Unpacks sixteen rows for one, with the instructions that the products use.
INFC_INLINE void INFC_EMBED(const uint8_t *w, int K, int token, float *out)
{
    const int row = token % 16;
    const uint8_t *panel = w + (size_t)(token / 16) * INFC_F(panel_bytes)(K);
    for (int part = 0; part < K / 32 * INFC_F(HALVES); part++) {
        const int b = part / INFC_F(HALVES), h = part % INFC_F(HALVES);
        const uint8_t *block = INFC_F(block)(panel, b), *scales = INFC_F(scales)(panel, b);
        float d[16], m[16] = {0};
        v16f_store(d, INFC_SCALE_OF_ROW(scales, INFC_F(place)(b), h));
        if (INFC_F(HAS_MIN)) v16f_store(m, INFC_MIN_OF_ROW(scales, INFC_F(place)(b), h));
        for (int g = 0; g < INFC_F(GROUPS); g++) {
            uint8_t v[64];
            v64b_store(v, INFC_F(group)(block, h * INFC_F(GROUPS) + g));
            for (int k = 4 * row; k < 4 * row + 4; k++) {
                const float q = (float)((INFC_F(SIGNED) ? (int8_t)v[k] : v[k]) - INFC_F(ZERO));
                *out++ = INFC_F(HAS_MIN) ? fmaf(q, d[row], m[row]) : q * d[row];
            }
        }
    }
}

#undef INFC_FORMAT
#undef INFC_PAIRS
#undef INFC_SCALE_OF_ROW
#undef INFC_MIN_OF_ROW
