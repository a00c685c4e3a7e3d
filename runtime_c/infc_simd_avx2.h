// infc_simd_avx2.h: infc_simd.h for AVX2 + FMA + F16C: two 256-bit registers per 16 lanes.
#ifndef INFC_SIMD_AVX2_H
#define INFC_SIMD_AVX2_H
#include <immintrin.h>

enum {
    INFC_TILE_ROWS = 4,    // rows of activations that share a load of weights
    INFC_SMALL_TILE_ROWS = 4,  // the same where a panel is read once, as stored
    INFC_PREFETCH_BYTES = 6144,  // ahead of the block at work while weights come from memory: docs/performance.md
    INFC_GEMM_PANELS = 1,  // panels side by side in a gemm tile: 4 rows x 1 panel fill the 16 registers
    INFC_F32_PANELS = 4,   // panels side by side when few rows leave the fma units waiting for their own results
    INFC_ATTN_QUERIES = 4,  // queries that share a load of keys or values
    INFC_ATTN_SUMS = 4,     // accumulators of 16 lanes in attention (with 6, gcc spills one and the loop takes half as long again)
    INFC_Q16_QUERIES = 4,   // the same two of attention over a q16 cache
    INFC_Q16_SUMS = 4,
};

typedef struct { __m256 l, h; } v16f;   // lanes 0-7, 8-15
typedef struct { __m256i l, h; } v16i;
typedef struct { __m256i l, h; } v64b;
typedef struct { __m256i l, h; } vdot;  // s16 pairs

