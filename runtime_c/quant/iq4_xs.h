// iq4_xs: per 8 blocks: 8 times 16 signed bytes sc, then 16 f16 d; then per block 256 B of nibbles; w = iq4_values[q] (d sc).
#include "iq4.h"
enum { iq4_xs_SUPER = 8, iq4_xs_QUANT_BYTES = 256, iq4_xs_SCALE_BYTES = 160, iq4_xs_HALVES = 1 };
enum { iq4_xs_SIGNED = 1, iq4_xs_FOLD = 8, iq4_xs_ZERO = 0 };
INFC_INLINE v64b iq4_xs_group(const uint8_t *block, int g) { return iq4_group(block, g); }
INFC_INLINE v16f iq4_xs_scale(const uint8_t *scales, int b, int h)
{
    (void)h;
    return v16f_mul(v16f_from_f16(scales + 128), v16f_from_i32(v16i_from_s8(scales + 16 * b)));
}
INFC_NO_MIN(iq4_xs)
#define INFC_FORMAT iq4_xs
#include "../infc_linear_q8.h"
