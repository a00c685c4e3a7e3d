// infc_simd_avx512.h: infc_simd.h for AVX-512 F/BW/VL/DQ + VNNI: one register per 16 lanes.
#ifndef INFC_SIMD_AVX512_H
#define INFC_SIMD_AVX512_H
#if defined(INFC_EMULATE_AVX512)
#include "emul_avx512.h"  // tests only: the intrinsics below in plain C, for machines without AVX-512
#else
#include <immintrin.h>
#endif

// See infc_simd_avx2.h; 32 registers hold twice as much.
enum { INFC_TILE_ROWS = 4, INFC_SMALL_TILE_ROWS = 8, INFC_GEMM_PANELS = 2, INFC_F32_PANELS = 4, INFC_ATTN_QUERIES = 8, INFC_ATTN_SUMS = 16 };
// How far ahead weights are fetched into L2 (docs/performance.md). Sapphire Rapids, M = 1 / 4: 24 / 24 GB/s at 2 KB, 28 / 28 at 4 KB,
// 29 / 27 at 8 KB; 18 / 18 without. Zen 4 is asked otherwise (infc_drops_prefetches).
enum { INFC_PREFETCH_BYTES = 8192 };
enum { INFC_Q16_QUERIES = 12, INFC_Q16_SUMS = 12 };

typedef __m512 v16f;
typedef __m512i v16i;
typedef struct { __m512i v; } v64b;
#define INFC_VDOT_WIDE  // steps may multiply any bytes
typedef struct { __m512i v; } vdot;  // s32: dpbusd leaves nothing to fold