INFC_INLINE v16f v16f_set1(float x) { return (v16f){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INFC_INLINE v16f v16f_zero(void) { return v16f_set1(0.0f); }
INFC_INLINE v16f v16f_load(const float *p) { return (v16f){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INFC_INLINE void v16f_store(float *p, v16f a)
{
    _mm256_storeu_ps(p, a.l);
    _mm256_storeu_ps(p + 8, a.h);
}
INFC_INLINE v16f v16f_add(v16f a, v16f b) { return (v16f){_mm256_add_ps(a.l, b.l), _mm256_add_ps(a.h, b.h)}; }
INFC_INLINE v16f v16f_sub(v16f a, v16f b) { return (v16f){_mm256_sub_ps(a.l, b.l), _mm256_sub_ps(a.h, b.h)}; }
INFC_INLINE v16f v16f_mul(v16f a, v16f b) { return (v16f){_mm256_mul_ps(a.l, b.l), _mm256_mul_ps(a.h, b.h)}; }
INFC_INLINE v16f v16f_div(v16f a, v16f b) { return (v16f){_mm256_div_ps(a.l, b.l), _mm256_div_ps(a.h, b.h)}; }
// a > b ? a : b in every lane (b where either is NaN)
INFC_INLINE v16f v16f_max(v16f a, v16f b) { return (v16f){_mm256_max_ps(a.l, b.l), _mm256_max_ps(a.h, b.h)}; }
INFC_INLINE v16f v16f_min(v16f a, v16f b) { return (v16f){_mm256_min_ps(a.l, b.l), _mm256_min_ps(a.h, b.h)}; }
// a * b + c, rounded once
INFC_INLINE v16f v16f_fma(v16f a, v16f b, v16f c)
{
    return (v16f){_mm256_fmadd_ps(a.l, b.l, c.l), _mm256_fmadd_ps(a.h, b.h, c.h)};
}
// a < b ? x : y
INFC_INLINE v16f v16f_if_less(v16f a, v16f b, v16f x, v16f y)
{
    return (v16f){_mm256_blendv_ps(y.l, x.l, _mm256_cmp_ps(a.l, b.l, _CMP_LT_OQ)),
                  _mm256_blendv_ps(y.h, x.h, _mm256_cmp_ps(a.h, b.h, _CMP_LT_OQ))};
}
// a is NaN ? x : y
INFC_INLINE v16f v16f_if_nan(v16f a, v16f x, v16f y)
{
    return (v16f){_mm256_blendv_ps(y.l, x.l, _mm256_cmp_ps(a.l, a.l, _CMP_UNORD_Q)),
                  _mm256_blendv_ps(y.h, x.h, _mm256_cmp_ps(a.h, a.h, _CMP_UNORD_Q))};
}
// lanes below n keep a, the others take fill
INFC_INLINE v16f v16f_keep(v16f a, int n, v16f fill)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i l = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane), h = _mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lane);
    return (v16f){_mm256_blendv_ps(fill.l, a.l, _mm256_castsi256_ps(l)), _mm256_blendv_ps(fill.h, a.h, _mm256_castsi256_ps(h))};
}
// neighbours change places: lanes 1 0 3 2 ...
INFC_INLINE v16f v16f_swap_pairs(v16f a) { return (v16f){_mm256_permute_ps(a.l, 0xb1), _mm256_permute_ps(a.h, 0xb1)}; }
// ((lane + lane 8) + lane 4) + ...: 16 -> 8 -> 4 -> 2 -> 1
INFC_INLINE float v16f_fold_add(v16f a)
{
    const __m256 e = _mm256_add_ps(a.l, a.h);
    const __m128 q = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
INFC_INLINE float v16f_fold_max(v16f a)
{
    const __m256 e = _mm256_max_ps(a.l, a.h);
    const __m128 q = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}
INFC_INLINE v16f v16f_from_f16(const void *p)
{
    const __m128i *h = (const __m128i *)p;
    return (v16f){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
INFC_INLINE void v16f_to_f16(void *p, v16f a)  // round to nearest even
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.l, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(a.h, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INFC_INLINE v16f v16f_from_bf16(const void *p)
{
    const __m128i *h = (const __m128i *)p;
    return (v16f){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h)), 16)),
                  _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)), 16))};
}
// a - (the integer nearest to a, ties to even), exact; |a| < 2^22
INFC_INLINE v16f v16f_fraction(v16f a)
{
    const v16f magic = v16f_set1(12582912.0f);  // 1.5 * 2^23: an addition leaves no fraction
    return v16f_sub(a, v16f_sub(v16f_add(a, magic), magic));
}
// a * 2^n; n is an integer, a and the result are normal. NaN if both are
INFC_INLINE v16f v16f_scale(v16f a, v16f n)
{
    const v16f t = v16f_add(n, v16f_set1(12582912.0f));  // n in the low bits; what else is there is shifted out
    return (v16f){_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.l), _mm256_slli_epi32(_mm256_castps_si256(t.l), 23))),
                  _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.h), _mm256_slli_epi32(_mm256_castps_si256(t.h), 23)))};
}
INFC_INLINE v16f v16f_from_i32(v16i a) { return (v16f){_mm256_cvtepi32_ps(a.l), _mm256_cvtepi32_ps(a.h)}; }
INFC_INLINE v16i v16f_bits(v16f a) { return (v16i){_mm256_castps_si256(a.l), _mm256_castps_si256(a.h)}; }
INFC_INLINE v16f v16f_of_bits(v16i a) { return (v16f){_mm256_castsi256_ps(a.l), _mm256_castsi256_ps(a.h)}; }

