// q3_k: per block 128 B of pairs of bits, 64 B of the bit above them; per 8 blocks: 16 times 16 signed bytes sc, then 16 f16 d.
// w = (q - 4) (d sc), sc of 16 k.
#include "pairs.h"
enum { q3_k_SUPER = 8, q3_k_QUANT_BYTES = 192, q3_k_SCALE_BYTES = 288, q3_k_HALVES = 2 };
enum { q3_k_SIGNED = 0, q3_k_FOLD = 4, q3_k_ZERO = 4 };
INFC_INLINE v64b q3_k_group(const uint8_t *block, int g) { return v64b_or(pairs_group(block, g, 0), v64b_bits(v64b_load(block + 128), g, 1, 2)); }
INFC_INLINE v16f q3_k_scale(const uint8_t *scales, int i)
{
    return v16f_mul(v16f_from_f16(scales + 256), v16f_from_i32(v16i_from_s8(scales + 16 * i)));
}
INFC_NO_MIN(q3_k)
#define INFC_FORMAT q3_k
#include "../infc_linear_q8.h"
