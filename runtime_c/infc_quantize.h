// infc_quantize.h: f32 activations to int8 blocks of 32 (DESIGN section 4).
#ifndef INFC_QUANTIZE_H
#define INFC_QUANTIZE_H
#include "infc_simd.h"

// (M, K) activations in blocks of 32, contiguous: x ~ q * d. K is a multiple of 32. Where block b of row m lies depends on the batch:
// row-major, (M, K / 32), for the kernels that keep rows in registers; in tiles of sixteen rows, (M / 16, K / 32, 16), for those that
// take an unpacked panel past many rows: what one step of theirs reads is then contiguous. The last tile may be partly unwritten.
typedef struct infc_q8 {
    int8_t *q;    // blocks of 32, -127..127
    float *d;     // scale of each block
    int16_t *s;   // two a block: the sum of q, which a zero point multiplies, and that of its first 16
    float *ds;    // d * s: what a minimum multiplies
    int tiled;
} infc_q8;

// The number of block b of row m in the arrays of `a`.
INFC_INLINE size_t infc_q8_index(const infc_q8 *a, int K, int m, int b)
{
    const size_t nb = (size_t)(K / 32);
    return a->tiled ? ((size_t)(m / 16) * nb + (size_t)b) * 16 + (size_t)(m % 16) : (size_t)m * nb + (size_t)b;
}

// 32 values, l then h, to block b of row m: q = round(y), y = x * 127 / max|x|, then the scale that makes the squared error of q * d
// least: d = (sum y q / sum q^2) * (max|x| / 127). Both sums are sixteen lanes, second half of the block onto the first, and the fixed
// fold. A block with Inf or NaN has d = ds = NaN and q = 0, on every ISA; one whose largest magnitude is below 1e-30 is zero.
INFC_INLINE void quantize_q8_block(v16f l, v16f h, const infc_q8 *a, int K, int m, int b)
{
    const v16i abs = v16i_set1(0x7fffffff);
    const int32_t bits = v16i_fold_max(v16i_max(v16i_and(v16f_bits(l), abs), v16i_and(v16f_bits(h), abs)));
    const size_t i = infc_q8_index(a, K, m, b);
    int8_t *q = a->q + 32 * i;
    const float amax = infc_bits_to_float((uint32_t)bits);
    if (__builtin_expect(!(amax >= 1e-30f && bits < 0x7f800000), 0)) {
        memset(q, 0, 32);
        a->s[2 * i] = a->s[2 * i + 1] = 0;
        a->d[i] = a->ds[i] = bits >= 0x7f800000 ? infc_bits_to_float(0x7fc00000) : 0.0f;
        return;
    }
    const v16f id = v16f_set1(127.0f / amax), yl = v16f_mul(l, id), yh = v16f_mul(h, id);
    const v16i ql = v16i_round(yl), qh = v16i_round(yh);
    v16i_store_i8(q, ql);
    v16i_store_i8(q + 16, qh);
    const int32_t both = v16i_fold_add(v16i_add(v16i_shl16(ql), v16i_add(ql, qh)));  // both sums in one fold: 2^16 first + all
    const int16_t s = (int16_t)both;
    const v16f fl = v16f_from_i32(ql), fh = v16f_from_i32(qh);
    const float yq = v16f_fold_add(v16f_fma(yh, fh, v16f_mul(yl, fl))), qq = v16f_fold_add(v16f_fma(fh, fh, v16f_mul(fl, fl)));
    const float d = yq / qq * (amax / 127.0f);  // max|x| itself has q = 127, so qq > 0
    a->s[2 * i] = s;
    a->s[2 * i + 1] = (int16_t)((both - s) >> 16);
    a->d[i] = d;
    a->ds[i] = d * (float)s;
}

#if (defined(INFC_ISA_AVX512) || defined(INFC_ISA_AMX)) && !defined(INFC_EMULATE_AVX512)
#define INFC_SIXTEEN  // sixteen rows at once
#include "infc_quantize_avx512.h"
#endif

// x: `rows` rows of 32 floats, ldx apart -> block b of rows m.. of `a`, which lie in one tile if `a` is tiled
INFC_INLINE void quantize_q8_rows(const float *x, size_t ldx, int rows, const infc_q8 *a, int K, int m, int b)
{
#if defined(INFC_SIXTEEN)
    if (rows == 16 && a->tiled) {
        quantize_q8_sixteen(x, ldx, a, infc_q8_index(a, K, m, b));
        return;
    }
#endif
    for (int r = 0; r < rows; r++) quantize_q8_block(v16f_load(x + r * ldx), v16f_load(x + r * ldx + 16), a, K, m + r, b);
}

// l, h: the 32 values that became block b of row m -> what the rounding lost, x - q d, rounded once
INFC_INLINE void infc_q8_residual(v16f *l, v16f *h, const infc_q8 *a, int K, int m, int b)
{
    const size_t i = infc_q8_index(a, K, m, b);
    const int8_t *q = a->q + 32 * i;
    const v16f d = v16f_set1(-a->d[i]);
    float f[32];
    for (int j = 0; j < 32; j++) f[j] = (float)q[j];
    *l = v16f_fma(v16f_load(f), d, *l);
    *h = v16f_fma(v16f_load(f + 16), d, *h);
}

// x: (K) -> row m
INFC_INLINE void quantize_q8_row(const float *x, int K, const infc_q8 *a, int m)
{
    for (int b = 0; b < K / 32; b++) quantize_q8_block(v16f_load(x + 32 * b), v16f_load(x + 32 * b + 16), a, K, m, b);
}
#endif
