// q4_0: 256 B of nibbles, 16 f16 d; w = (q - 8) d.
#include "nibbles.h"
enum { q4_0_SUPER = 1, q4_0_QUANT_BYTES = 256, q4_0_SCALE_BYTES = 32, q4_0_HALVES = 1 };
enum { q4_0_SIGNED = 0, q4_0_FOLD = 8, q4_0_ZERO = 8 };
INFC_INLINE v64b q4_0_group(const uint8_t *block, int g) { return nibbles_group(block, g); }
INFC_F16_SCALE(q4_0)
INFC_NO_MIN(q4_0)
#define INFC_FORMAT q4_0
#include "../infc_linear_q8.h"
