// q2_k: per block 128 B of pairs of bits; per 8 blocks: 16 times 16 bytes, sc in the low and m in the high half, then 16 f16 d, 16 f16 -dmin.
// w = q (d sc) + (-dmin) m, sc and m of 16 k.
#include "pairs.h"
enum { q2_k_SUPER = 8, q2_k_QUANT_BYTES = 128, q2_k_SCALE_BYTES = 320, q2_k_HALVES = 2 };
enum { q2_k_SIGNED = 0, q2_k_FOLD = 4, q2_k_ZERO = 0, q2_k_HAS_MIN = 1 };
INFC_INLINE v64b q2_k_group(const uint8_t *block, int g) { return pairs_group(block, g, 0); }
INFC_INLINE v16f q2_k_scale(const uint8_t *scales, int i)
{
    return v16f_mul(v16f_from_f16(scales + 256), v16f_from_i32(v16i_and(v16i_from_u8(scales + 16 * i), v16i_set1(15))));
}
INFC_INLINE v16f q2_k_min(const uint8_t *scales, int i)
{
    return v16f_mul(v16f_from_f16(scales + 288), v16f_from_i32(v16i_shr4(v16i_from_u8(scales + 16 * i))));
}
#define INFC_FORMAT q2_k
#include "../infc_linear_q8.h"
