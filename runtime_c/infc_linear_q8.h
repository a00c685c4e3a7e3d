// infc_linear_q8.h: the loops of a block-quantized format with q8 activations. Included once per format by quant/F.h, which defines
// INFC_FORMAT and, with F for its name:
//   F_BLOCK_BYTES     16 rows x 32 k in the r16 layout          F_SCALES     offset of 16 f16 scales d (and, F_HAS_MIN, 16 minima m)
//   F_SIGNED          weights are int8, else unsigned           F_FOLD       groups of 4 k between two folds of a vdot (8 or 4)
//   F_ZERO            zero point: the weight is (q - F_ZERO) * d
//   v64b F_group(block, g)       16 rows x k = 4g..4g+3, g = 0..7
//   int F_value(block, row, k)   one q
// One f32 accumulator per output element, blocks ascending: acc = fma((float)(sum q x - F_ZERO s), dw dx, acc); with a minimum then
// acc = fma(mw, ds, acc). Nothing here may change that.
// No include guard: this is a template.

enum { INFC_F(UNPACKED_BYTES) = 512 + 64 + INFC_F(HAS_MIN) * 64 };  // 8 groups, then d and m as f32

// sum[p * MT + m] = sum over the block's 32 k of w x, for NP panels at w, w + stride and MT rows at x, x + ldx; NP * MT <= 8
INFC_INLINE void INFC_F(dot)(const uint8_t *w, size_t stride, int unpacked, const int8_t *x, const int32_t *s, size_t ldx, size_t lds,
                             int NP, int MT, v16i *sum)
{
    const int zero = INFC_F(ZERO) + (INFC_F(SIGNED) ? INFC_S8_BIAS : 0);
    INFC_UNROLL for (int i = 0; i < NP; i++) {
        INFC_UNROLL for (int m = 0; m < MT; m++) sum[i * MT + m] = v16i_set1(zero ? -zero * s[m * lds] : 0);
    }
    if (INFC_F(SIGNED)) {
        INFC_UNROLL for (int g = 0; g < 8; g++) {
            INFC_UNROLL for (int i = 0; i < NP; i++) {
                const uint8_t *b = w + i * stride;
                const v64b v = unpacked ? v64b_load(b + 64 * g) : v64b_s8(INFC_F(group)(b, g));
                INFC_UNROLL for (int m = 0; m < MT; m++) sum[i * MT + m] = vdot_step_s8(sum[i * MT + m], v, x + m * ldx + 4 * g);
            }
        }
        return;
    }
    INFC_UNROLL for (int f = 0; f < 8 / INFC_F(FOLD); f++) {
        vdot a[8];
        INFC_UNROLL for (int i = 0; i < NP * MT; i++) a[i] = vdot_zero();
        INFC_UNROLL for (int j = 0; j < INFC_F(FOLD); j++) {
            const int g = f * INFC_F(FOLD) + j;
            INFC_UNROLL for (int i = 0; i < NP; i++) {
                const uint8_t *b = w + i * stride;
                const v64b v = unpacked ? v64b_load(b + 64 * g) : INFC_F(group)(b, g);
                INFC_UNROLL for (int m = 0; m < MT; m++) a[i * MT + m] = vdot_step(a[i * MT + m], v, x + m * ldx + 4 * g);
            }
        }
        INFC_UNROLL for (int i = 0; i < NP; i++) {
            INFC_UNROLL for (int m = 0; m < MT; m++) sum[i * MT + m] = v16i_add(sum[i * MT + m], vdot_fold(a[i * MT + m]));
        }
    }
}

