// nibbles.h: the 4-bit part shared by q4 and q5. Vector v of 64 bytes: dword r holds, of row r, q[8v+j] in the low and q[8v+4+j] in
// the high half of byte j.
#ifndef INFC_QUANT_NIBBLES_H
#define INFC_QUANT_NIBBLES_H
INFC_INLINE v64b nibbles_group(const uint8_t *block, int g)
{
    const v64b v = v64b_load(block + 64 * (g / 2));
    return g % 2 ? v64b_high4(v) : v64b_low4(v);
}

// Fifth bits: 16 dwords, row r: bit 8j+g is that of k = 4g+j.
INFC_INLINE v64b fifth_group(const uint8_t *block, int g)
{
    return v64b_or(nibbles_group(block, g), v64b_bit_to_16(v64b_load(block + 256), g));
}
#endif
