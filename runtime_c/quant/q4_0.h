// q4_0: 256 B of nibbles, 16 f16 d; w = (q - 8) d.
#include "nibbles.h"
enum { q4_0_BLOCK_BYTES = 288, q4_0_SCALES = 256, q4_0_SIGNED = 0, q4_0_FOLD = 8, q4_0_ZERO = 8, q4_0_HAS_MIN = 0 };
INFC_INLINE v64b q4_0_group(const uint8_t *block, int g) { return nibbles_group(block, g); }
INFC_INLINE int q4_0_value(const uint8_t *block, int row, int k) { return nibbles_value(block, row, k); }
#define INFC_FORMAT q4_0
#include "../infc_linear_q8.h"
