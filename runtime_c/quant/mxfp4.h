// mxfp4: 256 B of nibbles (e2m1), 16 bytes e; w = (mxfp4_values[q] - 12) 2^(e - 128), which is e2m1's value times 2^(e - 127).
#include "nibbles.h"
enum { mxfp4_SUPER = 1, mxfp4_QUANT_BYTES = 256, mxfp4_SCALE_BYTES = 16, mxfp4_HALVES = 1 };
enum { mxfp4_SIGNED = 0, mxfp4_FOLD = 4, mxfp4_ZERO = 12 };
// Twice e2m1's values, and 12 that make them unsigned
static const int8_t mxfp4_values[16] __attribute__((aligned(16), unused)) = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
INFC_INLINE v64b mxfp4_group(const uint8_t *block, int g) { return v64b_table(mxfp4_values, nibbles_group(block, g)); }
// The bits of 2^(e - 128): e - 1 as an exponent or, for the two e whose power is subnormal, (e + 1) 2^21, which is less for any other e
INFC_INLINE v16f mxfp4_scale(const uint8_t *scales, int b, int h)
{
    const v16i e = v16i_from_u8(scales + 16 * b);
    (void)h;
    return v16f_of_bits(v16i_max(v16i_shl23(v16i_sub(e, v16i_set1(1))), v16i_shl21(v16i_add(e, v16i_set1(1)))));
}
INFC_NO_MIN(mxfp4)
#define INFC_FORMAT mxfp4
#include "../infc_linear_q8.h"