INFC_INLINE v16f v16f_set1(float x) { return _mm512_set1_ps(x); }
INFC_INLINE v16f v16f_zero(void) { return _mm512_setzero_ps(); }
INFC_INLINE v16f v16f_load(const float *p) { return _mm512_loadu_ps(p); }
INFC_INLINE void v16f_store(float *p, v16f a) { _mm512_storeu_ps(p, a); }
INFC_INLINE v16f v16f_add(v16f a, v16f b) { return _mm512_add_ps(a, b); }
INFC_INLINE v16f v16f_sub(v16f a, v16f b) { return _mm512_sub_ps(a, b); }
INFC_INLINE v16f v16f_mul(v16f a, v16f b) { return _mm512_mul_ps(a, b); }
INFC_INLINE v16f v16f_div(v16f a, v16f b) { return _mm512_div_ps(a, b); }
INFC_INLINE v16f v16f_max(v16f a, v16f b) { return _mm512_max_ps(a, b); }
INFC_INLINE v16f v16f_min(v16f a, v16f b) { return _mm512_min_ps(a, b); }
INFC_INLINE v16f v16f_fma(v16f a, v16f b, v16f c) { return _mm512_fmadd_ps(a, b, c); }
INFC_INLINE v16f v16f_if_less(v16f a, v16f b, v16f x, v16f y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
INFC_INLINE v16f v16f_if_nan(v16f a, v16f x, v16f y) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), y, x); }
INFC_INLINE v16f v16f_keep(v16f a, int n, v16f fill)
{
    const unsigned m = n >= 16 ? 0xffffu : n <= 0 ? 0u : (1u << n) - 1;
    return _mm512_mask_blend_ps((__mmask16)m, fill, a);
}
INFC_INLINE v16f v16f_swap_pairs(v16f a) { return _mm512_permute_ps(a, 0xb1); }
INFC_INLINE float v16f_fold_add(v16f a)
{
    const v16f e = _mm512_add_ps(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    const v16f q = _mm512_add_ps(e, _mm512_shuffle_f32x4(e, e, 0xb1));
    const v16f d = _mm512_add_ps(q, _mm512_permute_ps(q, 0x4e));
    return _mm512_cvtss_f32(_mm512_add_ps(d, _mm512_permute_ps(d, 0xb1)));
}
INFC_INLINE float v16f_fold_max(v16f a)
{
    const v16f e = _mm512_max_ps(a, _mm512_shuffle_f32x4(a, a, 0x4e));
    const v16f q = _mm512_max_ps(e, _mm512_shuffle_f32x4(e, e, 0xb1));
    const v16f d = _mm512_max_ps(q, _mm512_permute_ps(q, 0x4e));
    return _mm512_cvtss_f32(_mm512_max_ps(d, _mm512_permute_ps(d, 0xb1)));
}
INFC_INLINE v16f v16f_from_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INFC_INLINE void v16f_to_f16(void *p, v16f a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INFC_INLINE v16f v16f_from_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INFC_INLINE v16f v16f_fraction(v16f a) { return _mm512_reduce_ps(a, _MM_FROUND_TO_NEAREST_INT); }
INFC_INLINE v16f v16f_scale(v16f a, v16f n) { return _mm512_scalef_ps(a, n); }
INFC_INLINE v16f v16f_from_i32(v16i a) { return _mm512_cvtepi32_ps(a); }
INFC_INLINE v16i v16f_bits(v16f a) { return _mm512_castps_si512(a); }
INFC_INLINE v16f v16f_of_bits(v16i a) { return _mm512_castsi512_ps(a); }

INFC_INLINE v16i v16i_load(const void *p) { return _mm512_loadu_si512(p); }
INFC_INLINE void v16i_store(void *p, v16i a) { _mm512_storeu_si512(p, a); }
INFC_INLINE v16i v16i_from_u8(const void *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INFC_INLINE v16i v16i_from_s8(const void *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INFC_INLINE v16i v16i_set1(int32_t x) { return _mm512_set1_epi32(x); }
INFC_INLINE v16i v16i_add(v16i a, v16i b) { return _mm512_add_epi32(a, b); }
INFC_INLINE v16i v16i_sub(v16i a, v16i b) { return _mm512_sub_epi32(a, b); }
INFC_INLINE v16i v16i_and(v16i a, v16i b) { return _mm512_and_si512(a, b); }
INFC_INLINE v16i v16i_or(v16i a, v16i b) { return _mm512_or_si512(a, b); }
INFC_INLINE v16i v16i_shl16(v16i a) { return _mm512_slli_epi32(a, 16); }
INFC_INLINE v16i v16i_shr4(v16i a) { return _mm512_srli_epi32(a, 4); }
INFC_INLINE v16i v16i_dot2(v16i s, v16i a, v16i b) { return _mm512_dpwssd_epi32(s, a, b); }
INFC_INLINE v16i v16i_max(v16i a, v16i b) { return _mm512_max_epi32(a, b); }
INFC_INLINE v16i v16i_shl21(v16i a) { return _mm512_slli_epi32(a, 21); }
INFC_INLINE v16i v16i_divide(v16i a, int n) { return n ? _mm512_srai_epi32(a, (unsigned)n) : a; }  // by 2^n, which divides a
INFC_INLINE v16i v16i_shl23(v16i a) { return _mm512_slli_epi32(a, 23); }
INFC_INLINE int32_t v16i_fold_add(v16i a) { return _mm512_reduce_add_epi32(a); }
INFC_INLINE int32_t v16i_fold_max(v16i a) { return _mm512_reduce_max_epi32(a); }
INFC_INLINE v16i v16i_round(v16f a) { return _mm512_cvtps_epi32(a); }
INFC_INLINE void v16i_store_i16(int16_t *p, v16i a) { _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(a)); }
INFC_INLINE void v16i_store_i8(int8_t *p, v16i a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(a)); }

INFC_INLINE v64b v64b_load(const void *p) { return (v64b){_mm512_loadu_si512(p)}; }
INFC_INLINE void v64b_store(void *p, v64b a) { _mm512_storeu_si512(p, a.v); }
INFC_INLINE v64b v64b_or(v64b a, v64b b) { return (v64b){_mm512_or_si512(a.v, b.v)}; }
INFC_INLINE v64b v64b_low4(v64b a) { return (v64b){_mm512_and_si512(a.v, _mm512_set1_epi8(15))}; }
INFC_INLINE v64b v64b_high4(v64b a) { return (v64b){_mm512_and_si512(_mm512_srli_epi16(a.v, 4), _mm512_set1_epi8(15))}; }
INFC_INLINE v64b v64b_sub(v64b a, int x) { return (v64b){_mm512_sub_epi8(a.v, _mm512_set1_epi8((char)x))}; }
INFC_INLINE v64b v64b_bits(v64b a, int from, int count, int to)
{
    const __m512i m = _mm512_set1_epi8((char)(((1 << count) - 1) << to));
    if (from > to) return (v64b){_mm512_and_si512(_mm512_srli_epi16(a.v, (unsigned)(from - to)), m)};
    return (v64b){_mm512_and_si512(_mm512_slli_epi16(a.v, (unsigned)(to - from)), m)};
}
INFC_INLINE v64b v64b_table(const int8_t *table, v64b a)
{
    return (v64b){_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)table)), a.v)};
}
INFC_INLINE v64b v64b_bit_to_16(v64b a, int g)
{
    return (v64b){_mm512_maskz_mov_epi8(_mm512_test_epi8_mask(a.v, _mm512_set1_epi8((char)(1 << g))), _mm512_set1_epi8(16))};
}