// Blocks b0..b1 of NP panels and rows m0..m0+MT-1, added to y (panel i at y + i * ldy) or, at block 0, to zero.
// w: block b0 of the first panel, the next panel `stride` bytes on; packed as stored, or unpacked by F_unpack: then x is tiled, and the
// MT rows lie in one tile.
INFC_INLINE void INFC_F(tile)(const uint8_t *w, size_t stride, int unpacked, const infc_q8 *x, int K, int b0, int b1, int m0, int NP,
                              int MT, float *y, size_t ldy)
{
    const size_t nb = (size_t)K / 32, block = unpacked ? INFC_F(UNPACKED_BYTES) : INFC_F(BLOCK_BYTES);
    const size_t first = unpacked ? m0 / 16 * 16 * nb + m0 % 16 : m0 * nb, row = unpacked ? 1 : nb, step = unpacked ? 16 : 1;
    const int8_t *q = x->q + 32 * first;
    const float *d = x->d + first, *ds = x->ds + first;
    const int32_t *s = x->s + first;
    v16f acc[8];
    INFC_UNROLL for (int i = 0; i < NP; i++) {
        INFC_UNROLL for (int m = 0; m < MT; m++) acc[i * MT + m] = b0 ? v16f_load(y + i * ldy + 16 * (m0 + m)) : v16f_zero();
    }
    for (int b = b0; b < b1; b++, w += block) {
        v16i sum[8];
        if (!unpacked && m0 == 0) {  // later tiles find the panel in cache
            for (size_t line = 0; line < block; line += 64) infc_prefetch_weights(w + INFC_PREFETCH_BYTES + line);
        }
        INFC_F(dot)(w, stride, unpacked, q + 32 * step * b, s + step * b, 32 * row, row, NP, MT, sum);
        INFC_UNROLL for (int i = 0; i < NP; i++) {
            const uint8_t *sc = w + i * stride + (unpacked ? 512 : INFC_F(SCALES));
            const v16f dw = unpacked ? v16f_load((const float *)(const void *)sc) : v16f_from_f16(sc);
            v16f mw = dw;
            if (INFC_F(HAS_MIN)) mw = unpacked ? v16f_load((const float *)(const void *)(sc + 64)) : v16f_from_f16(sc + 32);
            INFC_UNROLL for (int m = 0; m < MT; m++) {
                v16f *a = acc + i * MT + m;
                *a = v16f_fma(v16f_from_i32(sum[i * MT + m]), v16f_mul(dw, v16f_set1(d[row * m + step * b])), *a);
                if (INFC_F(HAS_MIN)) *a = v16f_fma(mw, v16f_set1(ds[row * m + step * b]), *a);
            }
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

// n_panels * K / 32 * F_BLOCK_BYTES read; 16 * n_panels * K MACs
INFC_INLINE void INFC_LINEAR(_q8_gemv)(const uint8_t *w, int n_panels, int K, const infc_q8 *x, float *y)
{
    const size_t panel = (size_t)K / 32 * INFC_F(BLOCK_BYTES);
    for (int p = 0; p < n_panels; p++) INFC_F(tile)(w + p * panel, 0, 0, x, K, 0, K / 32, 0, 1, 1, y + 16 * (size_t)p, 0);
}

INFC_INLINE void INFC_LINEAR(_q8_small)(const uint8_t *w, int n_panels, int K, const infc_q8 *x, int M, float *y)
{
    const size_t panel = (size_t)K / 32 * INFC_F(BLOCK_BYTES), ldy = 16 * (size_t)M;
    for (int p = 0; p < n_panels; p++) INFC_F(rows)(w + p * panel, 0, 0, x, K, 0, K / 32, M, 1, INFC_SMALL_TILE_ROWS, y + p * ldy, ldy);
}

// n blocks as stored -> groups as the dot product wants them, and f32 scales
INFC_INLINE void INFC_F(unpack)(const uint8_t *w, int n, uint8_t *out)
{
    for (int b = 0; b < n; b++, w += INFC_F(BLOCK_BYTES), out += INFC_F(UNPACKED_BYTES)) {
        INFC_UNROLL for (int g = 0; g < 8; g++) {
            const v64b v = INFC_F(group)(w, g);
            v64b_store(out + 64 * g, INFC_F(SIGNED) ? v64b_s8(v) : v);
        }
        v16f_store((float *)(void *)(out + 512), v16f_from_f16(w + INFC_F(SCALES)));
        if (INFC_F(HAS_MIN)) v16f_store((float *)(void *)(out + 576), v16f_from_f16(w + INFC_F(SCALES) + 32));
    }
}

INFC_INLINE void INFC_F(gemm_panels)(const uint8_t *w, int K, const infc_q8 *x, int M, int NP, float *y, uint8_t *scratch)
{
    // Chunks of nearly equal length that fit the scratch; y holds the accumulators from one chunk to the next.
    const int nb = K / 32, most = INFC_GEMM_CHUNK_BYTES / INFC_F(UNPACKED_BYTES) / NP, chunks = (nb + most - 1) / most;
    const size_t panel = (size_t)nb * INFC_F(BLOCK_BYTES);
    for (int c = 0; c < chunks; c++) {
        const int b0 = nb * c / chunks, b1 = nb * (c + 1) / chunks;
        const size_t stride = (size_t)(b1 - b0) * INFC_F(UNPACKED_BYTES);
        for (int i = 0; i < NP; i++) INFC_F(unpack)(w + i * panel + (size_t)b0 * INFC_F(BLOCK_BYTES), b1 - b0, scratch + i * stride);
        INFC_F(rows)(scratch, stride, 1, x, K, b0, b1, M, NP, INFC_TILE_ROWS, y, 16 * (size_t)M);
    }
}

INFC_INLINE void INFC_LINEAR(_q8_gemm)(const uint8_t *w, int n_panels, int K, const infc_q8 *x, int M, float *y, void *scratch)
{
    const size_t panel = (size_t)K / 32 * INFC_F(BLOCK_BYTES), ldy = 16 * (size_t)M;
    int p = 0;
    for (; p + INFC_GEMM_PANELS <= n_panels; p += INFC_GEMM_PANELS)
        INFC_F(gemm_panels)(w + p * panel, K, x, M, INFC_GEMM_PANELS, y + p * ldy, (uint8_t *)scratch);
    if (INFC_GEMM_PANELS > 1)
        for (; p < n_panels; p++) INFC_F(gemm_panels)(w + p * panel, K, x, M, 1, y + p * ldy, (uint8_t *)scratch);
}

#if defined(INFC_ISA_AMX)
#include "infc_linear_tiles.h"
#endif

// out: (K) floats, exact: (q - F_ZERO) * d, plus m by fma
INFC_INLINE void INFC_EMBED(const uint8_t *w, int K, int token, float *out)
{
    const int row = token % 16;
    const uint8_t *b = w + (size_t)(token / 16) * (K / 32) * INFC_F(BLOCK_BYTES);
    for (int i = 0; i < K / 32; i++, b += INFC_F(BLOCK_BYTES)) {
        const uint8_t *sc = b + INFC_F(SCALES) + 2 * row;
        const float d = infc_load_f16(sc);
        for (int k = 0; k < 32; k++) {
            const float q = (float)(INFC_F(value)(b, row, k) - INFC_F(ZERO));
            out[32 * i + k] = INFC_F(HAS_MIN) ? fmaf(q, d, infc_load_f16(sc + 32 * INFC_F(HAS_MIN))) : q * d;
        }
    }
}

#undef INFC_FORMAT
