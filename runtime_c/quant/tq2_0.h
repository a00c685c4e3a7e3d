// tq2_0: per 8 blocks: 16 f16 d; then per block 128 B of pairs of bits; w = (q - 1) d.
#include "pairs.h"
enum { tq2_0_SUPER = 8, tq2_0_QUANT_BYTES = 128, tq2_0_SCALE_BYTES = 32, tq2_0_HALVES = 1 };
enum { tq2_0_SIGNED = 0, tq2_0_FOLD = 8, tq2_0_ZERO = 1 };
INFC_INLINE v64b tq2_0_group(const uint8_t *block, int g) { return pairs_group(block, g, 0); }
INFC_F16_SCALE(tq2_0)
INFC_NO_MIN(tq2_0)
#define INFC_FORMAT tq2_0
#define INFC_PAIRS
#include "../infc_linear_q8.h"