INFC_INLINE v16i v16i_load(const void *p)
{
    const __m256i *b = (const __m256i *)p;
    return (v16i){_mm256_loadu_si256(b), _mm256_loadu_si256(b + 1)};
}
INFC_INLINE void v16i_store(void *p, v16i a)
{
    _mm256_storeu_si256((__m256i *)p, a.l);
    _mm256_storeu_si256((__m256i *)p + 1, a.h);
}
INFC_INLINE v16i v16i_from_u8(const void *p)
{
    const __m128i b = _mm_loadu_si128((const __m128i *)p);
    return (v16i){_mm256_cvtepu8_epi32(b), _mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))};
}
INFC_INLINE v16i v16i_from_s8(const void *p)
{
    const __m128i b = _mm_loadu_si128((const __m128i *)p);
    return (v16i){_mm256_cvtepi8_epi32(b), _mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))};
}
INFC_INLINE v16i v16i_set1(int32_t x) { return (v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
INFC_INLINE v16i v16i_add(v16i a, v16i b) { return (v16i){_mm256_add_epi32(a.l, b.l), _mm256_add_epi32(a.h, b.h)}; }
INFC_INLINE v16i v16i_sub(v16i a, v16i b) { return (v16i){_mm256_sub_epi32(a.l, b.l), _mm256_sub_epi32(a.h, b.h)}; }
INFC_INLINE v16i v16i_and(v16i a, v16i b) { return (v16i){_mm256_and_si256(a.l, b.l), _mm256_and_si256(a.h, b.h)}; }
INFC_INLINE v16i v16i_or(v16i a, v16i b) { return (v16i){_mm256_or_si256(a.l, b.l), _mm256_or_si256(a.h, b.h)}; }
INFC_INLINE v16i v16i_shl16(v16i a) { return (v16i){_mm256_slli_epi32(a.l, 16), _mm256_slli_epi32(a.h, 16)}; }
INFC_INLINE v16i v16i_shr4(v16i a) { return (v16i){_mm256_srli_epi32(a.l, 4), _mm256_srli_epi32(a.h, 4)}; }
// s + a b over the two int16 of every lane, modulo 2^32
INFC_INLINE v16i v16i_dot2(v16i s, v16i a, v16i b)
{
    return (v16i){_mm256_add_epi32(s.l, _mm256_madd_epi16(a.l, b.l)), _mm256_add_epi32(s.h, _mm256_madd_epi16(a.h, b.h))};
}
INFC_INLINE v16i v16i_max(v16i a, v16i b) { return (v16i){_mm256_max_epi32(a.l, b.l), _mm256_max_epi32(a.h, b.h)}; }
INFC_INLINE v16i v16i_shl21(v16i a) { return (v16i){_mm256_slli_epi32(a.l, 21), _mm256_slli_epi32(a.h, 21)}; }
INFC_INLINE v16i v16i_shl23(v16i a) { return (v16i){_mm256_slli_epi32(a.l, 23), _mm256_slli_epi32(a.h, 23)}; }
INFC_INLINE int32_t v16i_fold_add(v16i a)
{
    const __m256i e = _mm256_add_epi32(a.l, a.h);
    const __m128i q = _mm_add_epi32(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
    const __m128i d = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(d, _mm_shuffle_epi32(d, 0xb1)));
}
INFC_INLINE int32_t v16i_fold_max(v16i a)
{
    const __m256i e = _mm256_max_epi32(a.l, a.h);
    const __m128i q = _mm_max_epi32(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
    const __m128i d = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(d, _mm_shuffle_epi32(d, 0xb1)));
}
// nearest even; |a| < 2^22
INFC_INLINE v16i v16i_round(v16f a) { return (v16i){_mm256_cvtps_epi32(a.l), _mm256_cvtps_epi32(a.h)}; }
// 16 int16; values within -32768..32767
INFC_INLINE void v16i_store_i16(int16_t *p, v16i a)
{
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(_mm256_packs_epi32(a.l, a.h), 0xd8));
}
// 16 bytes; values within -128..127
INFC_INLINE void v16i_store_i8(int8_t *p, v16i a)
{
    const __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.l, a.h), 0xd8);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}

