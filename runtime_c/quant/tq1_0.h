// tq1_0: as tq2_0; five digits in a byte become two bits each when weights are repacked.
#include "pairs.h"
enum { tq1_0_SUPER = 8, tq1_0_QUANT_BYTES = 128, tq1_0_SCALE_BYTES = 32, tq1_0_HALVES = 1 };
enum { tq1_0_SIGNED = 0, tq1_0_FOLD = 8, tq1_0_ZERO = 1 };
INFC_INLINE v64b tq1_0_group(const uint8_t *block, int g) { return pairs_group(block, g, 0); }
INFC_F16_SCALE(tq1_0)
INFC_NO_MIN(tq1_0)
#define INFC_FORMAT tq1_0
#define INFC_PAIRS
#include "../infc_linear_q8.h"
