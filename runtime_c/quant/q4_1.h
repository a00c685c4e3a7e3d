// q4_1: 256 B of nibbles, 16 f16 d, 16 f16 m; w = q d + m.
#include "nibbles.h"
enum { q4_1_SUPER = 1, q4_1_QUANT_BYTES = 256, q4_1_SCALE_BYTES = 64, q4_1_HALVES = 1 };
enum { q4_1_SIGNED = 0, q4_1_FOLD = 8, q4_1_ZERO = 0 };
INFC_INLINE v64b q4_1_group(const uint8_t *block, int g) { return nibbles_group(block, g); }
INFC_F16_SCALE(q4_1)
INFC_F16_MIN(q4_1)
#define INFC_FORMAT q4_1
#include "../infc_linear_q8.h"
