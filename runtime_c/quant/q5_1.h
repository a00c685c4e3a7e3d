// q5_1: 256 B of nibbles, 64 B of fifth bits, 16 f16 d, 16 f16 m; w = q d + m.
#include "nibbles.h"
enum { q5_1_BLOCK_BYTES = 384, q5_1_SCALES = 320, q5_1_SIGNED = 0, q5_1_FOLD = 4, q5_1_ZERO = 0, q5_1_HAS_MIN = 1 };
INFC_INLINE v64b q5_1_group(const uint8_t *block, int g) { return fifth_group(block, g); }
INFC_INLINE int q5_1_value(const uint8_t *block, int row, int k) { return fifth_value(block, row, k); }
#define INFC_FORMAT q5_1
#include "../infc_linear_q8.h"
