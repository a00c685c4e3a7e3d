// iq4.h: the sixteen values of a 4-bit code in iq4_nl and iq4_xs.
#ifndef INFC_QUANT_IQ4_H
#define INFC_QUANT_IQ4_H
#include "nibbles.h"
static const int8_t iq4_values[16] __attribute__((aligned(16), unused)) = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
INFC_INLINE v64b iq4_group(const uint8_t *block, int g) { return v64b_table(iq4_values, nibbles_group(block, g)); }
#endif
