// The AVX-512 intrinsics of runtime_c/infc_simd_avx512.h in plain C, from Intel's description of each, so that its logic is tested
// on machines without AVX-512. Only what that header uses; speed does not matter.
#ifndef INFC_EMUL_AVX512_H
#define INFC_EMUL_AVX512_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#define EMUL __attribute__((noinline, unused)) static  // inlined, it takes gcc minutes
#define EACH(n) for (int i = 0; i < (n); i++)

typedef struct { float f[16]; } __m512;
typedef struct { float f[8]; } __m256;
typedef union { int32_t d[16]; uint32_t u[16]; uint16_t w[32]; uint8_t b[64]; } __m512i;
typedef struct { uint16_t w[16]; } __m256i;
typedef struct { int8_t b[16]; } __m128i;
typedef uint16_t __mmask16;
typedef uint64_t __mmask64;
enum { _CMP_LT_OQ = 17, _CMP_UNORD_Q = 3, _MM_FROUND_TO_NEAREST_INT = 0, _MM_FROUND_NO_EXC = 8 };

EMUL __m512 _mm512_set1_ps(float x) { __m512 r; EACH(16) r.f[i] = x; return r; }
EMUL __m512 _mm512_setzero_ps(void) { return _mm512_set1_ps(0.0f); }
EMUL __m512 _mm512_loadu_ps(const void *p) { __m512 r; memcpy(&r, p, 64); return r; }
EMUL void _mm512_storeu_ps(void *p, __m512 a) { memcpy(p, &a, 64); }
EMUL __m512 _mm512_add_ps(__m512 a, __m512 b) { EACH(16) a.f[i] += b.f[i]; return a; }
EMUL __m512 _mm512_sub_ps(__m512 a, __m512 b) { EACH(16) a.f[i] -= b.f[i]; return a; }
EMUL __m512 _mm512_mul_ps(__m512 a, __m512 b) { EACH(16) a.f[i] *= b.f[i]; return a; }
EMUL __m512 _mm512_div_ps(__m512 a, __m512 b) { EACH(16) a.f[i] /= b.f[i]; return a; }
EMUL __m512 _mm512_max_ps(__m512 a, __m512 b) { EACH(16) a.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i]; return a; }
EMUL __m512 _mm512_min_ps(__m512 a, __m512 b) { EACH(16) a.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i]; return a; }
EMUL __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) { EACH(16) c.f[i] = fmaf(a.f[i], b.f[i], c.f[i]); return c; }
EMUL __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int op)
{
    __mmask16 m = 0;
    EACH(16) m |= (__mmask16)((op == _CMP_LT_OQ ? a.f[i] < b.f[i] : isnan(a.f[i]) || isnan(b.f[i])) << i);
    return m;
}
EMUL __m512 _mm512_mask_blend_ps(__mmask16 m, __m512 a, __m512 b) { EACH(16) a.f[i] = m >> i & 1 ? b.f[i] : a.f[i]; return a; }
EMUL __m512 _mm512_permute_ps(__m512 a, int c) { __m512 r; EACH(16) r.f[i] = a.f[i / 4 * 4 + (c >> 2 * (i % 4) & 3)]; return r; }
EMUL __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int c)
{
    __m512 r;
    EACH(16) r.f[i] = (i < 8 ? a : b).f[4 * (c >> 2 * (i / 4) & 3) + i % 4];
    return r;
}
EMUL float _mm512_cvtss_f32(__m512 a) { return a.f[0]; }
EMUL __m512 _mm512_cvtepi32_ps(__m512i a) { __m512 r; EACH(16) r.f[i] = (float)a.d[i]; return r; }
EMUL __m512i _mm512_cvtps_epi32(__m512 a) { __m512i r; EACH(16) r.d[i] = (int32_t)rintf(a.f[i]); return r; }
EMUL __m512i _mm512_castps_si512(__m512 a) { __m512i r; memcpy(&r, &a, 64); return r; }
EMUL __m512 _mm512_castsi512_ps(__m512i a) { __m512 r; memcpy(&r, &a, 64); return r; }

