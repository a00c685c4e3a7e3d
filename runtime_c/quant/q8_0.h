// q8_0: 8 vectors of 64 signed bytes, 16 f16 d; w = q d. Vector g: dword r, byte j is q[4g+j] of row r.
enum { q8_0_BLOCK_BYTES = 544, q8_0_SCALES = 512, q8_0_SIGNED = 1, q8_0_FOLD = 8, q8_0_ZERO = 0, q8_0_HAS_MIN = 0 };
INFC_INLINE v64b q8_0_group(const uint8_t *block, int g) { return v64b_load(block + 64 * g); }
INFC_INLINE int q8_0_value(const uint8_t *block, int row, int k) { return (int8_t)block[64 * (k / 4) + 4 * row + k % 4]; }
#define INFC_FORMAT q8_0
#include "../infc_linear_q8.h"
