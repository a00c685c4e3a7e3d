// infc_epilogue.h: what happens to a tile that a linear layer wrote: (M, 16) floats of one panel, still in L1.
#ifndef INFC_EPILOGUE_H
#define INFC_EPILOGUE_H
#include "infc_math.h"
#include "infc_quantize.h"

// x: (M, ldx); x[m][n0..n0+15] += tile
INFC_INLINE void epi_residual(const float *tile, int M, float *x, int ldx, int n0)
{
    for (int m = 0; m < M; m++) {
        float *o = x + (size_t)m * ldx + n0;
        v16f_store(o, v16f_add(v16f_load(o), v16f_load(tile + 16 * m)));
    }
}

// out[m][n0..n0+n_valid-1] = tile, where out[m] is not NULL; the last panel of a matrix may be narrower than 16
INFC_INLINE void epi_store(const float *tile, int M, float *const *out, int n0, int n_valid)
{
    for (int m = 0; m < M; m++) {
        if (out[m] == NULL) continue;
        if (n_valid >= 16)
            v16f_store(out[m] + n0, v16f_load(tile + 16 * m));
        else
            memcpy(out[m] + n0, tile + 16 * m, (size_t)n_valid * 4);
    }
}

// The same of a tile of (2 M, 16): rows 2m and 2m + 1 are the two terms of row m
INFC_INLINE void epi_store_sum(const float *tile, int M, float *const *out, int n0, int n_valid)
{
    for (int m = 0; m < M; m++) {
        if (out[m] == NULL) continue;
        float sum[16];
        v16f_store(sum, v16f_add(v16f_load(tile + 32 * m), v16f_load(tile + 32 * m + 16)));
        memcpy(out[m] + n0, sum, (size_t)(n_valid < 16 ? n_valid : 16) * 4);
    }
}

// tile: (panels, M, 16); every row of it + b: (panels * 16)
INFC_INLINE void epi_bias(float *tile, int panels, int M, const float *b)
{
    for (int i = 0; i < panels; i++) {
        const v16f bi = v16f_load(b + 16 * i);
        for (int m = 0; m < M; m++, tile += 16) v16f_store(tile, v16f_add(v16f_load(tile), bi));
    }
}

// tile: (head_dim / 16, M, 16), a whole head: RMSNorm of each row, infc_norm.h's operations. w: (head_dim)
INFC_INLINE void epi_head_norm(float *tile, int M, int head_dim, const float *w, float eps)
{
    const size_t ld = 16 * (size_t)M;
    for (int m = 0; m < M; m++, tile += 16) {
        v16f acc = v16f_zero();
        for (int i = 0; i < head_dim / 16; i++) acc = v16f_fma(v16f_load(tile + i * ld), v16f_load(tile + i * ld), acc);
        const v16f s = v16f_set1(1.0f / sqrtf(v16f_fold_add(acc) / (float)head_dim + eps));
        for (int i = 0; i < head_dim / 16; i++)
            v16f_store(tile + i * ld, v16f_mul(v16f_mul(v16f_load(tile + i * ld), s), v16f_load(w + 16 * i)));
    }
}

// y: (M, ldy); y[m][n0..n0+15] = tile
INFC_INLINE void epi_store_rows(const float *tile, int M, float *y, int ldy, int n0)
{
    for (int m = 0; m < M; m++) v16f_store(y + (size_t)m * ldy + n0, v16f_load(tile + 16 * m));
}

// x: (M, ldx); x[m][n0..n0+15] += tile * scale
INFC_INLINE void epi_residual_scaled(const float *tile, int M, float *x, int ldx, int n0, float scale)
{
    const v16f s = v16f_set1(scale);
    for (int m = 0; m < M; m++) {
        float *o = x + (size_t)m * ldx + n0;
        v16f_store(o, v16f_add(v16f_load(o), v16f_mul(v16f_load(tile + 16 * m), s)));
    }
}

// epi_store (terms 1) or epi_store_sum (terms 2) of a logit that is not done: + bias where that is not NULL, (16) of this panel; times
// scale where that is not 1; then cap * tanh(y * uncap), uncap = 1 / cap, where cap is not 0
INFC_INLINE void epi_logits(const float *tile, int M, int terms, const float *bias, float scale, float cap, float uncap, float *const *out,
                            int n0, int n_valid)
{
    for (int m = 0; m < M; m++) {
        if (out[m] == NULL) continue;
        const float *row = tile + 16 * (size_t)terms * m;
        float logits[16];
        v16f y = v16f_load(row);
        if (terms == 2) y = v16f_add(y, v16f_load(row + 16));
        if (bias != NULL) y = v16f_add(y, v16f_load(bias));
        if (scale != 1.0f) y = v16f_mul(y, v16f_set1(scale));
        if (cap != 0.0f) y = v16f_mul(v16f_tanh(v16f_mul(y, v16f_set1(uncap))), v16f_set1(cap));
        v16f_store(logits, y);
        memcpy(out[m] + n0, logits, (size_t)(n_valid < 16 ? n_valid : 16) * 4);
    }
}

INFC_INLINE v16f infc_swiglu(const float *gate, const float *up) { return v16f_mul(v16f_silu(v16f_load(gate)), v16f_load(up)); }
INFC_INLINE v16f infc_geglu(const float *gate, const float *up) { return v16f_mul(v16f_gelu(v16f_load(gate)), v16f_load(up)); }

