// iq4_nl: 256 B of nibbles, 16 f16 d; w = iq4_values[q] d.
#include "iq4.h"
enum { iq4_nl_SUPER = 1, iq4_nl_QUANT_BYTES = 256, iq4_nl_SCALE_BYTES = 32, iq4_nl_HALVES = 1 };
enum { iq4_nl_SIGNED = 1, iq4_nl_FOLD = 8, iq4_nl_ZERO = 0 };
INFC_INLINE v64b iq4_nl_group(const uint8_t *block, int g) { return iq4_group(block, g); }
INFC_F16_SCALE(iq4_nl)
INFC_NO_MIN(iq4_nl)
#define INFC_FORMAT iq4_nl
#include "../infc_linear_q8.h"
