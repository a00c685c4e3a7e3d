// q8_0: 8 vectors of 64 signed bytes, 16 f16 d; w = q d. Vector g: dword r, byte j is q[4g+j] of row r.
enum { q8_0_SUPER = 1, q8_0_QUANT_BYTES = 512, q8_0_SCALE_BYTES = 32, q8_0_HALVES = 1 };
enum { q8_0_SIGNED = 1, q8_0_FOLD = 8, q8_0_ZERO = 0 };
INFC_INLINE v64b q8_0_group(const uint8_t *block, int g) { return v64b_load(block + 64 * g); }
INFC_F16_SCALE(q8_0)
INFC_NO_MIN(q8_0)
#define INFC_FORMAT q8_0
#include "../infc_linear_q8.h"
