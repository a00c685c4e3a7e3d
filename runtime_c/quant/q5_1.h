// q5_1: 256 B of nibbles, 64 B of fifth bits, 16 f16 d, 16 f16 m; w = q d + m.
#include "nibbles.h"
enum { q5_1_SUPER = 1, q5_1_QUANT_BYTES = 320, q5_1_SCALE_BYTES = 64, q5_1_HALVES = 1 };
enum { q5_1_SIGNED = 0, q5_1_FOLD = 4, q5_1_ZERO = 0 };
INFC_INLINE v64b q5_1_group(const uint8_t *block, int g) { return fifth_group(block, g); }
INFC_F16_SCALE(q5_1)
INFC_F16_MIN(q5_1)
#define INFC_FORMAT q5_1
#include "../infc_linear_q8.h"
