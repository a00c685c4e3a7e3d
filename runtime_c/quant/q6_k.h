// q6_k: per 8 blocks: 16 times 16 signed bytes sc, then 16 f16 d; then per block 256 B of nibbles, 128 B of the two bits above them.
// w = (q - 32) (d sc), sc of 16 k.
#include "nibbles.h"
#include "pairs.h"
enum { q6_k_SUPER = 8, q6_k_QUANT_BYTES = 384, q6_k_SCALE_BYTES = 288, q6_k_HALVES = 2 };
enum { q6_k_SIGNED = 0, q6_k_FOLD = 2, q6_k_ZERO = 32 };
INFC_INLINE v64b q6_k_group(const uint8_t *block, int g) { return v64b_or(nibbles_group(block, g), pairs_group(block + 256, g, 4)); }
INFC_INLINE v16f q6_k_scale(const uint8_t *scales, int b, int h)
{
    return v16f_mul(v16f_from_f16(scales + 256), v16f_from_i32(v16i_from_s8(scales + 16 * (2 * b + h))));
}
INFC_NO_MIN(q6_k)
#define INFC_FORMAT q6_k
#include "../infc_linear_q8.h"
