// infc_quantize.h: f32 activations to int8 blocks of 32 (DESIGN section 4).
#ifndef INFC_QUANTIZE_H
#define INFC_QUANTIZE_H
#include "infc_simd.h"

// (M, K) activations, row-major and contiguous: x ~ q * d. K is a multiple of 32.
typedef struct infc_q8 {
    int8_t *q;    // (M, K), -127..127
    float *d;     // (M, K / 32) scale
    int32_t *s;   // (M, K / 32) sum of q: what a zero point multiplies
    float *ds;    // (M, K / 32) d * s: what a minimum multiplies
} infc_q8;

// 32 values, l then h, to block b of row m: q = round(y), y = x * 127 / max|x|, then the scale that makes the squared error of q * d
// least: d = (sum y q / sum q^2) * (max|x| / 127). Both sums are sixteen lanes, second half of the block onto the first, and the fixed
// fold. A block with Inf or NaN has d = ds = NaN and q = 0, on every ISA; one whose largest magnitude is below 1e-30 is zero.
INFC_INLINE void quantize_q8_block(v16f l, v16f h, const infc_q8 *a, int K, int m, int b)
{
    const v16i abs = v16i_set1(0x7fffffff);
    const int32_t bits = v16i_fold_max(v16i_max(v16i_and(v16f_bits(l), abs), v16i_and(v16f_bits(h), abs)));
    const size_t i = (size_t)m * (K / 32) + b;
    int8_t *q = a->q + (size_t)m * K + (size_t)b * 32;
    const float amax = infc_bits_to_float((uint32_t)bits);
    if (__builtin_expect(!(amax >= 1e-30f && bits < 0x7f800000), 0)) {
        memset(q, 0, 32);
        a->s[i] = 0;
        a->d[i] = a->ds[i] = bits >= 0x7f800000 ? infc_bits_to_float(0x7fc00000) : 0.0f;
        return;
    }
    const v16f id = v16f_set1(127.0f / amax), yl = v16f_mul(l, id), yh = v16f_mul(h, id);
    const v16i ql = v16i_round(yl), qh = v16i_round(yh);
    v16i_store_i8(q, ql);
    v16i_store_i8(q + 16, qh);
    const int32_t s = v16i_fold_add(v16i_add(ql, qh));
    const v16f fl = v16f_from_i32(ql), fh = v16f_from_i32(qh);
    const float yq = v16f_fold_add(v16f_fma(yh, fh, v16f_mul(yl, fl))), qq = v16f_fold_add(v16f_fma(fh, fh, v16f_mul(fl, fl)));
    const float d = yq / qq * (amax / 127.0f);  // max|x| itself has q = 127, so qq > 0
    a->s[i] = s;
    a->d[i] = d;
    a->ds[i] = d * (float)s;
}

// l, h: the 32 values that became block b of row m -> what the rounding lost, x - q d, rounded once
INFC_INLINE void infc_q8_residual(v16f *l, v16f *h, const infc_q8 *a, int K, int m, int b)
{
    const int8_t *q = a->q + (size_t)m * K + (size_t)b * 32;
    const v16f d = v16f_set1(-a->d[(size_t)m * (K / 32) + b]);
    float f[32];
    for (int i = 0; i < 32; i++) f[i] = (float)q[i];
    *l = v16f_fma(v16f_load(f), d, *l);
    *h = v16f_fma(v16f_load(f + 16), d, *h);
}

// x: (K) -> row m
INFC_INLINE void quantize_q8_row(const float *x, int K, const infc_q8 *a, int m)
{
    for (int b = 0; b < K / 32; b++) quantize_q8_block(v16f_load(x + 32 * b), v16f_load(x + 32 * b + 16), a, K, m, b);
}
#endif