INFC_INLINE __m512i infc_bcast4(const int8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm512_set1_epi32(v);
}
INFC_INLINE vdot vdot_zero(void) { return (vdot){_mm512_setzero_si512()}; }
// A vdot that goes on from *sum, which is taken over where the two are alike
INFC_INLINE vdot vdot_begin(v16i *sum)
{
    const vdot r = {*sum};
    *sum = _mm512_setzero_si512();
    return r;
}
INFC_INLINE vdot vdot_step(vdot a, v64b w, const int8_t *x) { return (vdot){_mm512_dpbusd_epi32(a.v, w.v, infc_bcast4(x))}; }
INFC_INLINE v16i vdot_fold(vdot a) { return a.v; }
// dpbusd's weights are unsigned: add 128 here and take 128 sum(x) off again
enum { INFC_S8_BIAS = 128 };
INFC_INLINE v64b v64b_s8(v64b w) { return (v64b){_mm512_xor_si512(w.v, _mm512_set1_epi8((char)0x80))}; }
INFC_INLINE v16i vdot_step_s8(v16i a, v64b w, const int8_t *x) { return _mm512_dpbusd_epi32(a, w.v, infc_bcast4(x)); }
#define INFC_HALF_TERMS  // infc_half_terms of infc_simd.h
INFC_INLINE void infc_half_terms(const float *d, const int16_t *s, float *terms)
{
    const __m512i both = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)s));  // whole, first, whole, first ..
    const __m512i swapped = _mm512_shuffle_epi32(both, 0xb1);
    const __m512i halves = _mm512_mask_sub_epi32(swapped, 0xaaaa, swapped, both);
    static const int32_t twice[16] = {0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7};
    const __m512 scale = _mm512_permutexvar_ps(_mm512_loadu_si512(twice), _mm512_castps256_ps512(_mm256_loadu_ps(d)));
    _mm512_storeu_ps(terms, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(halves)));
}
// As in infc_simd_avx2.h
INFC_INLINE const uint8_t *infc_after(const uint8_t *p, v16i sum)
{
#if defined(INFC_EMULATE_AVX512)
    (void)sum;
#else
    __asm__("" : "+r"(p) : "v"(sum));
#endif
    return p;
}
INFC_INLINE void infc_prefetch(const void *p) { __builtin_prefetch(p); }
INFC_INLINE void infc_prefetch_weights(const void *p) { __builtin_prefetch(p, 0, 2); }
INFC_INLINE void infc_prefetch_l2(const void *p) { __builtin_prefetch(p, 0, 2); }
#endif
