// infc_norm.h: RMSNorm (Zhang and Sennrich, 2019): out = x / sqrt(mean(x^2) + eps) * w; LayerNorm (Ba et al., 2016):
// out = (x - mean(x)) / sqrt(var(x) + eps) * w + bias.
#ifndef INFC_NORM_H
#define INFC_NORM_H
#include "infc_quantize.h"

// 1 / sqrt(sum(x^2) / K + eps). Sixteen partial sums, lane = index mod 16. K may end inside a vector: nothing past x[K - 1] is read.
INFC_INLINE float infc_rms_scale(const float *x, float eps, int K)
{
    v16f acc = v16f_zero();
    for (int k = 0; k + 16 <= K; k += 16) {
        const v16f v = v16f_load(x + k);
        acc = v16f_fma(v, v, acc);
    }
    if (K % 16) {
        float tail[16] = {0};
        for (int k = K - K % 16; k < K; k++) tail[k % 16] = x[k];
        const v16f v = v16f_load(tail);
        acc = v16f_fma(v, v, acc);
    }
    return 1.0f / sqrtf(v16f_fold_add(acc) / (float)K + eps);
}

// x, w, out: (K); out may be x
INFC_INLINE void rmsnorm_row(const float *x, const float *w, float eps, int K, float *out)
{
    const float scale = infc_rms_scale(x, eps, K);
    const v16f s = v16f_set1(scale);
    int k = 0;
    for (; k + 16 <= K; k += 16) v16f_store(out + k, v16f_mul(v16f_mul(v16f_load(x + k), s), v16f_load(w + k)));
    for (; k < K; k++) out[k] = x[k] * scale * w[k];
}

// x += that of y. K is a multiple of 16
INFC_INLINE void rmsnorm_add_row(const float *y, const float *w, float eps, int K, float *x)
{
    const v16f s = v16f_set1(infc_rms_scale(y, eps, K));
    for (int k = 0; k < K; k += 16) v16f_store(x + k, v16f_add(v16f_load(x + k), v16f_mul(v16f_mul(v16f_load(y + k), s), v16f_load(w + k))));
}

// The same as rmsnorm_row, quantized at once into row m of `a`. K is a multiple of 32.
INFC_INLINE void rmsnorm_q8_row(const float *x, const float *w, float eps, int K, const infc_q8 *a, int m)
{
    const v16f s = v16f_set1(infc_rms_scale(x, eps, K));
    for (int b = 0; b < K / 32; b++) {
        const float *xb = x + 32 * b, *wb = w + 32 * b;
        const v16f l = v16f_mul(v16f_mul(v16f_load(xb), s), v16f_load(wb));
        const v16f h = v16f_mul(v16f_mul(v16f_load(xb + 16), s), v16f_load(wb + 16));
        quantize_q8_block(l, h, a, K, m, b);
    }
}

// The same of `rows` rows, ldx floats apart, to rows m.. of `a`, which lie in one tile if `a` is tiled.
INFC_INLINE void rmsnorm_q8_rows(const float *x, size_t ldx, int rows, const float *w, float eps, int K, const infc_q8 *a, int m)
{
    float scale[16], y[16][32];
    for (int r = 0; r < rows; r++) scale[r] = infc_rms_scale(x + r * ldx, eps, K);
    for (int b = 0; b < K / 32; b++) {
        const v16f wl = v16f_load(w + 32 * b), wh = v16f_load(w + 32 * b + 16);
        for (int r = 0; r < rows; r++) {
            const float *xb = x + r * ldx + 32 * b;
            const v16f s = v16f_set1(scale[r]);
            v16f_store(y[r], v16f_mul(v16f_mul(v16f_load(xb), s), wl));
            v16f_store(y[r] + 16, v16f_mul(v16f_mul(v16f_load(xb + 16), s), wh));
        }
        quantize_q8_rows(y[0], 32, rows, a, K, m, b);
    }
}

