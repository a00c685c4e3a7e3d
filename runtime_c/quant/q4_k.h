// q4_k: per 8 blocks: 8 times 16 bytes sc and 16 bytes m, then 16 f16 d, 16 f16 -dmin; then per block 256 B of nibbles.
// w = q (d sc) + (-dmin) m.
#include "nibbles.h"
enum { q4_k_SUPER = 8, q4_k_QUANT_BYTES = 256, q4_k_SCALE_BYTES = 320, q4_k_HALVES = 1 };
enum { q4_k_SIGNED = 0, q4_k_FOLD = 8, q4_k_ZERO = 0, q4_k_HAS_MIN = 1 };
INFC_INLINE v64b q4_k_group(const uint8_t *block, int g) { return nibbles_group(block, g); }
INFC_INLINE v16f q4_k_scale(const uint8_t *scales, int b, int h)
{
    (void)h;
    return v16f_mul(v16f_from_f16(scales + 256), v16f_from_i32(v16i_from_u8(scales + 32 * b)));
}
INFC_INLINE v16f q4_k_min(const uint8_t *scales, int b, int h)
{
    (void)h;
    return v16f_mul(v16f_from_f16(scales + 288), v16f_from_i32(v16i_from_u8(scales + 32 * b + 16)));
}
#define INFC_FORMAT q4_k
#include "../infc_linear_q8.h"
