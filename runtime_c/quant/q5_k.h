// q5_k: per 8 blocks: 8 times 16 bytes sc and 16 bytes m, then 16 f16 d, 16 f16 -dmin; then per block 256 B of nibbles, 64 B of fifth bits.
// w = q (d sc) + (-dmin) m.
#include "nibbles.h"
enum { q5_k_SUPER = 8, q5_k_QUANT_BYTES = 320, q5_k_SCALE_BYTES = 320, q5_k_HALVES = 1 };
enum { q5_k_SIGNED = 0, q5_k_FOLD = 4, q5_k_ZERO = 0, q5_k_HAS_MIN = 1 };
INFC_INLINE v64b q5_k_group(const uint8_t *block, int g) { return fifth_group(block, g); }
INFC_INLINE v16f q5_k_scale(const uint8_t *scales, int b, int h)
{
    (void)h;
    return v16f_mul(v16f_from_f16(scales + 256), v16f_from_i32(v16i_from_u8(scales + 32 * b)));
}
INFC_INLINE v16f q5_k_min(const uint8_t *scales, int b, int h)
{
    (void)h;
    return v16f_mul(v16f_from_f16(scales + 288), v16f_from_i32(v16i_from_u8(scales + 32 * b + 16)));
}
#define INFC_FORMAT q5_k
#include "../infc_linear_q8.h"