// In two terms: row 2m of `a` as above, and in row 2m + 1 what its rounding lost, quantized in turn.
INFC_INLINE void rmsnorm_q8x2_row(const float *x, const float *w, float eps, int K, const infc_q8 *a, int m)
{
    const v16f s = v16f_set1(infc_rms_scale(x, eps, K));
    for (int b = 0; b < K / 32; b++) {
        const float *xb = x + 32 * b, *wb = w + 32 * b;
        v16f l = v16f_mul(v16f_mul(v16f_load(xb), s), v16f_load(wb));
        v16f h = v16f_mul(v16f_mul(v16f_load(xb + 16), s), v16f_load(wb + 16));
        quantize_q8_block(l, h, a, K, 2 * m, b);
        infc_q8_residual(&l, &h, a, K, 2 * m, b);
        quantize_q8_block(l, h, a, K, 2 * m + 1, b);
    }
}

// ---- LayerNorm: w is (2, K), the weight and then the bias; K is a multiple of 32 ----------------------------------------------

typedef struct infc_moments {
    float mean, scale;  // scale: 1 / sqrt(var + eps)
} infc_moments;

// Sixteen partial sums each, lane = index mod 16
INFC_INLINE infc_moments infc_layer_moments(const float *x, float eps, int K)
{
    v16f sum = v16f_zero(), squares = v16f_zero();
    for (int k = 0; k < K; k += 16) sum = v16f_add(sum, v16f_load(x + k));
    const float mean = v16f_fold_add(sum) / (float)K;
    for (int k = 0; k < K; k += 16) {
        const v16f d = v16f_sub(v16f_load(x + k), v16f_set1(mean));
        squares = v16f_fma(d, d, squares);
    }
    return (infc_moments){mean, 1.0f / sqrtf(v16f_fold_add(squares) / (float)K + eps)};
}

INFC_INLINE v16f infc_layer_normed(const float *x, infc_moments s, const float *w, int K)
{
    return v16f_fma(v16f_mul(v16f_sub(v16f_load(x), v16f_set1(s.mean)), v16f_set1(s.scale)), v16f_load(w), v16f_load(w + K));
}

INFC_INLINE void layernorm_row(const float *x, const float *w, float eps, int K, float *out)
{
    const infc_moments s = infc_layer_moments(x, eps, K);
    for (int k = 0; k < K; k += 16) v16f_store(out + k, infc_layer_normed(x + k, s, w + k, K));
}

INFC_INLINE void layernorm_q8_row(const float *x, const float *w, float eps, int K, const infc_q8 *a, int m)
{
    const infc_moments s = infc_layer_moments(x, eps, K);
    for (int b = 0; b < K / 32; b++)
        quantize_q8_block(infc_layer_normed(x + 32 * b, s, w + 32 * b, K), infc_layer_normed(x + 32 * b + 16, s, w + 32 * b + 16, K), a, K, m, b);
}

INFC_INLINE void layernorm_q8_rows(const float *x, size_t ldx, int rows, const float *w, float eps, int K, const infc_q8 *a, int m)
{
    infc_moments s[16];
    float y[16][32];
    for (int r = 0; r < rows; r++) s[r] = infc_layer_moments(x + r * ldx, eps, K);
    for (int b = 0; b < K / 32; b++) {
        for (int r = 0; r < rows; r++) {
            const float *xb = x + r * ldx + 32 * b;
            v16f_store(y[r], infc_layer_normed(xb, s[r], w + 32 * b, K));
            v16f_store(y[r] + 16, infc_layer_normed(xb + 16, s[r], w + 32 * b + 16, K));
        }
        quantize_q8_rows(y[0], 32, rows, a, K, m, b);
    }
}

INFC_INLINE void layernorm_q8x2_row(const float *x, const float *w, float eps, int K, const infc_q8 *a, int m)
{
    const infc_moments s = infc_layer_moments(x, eps, K);
    for (int b = 0; b < K / 32; b++) {
        v16f l = infc_layer_normed(x + 32 * b, s, w + 32 * b, K), h = infc_layer_normed(x + 32 * b + 16, s, w + 32 * b + 16, K);
        quantize_q8_block(l, h, a, K, 2 * m, b);
        infc_q8_residual(&l, &h, a, K, 2 * m, b);
        quantize_q8_block(l, h, a, K, 2 * m + 1, b);
    }
}
#endif
