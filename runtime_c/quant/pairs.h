// pairs.h: two bits of every quant. Dword r, byte j of vector v, of two of 64 bytes, holds those of row r and k = 8f+4v+j at bit 2f.
#ifndef INFC_QUANT_PAIRS_H
#define INFC_QUANT_PAIRS_H
// The two bits of group g, moved to bit `to`
INFC_INLINE v64b pairs_group(const uint8_t *pairs, int g, int to) { return v64b_bits(v64b_load(pairs + 64 * (g % 2)), 2 * (g / 2), 2, to); }
#endif