// f16 by its definition: (-1)^s m 2^(e - 25), where m has the hidden bit unless e = 0
EMUL __m512 _mm512_cvtph_ps(__m256i a)
{
    __m512 r;
    EACH(16) {
        const int e = a.w[i] >> 10 & 31, m = a.w[i] & 1023;
        float f = e == 31 ? INFINITY : e ? ldexpf((float)(m + 1024), e - 25) : ldexpf((float)m, -24);
        if (e == 31 && m) {
            const uint32_t nan = 0x7fc00000u | (uint32_t)m << 13;
            memcpy(&f, &nan, 4);
        }
        r.f[i] = copysignf(f, a.w[i] >> 15 ? -1.0f : 1.0f);
    }
    return r;
}
EMUL __m256i _mm512_cvtps_ph(__m512 a, int mode)
{
    __m256i r;
    (void)mode;
    EACH(16) {
        const float x = fabsf(a.f[i]);
        unsigned h;
        if (isnan(x)) {
            uint32_t u;
            memcpy(&u, &x, 4);
            h = 0x7e00 | (u >> 13 & 1023);
        } else if (x >= 65520.0f) {
            h = 0x7c00;
        } else {
            int e = -14;  // of the last place: 2^(e - 10)
            if (x >= 0x1p-14f) e = ilogbf(x);
            h = (unsigned)((e + 14) * 1024 + (int)rint(ldexp((double)x, 10 - e)));  // the hidden bit adds 1 to the exponent field
        }
        r.w[i] = (uint16_t)(h | (signbit(a.f[i]) ? 0x8000 : 0));
    }
    return r;
}
EMUL __m256i _mm256_loadu_si256(const __m256i *p) { __m256i r; memcpy(&r, p, 32); return r; }
EMUL void _mm256_storeu_si256(__m256i *p, __m256i a) { memcpy(p, &a, 32); }
EMUL __m128i _mm_loadu_si128(const __m128i *p) { __m128i r; memcpy(&r, p, 16); return r; }
EMUL __m512i _mm512_cvtepu8_epi32(__m128i a) { __m512i r; EACH(16) r.u[i] = (uint8_t)a.b[i]; return r; }
EMUL __m512i _mm512_cvtepi8_epi32(__m128i a) { __m512i r; EACH(16) r.d[i] = a.b[i]; return r; }
EMUL __m512i _mm512_broadcast_i32x4(__m128i a) { __m512i r; EACH(64) r.b[i] = (uint8_t)a.b[i % 16]; return r; }
EMUL void _mm_storeu_si128(__m128i *p, __m128i a) { memcpy(p, &a, 16); }
EMUL __m512i _mm512_cvtepu16_epi32(__m256i a) { __m512i r; EACH(16) r.u[i] = a.w[i]; return r; }