INFC_INLINE v64b v64b_load(const void *p)
{
    const __m256i *b = (const __m256i *)p;
    return (v64b){_mm256_loadu_si256(b), _mm256_loadu_si256(b + 1)};
}
INFC_INLINE void v64b_store(void *p, v64b a)
{
    _mm256_storeu_si256((__m256i *)p, a.l);
    _mm256_storeu_si256((__m256i *)p + 1, a.h);
}
INFC_INLINE v64b v64b_or(v64b a, v64b b) { return (v64b){_mm256_or_si256(a.l, b.l), _mm256_or_si256(a.h, b.h)}; }
INFC_INLINE v64b v64b_low4(v64b a)
{
    const __m256i m = _mm256_set1_epi8(15);
    return (v64b){_mm256_and_si256(a.l, m), _mm256_and_si256(a.h, m)};
}
INFC_INLINE v64b v64b_high4(v64b a)
{
    const __m256i m = _mm256_set1_epi8(15);
    return (v64b){_mm256_and_si256(_mm256_srli_epi16(a.l, 4), m), _mm256_and_si256(_mm256_srli_epi16(a.h, 4), m)};
}
INFC_INLINE v64b v64b_sub(v64b a, int x)
{
    const __m256i v = _mm256_set1_epi8((char)x);
    return (v64b){_mm256_sub_epi8(a.l, v), _mm256_sub_epi8(a.h, v)};
}
// `count` bits of every byte, moved from bit `from` on to bit `to` on
INFC_INLINE v64b v64b_bits(v64b a, int from, int count, int to)
{
    const __m256i m = _mm256_set1_epi8((char)(((1 << count) - 1) << to));
    if (from > to)
        return (v64b){_mm256_and_si256(_mm256_srli_epi16(a.l, from - to), m), _mm256_and_si256(_mm256_srli_epi16(a.h, from - to), m)};
    return (v64b){_mm256_and_si256(_mm256_slli_epi16(a.l, to - from), m), _mm256_and_si256(_mm256_slli_epi16(a.h, to - from), m)};
}
// table[a] for every byte; a is below 16
INFC_INLINE v64b v64b_table(const int8_t *table, v64b a)
{
    const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return (v64b){_mm256_shuffle_epi8(t, a.l), _mm256_shuffle_epi8(t, a.h)};
}
// bit g of every byte, moved to bit 4
INFC_INLINE v64b v64b_bit_to_16(v64b a, int g)
{
    const __m256i m = _mm256_set1_epi8((char)(1 << g));
    const __m256i l = _mm256_and_si256(a.l, m), h = _mm256_and_si256(a.h, m);
    if (g <= 4) return (v64b){_mm256_slli_epi16(l, 4 - g), _mm256_slli_epi16(h, 4 - g)};
    return (v64b){_mm256_srli_epi16(l, g - 4), _mm256_srli_epi16(h, g - 4)};
}

INFC_INLINE __m256i infc_bcast4(const int8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm256_set1_epi32(v);
}
INFC_INLINE vdot vdot_zero(void) { return (vdot){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
INFC_INLINE vdot vdot_begin(v16i *sum) { return (void)sum, vdot_zero(); }
// a += w (unsigned) . x[0..3], in every lane
INFC_INLINE vdot vdot_step(vdot a, v64b w, const int8_t *x)
{
    const __m256i v = infc_bcast4(x);
    vdot r = {_mm256_add_epi16(a.l, _mm256_maddubs_epi16(w.l, v)), _mm256_add_epi16(a.h, _mm256_maddubs_epi16(w.h, v))};
    __asm__("" : "+x"(r.l), "+x"(r.h));  // else gcc makes a tree of the chain of additions and spills its leaves
    return r;
}
INFC_INLINE v16i vdot_fold(vdot a)
{
    const __m256i one = _mm256_set1_epi16(1);
    return (v16i){_mm256_madd_epi16(a.l, one), _mm256_madd_epi16(a.h, one)};
}
// Signed weights: vdot_step_s8 computes sum (w + INFC_S8_BIAS) * x on what v64b_s8 made of w.
enum { INFC_S8_BIAS = 0 };
INFC_INLINE v64b v64b_s8(v64b w) { return w; }
// |w| <= 128 is unsigned and x takes w's sign: products of a pair are <= 2 * 128 * 127 < 2^15
INFC_INLINE v16i vdot_step_s8(v16i a, v64b w, const int8_t *x)
{
    const __m256i v = infc_bcast4(x), one = _mm256_set1_epi16(1);
    const __m256i l = _mm256_maddubs_epi16(_mm256_abs_epi8(w.l), _mm256_sign_epi8(v, w.l));
    const __m256i h = _mm256_maddubs_epi16(_mm256_abs_epi8(w.h), _mm256_sign_epi8(v, w.h));
    v16i r = {_mm256_add_epi32(a.l, _mm256_madd_epi16(l, one)), _mm256_add_epi32(a.h, _mm256_madd_epi16(h, one))};
    __asm__("" : "+x"(r.l), "+x"(r.h));  // as in vdot_step
    return r;
}
// p; but what is loaded from it the compiler puts behind the computation of sum. gcc liked to begin a block with its last line.
INFC_INLINE const uint8_t *infc_after(const uint8_t *p, v16i sum)
{
    __asm__("" : "+r"(p) : "x"(sum.l), "x"(sum.h));
    return p;
}
INFC_INLINE void infc_prefetch(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
INFC_INLINE void infc_prefetch_weights(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T0); }
INFC_INLINE void infc_prefetch_l2(const void *p) { _mm_prefetch((const char *)p, _MM_HINT_T1); }
#endif