// g sigmoid(1.702 g) (u + 1), g = min(gate, 7), u = clamp(up, -7, 7); a NaN stays one
INFC_INLINE v16f infc_swiglu_oai(const float *gate, const float *up)
{
    const v16f most = v16f_set1(7.0f), least = v16f_set1(-7.0f), one = v16f_set1(1.0f);
    const v16f g = v16f_min(most, v16f_load(gate)), u = v16f_max(least, v16f_min(most, v16f_load(up)));
    return v16f_mul(v16f_mul(g, v16f_sigmoid(v16f_mul(g, v16f_set1(1.702f)))), v16f_add(u, one));
}

// What GLU makes of gate and up: epi_GLU_q8 of two panels, (2, M, 16) each, quantized to block b of every row of a: (M, K), and epi_GLU_f32
// of one panel to h[m][n0..n0+15], h: (M, ldh)
#define INFC_GATED(GLU)                                                                                                        \
    INFC_INLINE void epi_##GLU##_q8(const float *gate, const float *up, int M, const infc_q8 *a, int K, int b)                \
    {                                                                                                                          \
        float h[16][32];                                                                                                       \
        for (int m = 0, rows; m < M; m += rows) {                                                                              \
            rows = M - m < 16 ? M - m : 16;                                                                                    \
            for (int r = 0; r < rows; r++) {                                                                                   \
                const float *g = gate + 16 * (m + r), *u = up + 16 * (m + r);                                                  \
                v16f_store(h[r], infc_##GLU(g, u));                                                                            \
                v16f_store(h[r] + 16, infc_##GLU(g + 16 * M, u + 16 * M));                                                     \
            }                                                                                                                  \
            quantize_q8_rows(h[0], 32, rows, a, K, m, b);                                                                      \
        }                                                                                                                      \
    }                                                                                                                          \
    INFC_INLINE void epi_##GLU##_f32(const float *gate, const float *up, int M, float *h, int ldh, int n0)                    \
    {                                                                                                                          \
        for (int m = 0; m < M; m++) v16f_store(h + (size_t)m * ldh + n0, infc_##GLU(gate + 16 * m, up + 16 * m));              \
    }
INFC_GATED(swiglu)
INFC_GATED(geglu)
INFC_GATED(swiglu_oai)
#undef INFC_GATED

// The same of an MLP without a gate
#define INFC_ACTIVATED(ACT)                                                                                                    \
    INFC_INLINE void epi_##ACT##_q8(const float *up, int M, const infc_q8 *a, int K, int b)                                    \
    {                                                                                                                          \
        float h[16][32];                                                                                                       \
        for (int m = 0, rows; m < M; m += rows) {                                                                              \
            rows = M - m < 16 ? M - m : 16;                                                                                    \
            for (int r = 0; r < rows; r++) {                                                                                   \
                v16f_store(h[r], v16f_##ACT(v16f_load(up + 16 * (m + r))));                                                    \
                v16f_store(h[r] + 16, v16f_##ACT(v16f_load(up + 16 * (M + m + r))));                                           \
            }                                                                                                                  \
            quantize_q8_rows(h[0], 32, rows, a, K, m, b);                                                                      \
        }                                                                                                                      \
    }                                                                                                                          \
    INFC_INLINE void epi_##ACT##_f32(const float *up, int M, float *h, int ldh, int n0)                                        \
    {                                                                                                                          \
        for (int m = 0; m < M; m++) v16f_store(h + (size_t)m * ldh + n0, v16f_##ACT(v16f_load(up + 16 * m)));                  \
    }
INFC_ACTIVATED(gelu)
INFC_ACTIVATED(relu2)
#undef INFC_ACTIVATED

// Rotates the pairs (2i, 2i+1) of lanes d0..d0+15 of a head (RoPE: Su et al., 2021). rope: (2, head_dim): cosines, then sines that are
// negative in even lanes; beyond the rotated dimensions 1 and 0.
INFC_INLINE v16f infc_rotate(const float *tile, const float *rope, int head_dim, int d0)
{
    const v16f x = v16f_load(tile);
    return v16f_fma(v16f_swap_pairs(x), v16f_load(rope + head_dim + d0), v16f_mul(x, v16f_load(rope + d0)));
}

// q: (M, ldq); q[m][n0..n0+15] = rotated tile * scale. rope: (M, 2, head_dim); d0: the tile's place in its head
INFC_INLINE void epi_rope_q(const float *tile, int M, const float *rope, int head_dim, int d0, float scale, float *q, int ldq, int n0)
{
    const v16f s = v16f_set1(scale);
    for (int m = 0; m < M; m++) {
        const v16f y = infc_rotate(tile + 16 * m, rope + (size_t)m * 2 * head_dim, head_dim, d0);
        v16f_store(q + (size_t)m * ldq + n0, v16f_mul(y, s));
    }
}

// The same without a rotation
INFC_INLINE void epi_scale_q(const float *tile, int M, float scale, float *q, int ldq, int n0)
{
    for (int m = 0; m < M; m++) v16f_store(q + (size_t)m * ldq + n0, v16f_mul(v16f_load(tile + 16 * m), v16f_set1(scale)));
}
#endif
