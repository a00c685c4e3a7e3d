// q5_0: 256 B of nibbles, 64 B of fifth bits, 16 f16 d; w = (q - 16) d.
#include "nibbles.h"
enum { q5_0_SUPER = 1, q5_0_QUANT_BYTES = 320, q5_0_SCALE_BYTES = 32, q5_0_HALVES = 1 };
enum { q5_0_SIGNED = 0, q5_0_FOLD = 4, q5_0_ZERO = 16 };
INFC_INLINE v64b q5_0_group(const uint8_t *block, int g) { return fifth_group(block, g); }
INFC_F16_SCALE(q5_0)
INFC_NO_MIN(q5_0)
#define INFC_FORMAT q5_0
#include "../infc_linear_q8.h"
