// q3_k: per 8 blocks: 16 times 16 signed bytes sc, then 16 f16 d; then per block 192 B of quants. Vector v of three of 64 bytes: dword r, byte j
// holds, of row r, q[8v+j] in bits 0..2 and q[8v+4+j] in bits 3..5. Bits 6 and 7: of vectors 0 and 1 the lower two of q[24+j] and q[28+j],
// of vector 2 their upper ones. w = (q - 4) (d sc), sc of 16 k.
enum { q3_k_SUPER = 8, q3_k_QUANT_BYTES = 192, q3_k_SCALE_BYTES = 288, q3_k_HALVES = 2 };
enum { q3_k_SIGNED = 0, q3_k_FOLD = 4, q3_k_ZERO = 4 };
INFC_INLINE v64b q3_k_group(const uint8_t *block, int g)
{
    if (g < 6) return v64b_bits(v64b_load(block + 64 * (g / 2)), 3 * (g % 2), 3, 0);
    return v64b_or(v64b_bits(v64b_load(block + 64 * (g - 6)), 6, 2, 0), v64b_bits(v64b_load(block + 128), g, 1, 2));
}
INFC_INLINE v16f q3_k_scale(const uint8_t *scales, int b, int h)
{
    return v16f_mul(v16f_from_f16(scales + 256), v16f_from_i32(v16i_from_s8(scales + 16 * (2 * b + h))));
}
INFC_NO_MIN(q3_k)
#define INFC_FORMAT q3_k
#include "../infc_linear_q8.h"
