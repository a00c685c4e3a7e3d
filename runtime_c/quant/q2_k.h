// q2_k: per 8 blocks: 16 times 16 bytes, sc in the low and m in the high half, then 16 f16 d, 16 f16 -dmin; then per block 128 B of pairs of
// bits. w = q (d sc) + (-dmin) m, sc and m of 16 k.
#include "pairs.h"
enum { q2_k_SUPER = 8, q2_k_QUANT_BYTES = 128, q2_k_SCALE_BYTES = 320, q2_k_HALVES = 2 };
enum { q2_k_SIGNED = 0, q2_k_FOLD = 4, q2_k_ZERO = 0, q2_k_HAS_MIN = 1 };
INFC_INLINE v64b q2_k_group(const uint8_t *block, int g) { return pairs_group(block, g, 0); }
// d times the four bits of every lane that begin at bit `at`. Where they lie they are put into the fraction of 2^(23 - at), whose last place
// they then count, and that power is taken off again: by one exact fma or, where a zero's sign matters, before d multiplies.
INFC_INLINE v16f q2_k_times(v16f d, v16i bits, int at, int sign)
{
    const float power = (float)(1 << (23 - at));
    const v16f sum = v16f_of_bits(v16i_or(v16i_and(bits, v16i_set1(15 << at)), v16f_bits(v16f_set1(power))));
    if (sign) return v16f_mul(d, v16f_sub(sum, v16f_set1(power)));
    return v16f_fma(d, sum, v16f_mul(d, v16f_set1(-power)));
}
INFC_INLINE v16f q2_k_d(const uint8_t *scales, int b, int h, int sign)
{
    return q2_k_times(v16f_from_f16(scales + 256), v16i_from_u8(scales + 16 * (2 * b + h)), 0, sign);
}
INFC_INLINE v16f q2_k_m(const uint8_t *scales, int b, int h, int sign)
{
    return q2_k_times(v16f_from_f16(scales + 288), v16i_from_u8(scales + 16 * (2 * b + h)), 4, sign);
}
INFC_INLINE v16f q2_k_scale(const uint8_t *scales, int b, int h) { return q2_k_d(scales, b, h, 0); }
INFC_INLINE v16f q2_k_min(const uint8_t *scales, int b, int h) { return q2_k_m(scales, b, h, 0); }
#define INFC_SCALE_OF_ROW(scales, b, h) q2_k_d(scales, b, h, 1)
#define INFC_MIN_OF_ROW(scales, b, h) q2_k_m(scales, b, h, 1)
#define INFC_FORMAT q2_k
#define INFC_PAIRS
#include "../infc_linear_q8.h"
