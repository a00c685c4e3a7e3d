// infc_simd_amx.h: AMX-INT8 tiles beside the AVX-512 of infc_simd_avx512.h. Programs come here only after infc_cpu.c has found the
// instructions and the kernel has granted the tile registers.
//
// Use of tiles switches off the multipliers of port 5 for about 0.7 us (measured on Sapphire Rapids; docs/performance.md): 512-bit fma,
// mul, cvt, max and dot products then run once a cycle instead of twice, while add, subtract and logic keep both ports. Code beside
// tile instructions is written for that.
#ifndef INFC_SIMD_AMX_H
#define INFC_SIMD_AMX_H
#include <immintrin.h>
#if defined(INFC_EMULATE_AMX)
#include "emul_amx.h"  // tests only: tiles in plain C, for machines with AVX-512 and without AMX
#endif

// Tiles 0 and 1: int32 sums, 16 rows x 16 columns. 2: 16 rows of 32 int8 activations. 3: a block of weights, 8 groups of 16 x 4 int8.
// The second configuration is for halves of blocks: 16 activations, 4 groups.
typedef struct infc_tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} infc_tile_config;

static const infc_tile_config infc_linear_tiles[2] __attribute__((aligned(64), unused)) = {
    {.palette = 1, .row_bytes = {64, 64, 32, 64}, .rows = {16, 16, 16, 8}},
    {.palette = 1, .row_bytes = {64, 64, 16, 64}, .rows = {16, 16, 16, 4}}};

// gcc's tile intrinsics do not say that they read memory: whatever they read is forced out before.
#define INFC_TILE_ORDER __asm__ volatile("" : : : "memory")

INFC_INLINE void infc_tiles_configure(const infc_tile_config *config)
{
    INFC_TILE_ORDER;
    _tile_loadconfig(config);
}

// The instructions name their tile in the instruction: t is 0 or 1, a constant once this is inlined.
INFC_INLINE void infc_tile_activations(int t, const int8_t *x)
{
    if (t == 0)
        _tile_zero(0);
    else
        _tile_zero(1);
    _tile_loadd(2, x, 32);
}
INFC_INLINE void infc_tile_weights(const uint8_t *w) { _tile_loadd(3, w, 64); }
INFC_INLINE void infc_tile_multiply(int t)
{
    if (t == 0)
        _tile_dpbssd(0, 2, 3);
    else
        _tile_dpbssd(1, 2, 3);
}
INFC_INLINE void infc_tile_sums(int t, int32_t *sums)
{
    if (t == 0)
        _tile_stored(0, sums, 64);
    else
        _tile_stored(1, sums, 64);
}

// (float)x for |x| < 2^22, exact, from an integer and a float addition, which do not need the multiplier that a conversion takes:
// 1.5 * 2^23 has the value of its last bit equal to 1.
INFC_INLINE v16f v16f_from_small_i32(const int32_t *p)
{
    const __m512i bits = _mm512_add_epi32(_mm512_load_si512(p), _mm512_set1_epi32(0x4b400000));
    return _mm512_sub_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(12582912.0f));
}
// Of sixteen pairs (sum of a block of q, sum of its first half): the sums of half h
INFC_INLINE v16i v16i_half_sums(const int16_t *pairs, int h)
{
    const v16i both = v16i_load(pairs), first = _mm512_srai_epi32(both, 16);
    return h == 0 ? first : v16i_sub(_mm512_srai_epi32(v16i_shl16(both), 16), first);
}
#endif
