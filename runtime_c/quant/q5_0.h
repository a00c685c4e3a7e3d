// q5_0: 256 B of nibbles, 64 B of fifth bits, 16 f16 d; w = (q - 16) d.
#include "nibbles.h"
enum { q5_0_BLOCK_BYTES = 352, q5_0_SCALES = 320, q5_0_SIGNED = 0, q5_0_FOLD = 4, q5_0_ZERO = 16, q5_0_HAS_MIN = 0 };
INFC_INLINE v64b q5_0_group(const uint8_t *block, int g) { return fifth_group(block, g); }
INFC_INLINE int q5_0_value(const uint8_t *block, int row, int k) { return fifth_value(block, row, k); }
#define INFC_FORMAT q5_0
#include "../infc_linear_q8.h"
