// pairs.h: two bits of every quant. Vector v of 64 bytes: dword r, byte j holds, of row r, those of k = 16v+j, 16v+4+j, 16v+8+j and 16v+12+j,
// lowest first.
#ifndef INFC_QUANT_PAIRS_H
#define INFC_QUANT_PAIRS_H
// The two bits of group g, moved to bit `to`
INFC_INLINE v64b pairs_group(const uint8_t *pairs, int g, int to) { return v64b_bits(v64b_load(pairs + 64 * (g / 4)), 2 * (g % 4), 2, to); }
#endif
