// kv/q16.h: keys and values as scaled int16, so that attention's two products are exact integers.
//
// A page part (one layer and kv head; 64 positions) is
//   K       (4, head_dim / 2, 16, 2) i16: lanes are positions, pairs are dimensions 2i, 2i + 1
//   V       (2, 16, head_dim, 2) i16: lanes are dimensions; pair i of half h holds positions 32h + i and 32h + 16 + i
//   scales  (3, 64) f32: dk, e, 2^-e of each position: key = K dk, value = V 2^e
// Per position: dk = max|k| / 4095, K = round(k * (4095 / max|k|)); 2^e is the least power of two, e >= -40, with max|v| / 2047 <= 2^e,
// V = round(v 2^-e). A power of two can be moved from the value to its probability's exponent without a rounding, which is what lets
// one integer sum run over positions of different scales. A key with Inf or NaN has dk = NaN and K = 0, a value e = NaN and V = 0.
#ifndef INFC_KV_Q16_H
#define INFC_KV_Q16_H
#include "../infc_epilogue.h"
#include "../infc_math.h"
#include "fetch.h"
#include "limit.h"

enum { Q16_PAGE = 64, Q16_KEY_MAX = 4095, Q16_VALUE_MAX = 2047, Q16_MAX_HEAD_DIM = 256 };

// Keys in part + 0, then:
INFC_INLINE size_t q16_values_offset(int head_dim) { return (size_t)2 * Q16_PAGE * head_dim; }
INFC_INLINE size_t q16_scales_offset(int head_dim) { return (size_t)4 * Q16_PAGE * head_dim; }
INFC_INLINE size_t q16_part_bytes(int head_dim) { return q16_scales_offset(head_dim) + 3 * 4 * Q16_PAGE; }

// Largest |query| in units of its scale: head_dim products with keys stay below 2^31
INFC_INLINE int q16_query_max(int head_dim)
{
    const int most = 0x7fffffff / Q16_KEY_MAX / head_dim;
    return most < 8191 ? most : 8191;
}

// max|x| over n values, a multiple of 16, as bits: > 0x7f800000 with a NaN among them
INFC_INLINE int32_t q16_largest(const float *x, int n)
{
    const v16i abs = v16i_set1(0x7fffffff);
    v16i most = v16i_set1(0);
    for (int i = 0; i < n; i += 16) most = v16i_max(most, v16i_and(v16f_bits(v16f_load(x + i)), abs));
    return v16i_fold_max(most);
}

// q[i] = round(x[i] * scale)
INFC_INLINE void q16_round(const float *x, int n, float scale, int16_t *q)
{
    for (int i = 0; i < n; i += 16) v16i_store_i16(q + i, v16i_round(v16f_mul(v16f_load(x + i), v16f_set1(scale))));
}

// x ~ q * (the scale returned), |q| <= most. Inf or NaN: q = 0, scale NaN; all below 1e-30: both 0
INFC_INLINE float q16_quantize(const float *x, int n, int most, int16_t *q)
{
    const int32_t bits = q16_largest(x, n);
    const float largest = infc_bits_to_float((uint32_t)bits);
    if (__builtin_expect(!(largest >= 1e-30f && bits < 0x7f800000), 0)) {
        memset(q, 0, (size_t)n * 2);
        return bits >= 0x7f800000 ? infc_bits_to_float(0x7fc00000) : 0.0f;
    }
    q16_round(x, n, (float)most / largest, q);
    return largest / (float)most;
}

// The key of one row to position `slot` of the page part. tile: (head_dim / 16) panels of 16 lanes, ld floats apart;
// rope: (2, head_dim), NULL: positions turn nothing
INFC_INLINE void q16_write_k(const float *tile, size_t ld, const float *rope, int head_dim, int d0, int dims, uint8_t *part, int page,
                             int slot)
{
    float k[Q16_MAX_HEAD_DIM] __attribute__((aligned(64)));
    int16_t q[Q16_MAX_HEAD_DIM];
    (void)d0, (void)dims, (void)page;  // always the whole head: it has one scale
    for (int d = 0; d < head_dim; d += 16, tile += ld) v16f_store(k + d, rope != NULL ? infc_rotate(tile, rope, head_dim, d) : v16f_load(tile));
    const float dk = q16_quantize(k, head_dim, Q16_KEY_MAX, q);
    memcpy(part + q16_scales_offset(head_dim) + 4 * slot, &dk, 4);
    uint8_t *o = part + 4 * ((size_t)(slot / 16) * (head_dim / 2) * 16 + slot % 16);
    for (int i = 0; i < head_dim / 2; i++) memcpy(o + 64 * i, q + 2 * i, 4);
}

// The same of a value, which is not rotated
INFC_INLINE void q16_write_v(const float *tile, size_t ld, int head_dim, int d0, int dims, uint8_t *part, int page, int slot)
{
    float v[Q16_MAX_HEAD_DIM] __attribute__((aligned(64)));
    int16_t q[Q16_MAX_HEAD_DIM];
    (void)d0, (void)dims, (void)page;
    for (int d = 0; d < head_dim; d += 16, tile += ld) v16f_store(v + d, v16f_load(tile));
    const int32_t bits = q16_largest(v, head_dim);
    float e = infc_bits_to_float(0x7fc00000), inverse = e;
    if (__builtin_expect(bits < 0x7f800000, 1)) {
        const uint32_t unit = infc_float_to_bits(infc_bits_to_float((uint32_t)bits) / (float)Q16_VALUE_MAX);
        int n = (int)(unit >> 23) - 127 + ((unit & 0x7fffff) != 0);
        if (n < -40) n = -40;
        e = (float)n;
        inverse = infc_bits_to_float((uint32_t)(127 - n) << 23);
        q16_round(v, head_dim, inverse, q);
    } else {
        memset(q, 0, (size_t)head_dim * 2);
    }
    uint8_t *scales = part + q16_scales_offset(head_dim) + 4 * slot;
    memcpy(scales + 4 * Q16_PAGE, &e, 4);
    memcpy(scales + 8 * Q16_PAGE, &inverse, 4);
    uint8_t *o = part + q16_values_offset(head_dim) + 2 * ((size_t)(slot / 32 * 16 + slot % 16) * head_dim * 2 + slot / 16 % 2);
    for (int d = 0; d < head_dim; d++) memcpy(o + 4 * d, q + d, 2);
}

// 2^14 * 2^x for x <= 0, relative error below 2.9e-6; x < -126 counts as -126, NaN gives NaN.
// 2^x = 2^n 2^r, |r| <= 1/2; the polynomial is minimax of degree 4 with p(0) = 2^14 exactly.
INFC_HEAVY v16f q16_exp2(v16f x)
{
    const v16f c = v16f_max(v16f_set1(-126.0f), x), r = v16f_fraction(c);  // v16f_max gives its second argument where that is NaN
    v16f p = v16f_fma(v16f_set1(0x1.3a02ccp+7f), r, v16f_set1(0x1.c9fc46p+9f));
    p = v16f_fma(p, r, v16f_set1(0x1.ec0378p+11f));
    p = v16f_fma(p, r, v16f_set1(0x1.62e12cp+13f));
    p = v16f_fma(p, r, v16f_set1(16384.0f));
    return v16f_scale(p, v16f_sub(c, r));
}
#endif
