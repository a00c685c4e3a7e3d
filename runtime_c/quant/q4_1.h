// q4_1: 256 B of nibbles, 16 f16 d, 16 f16 m; w = q d + m.
#include "nibbles.h"
enum { q4_1_BLOCK_BYTES = 320, q4_1_SCALES = 256, q4_1_SIGNED = 0, q4_1_FOLD = 8, q4_1_ZERO = 0, q4_1_HAS_MIN = 1 };
INFC_INLINE v64b q4_1_group(const uint8_t *block, int g) { return nibbles_group(block, g); }
INFC_INLINE int q4_1_value(const uint8_t *block, int row, int k) { return nibbles_value(block, row, k); }
#define INFC_FORMAT q4_1
#include "../infc_linear_q8.h"