EMUL __m512i _mm512_cvtepi16_epi32(__m256i a) { __m512i r; EACH(16) r.d[i] = (int16_t)a.w[i]; return r; }
EMUL __m256 _mm256_loadu_ps(const float *p) { __m256 r; memcpy(&r, p, 32); return r; }
EMUL __m512 _mm512_castps256_ps512(__m256 a) { __m512 r; EACH(16) r.f[i] = i < 8 ? a.f[i] : NAN; return r; }
EMUL __m512 _mm512_permutexvar_ps(__m512i n, __m512 a) { __m512 r; EACH(16) r.f[i] = a.f[n.u[i] & 15]; return r; }
EMUL __m512i _mm512_shuffle_epi32(__m512i a, int c) { __m512i r; EACH(16) r.d[i] = a.d[i / 4 * 4 + (c >> 2 * (i % 4) & 3)]; return r; }
EMUL __m512i _mm512_mask_sub_epi32(__m512i s, __mmask16 m, __m512i a, __m512i b) { EACH(16) s.u[i] = m >> i & 1 ? a.u[i] - b.u[i] : s.u[i]; return s; }
EMUL __m512i _mm512_set1_epi32(int32_t x) { __m512i r; EACH(16) r.d[i] = x; return r; }
EMUL __m512i _mm512_set1_epi8(char x) { __m512i r; EACH(64) r.b[i] = (uint8_t)x; return r; }
EMUL __m512i _mm512_setzero_si512(void) { return _mm512_set1_epi32(0); }
EMUL __m512i _mm512_loadu_si512(const void *p) { __m512i r; memcpy(&r, p, 64); return r; }
EMUL void _mm512_storeu_si512(void *p, __m512i a) { memcpy(p, &a, 64); }
EMUL __m512i _mm512_add_epi32(__m512i a, __m512i b) { EACH(16) a.u[i] += b.u[i]; return a; }
EMUL __m512i _mm512_sub_epi32(__m512i a, __m512i b) { EACH(16) a.u[i] -= b.u[i]; return a; }
EMUL __m512i _mm512_and_si512(__m512i a, __m512i b) { EACH(16) a.u[i] &= b.u[i]; return a; }
EMUL __m512i _mm512_or_si512(__m512i a, __m512i b) { EACH(16) a.u[i] |= b.u[i]; return a; }
EMUL __m512i _mm512_xor_si512(__m512i a, __m512i b) { EACH(16) a.u[i] ^= b.u[i]; return a; }
EMUL __m512i _mm512_max_epi32(__m512i a, __m512i b) { EACH(16) a.d[i] = a.d[i] > b.d[i] ? a.d[i] : b.d[i]; return a; }
EMUL __m512i _mm512_slli_epi32(__m512i a, unsigned n) { EACH(16) a.u[i] <<= n; return a; }
EMUL __m512i _mm512_sub_epi8(__m512i a, __m512i b) { EACH(64) a.b[i] = (uint8_t)(a.b[i] - b.b[i]); return a; }
EMUL __m512i _mm512_slli_epi16(__m512i a, unsigned n) { EACH(32) a.w[i] = (uint16_t)(a.w[i] << n); return a; }
EMUL __m512i _mm512_shuffle_epi8(__m512i a, __m512i b)
{
    __m512i r;
    EACH(64) r.b[i] = b.b[i] & 128 ? 0 : a.b[i / 16 * 16 + (b.b[i] & 15)];
    return r;
}
EMUL __m512i _mm512_srai_epi32(__m512i a, unsigned n) { EACH(16) a.d[i] >>= n; return a; }
EMUL __m512i _mm512_srli_epi32(__m512i a, unsigned n) { EACH(16) a.u[i] >>= n; return a; }
EMUL __m512i _mm512_srli_epi16(__m512i a, unsigned n) { EACH(32) a.w[i] = (uint16_t)(a.w[i] >> n); return a; }
EMUL int32_t _mm512_reduce_add_epi32(__m512i a) { uint32_t s = 0; EACH(16) s += a.u[i]; return (int32_t)s; }
EMUL int32_t _mm512_reduce_max_epi32(__m512i a) { int32_t s = a.d[0]; EACH(16) s = a.d[i] > s ? a.d[i] : s; return s; }
EMUL __m128i _mm512_cvtsepi32_epi8(__m512i a)
{
    __m128i r;
    EACH(16) r.b[i] = (int8_t)(a.d[i] > 127 ? 127 : a.d[i] < -128 ? -128 : a.d[i]);
    return r;
}
EMUL __mmask64 _mm512_test_epi8_mask(__m512i a, __m512i b)
{
    __mmask64 m = 0;
    EACH(64) m |= (__mmask64)((a.b[i] & b.b[i]) != 0) << i;
    return m;
}
EMUL __m512i _mm512_maskz_mov_epi8(__mmask64 m, __m512i a) { EACH(64) a.b[i] = m >> i & 1 ? a.b[i] : 0; return a; }
EMUL __m512i _mm512_dpbusd_epi32(__m512i s, __m512i a, __m512i b)
{
    EACH(64) s.d[i / 4] += (int32_t)a.b[i] * (int8_t)b.b[i];
    return s;
}
EMUL __m512i _mm512_dpwssd_epi32(__m512i s, __m512i a, __m512i b)
{
    EACH(32) s.u[i / 2] += (uint32_t)((int16_t)a.w[i] * (int16_t)b.w[i]);
    return s;
}
EMUL __m256i _mm512_cvtepi32_epi16(__m512i a) { __m256i r; EACH(16) r.w[i] = (uint16_t)a.u[i]; return r; }
EMUL __m512 _mm512_reduce_ps(__m512 a, int mode) { (void)mode; EACH(16) a.f[i] -= rintf(a.f[i]); return a; }
EMUL __m512 _mm512_scalef_ps(__m512 a, __m512 n) { EACH(16) a.f[i] = isnan(n.f[i]) ? n.f[i] : ldexpf(a.f[i], (int)floorf(n.f[i])); return a; }
#undef EACH
#endif
