// infc_simd.h: sixteen lanes, the same names on every instruction set; -DINFC_ISA_SCALAR, _AVX2, _AVX512 or _AMX chooses.
//
// A function of these headers does the same IEEE operation in every lane on every ISA, so code written with them has the same bits
// everywhere (DESIGN section 4). Build with -ffp-contract=off: a compiler that fuses a multiply and an add of its own breaks that.
//
//   v16f   16 floats      v16i   16 int32      v64b   64 bytes: 16 dword lanes (one weight row each) of 4 bytes (4 values of k)
//   vdot   partial sums of u8 x s8 products; steps between two folds: 8 while weights are <= 15, 4 while they are <= 31
#ifndef INFC_SIMD_H
#define INFC_SIMD_H
#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INFC_INLINE static inline __attribute__((always_inline))  // dimensions are constants only after inlining

#if defined(INFC_EMULATE_AVX512)
#define INFC_UNROLL  // of calls, it only takes time
#elif defined(__clang__)
#define INFC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define INFC_UNROLL _Pragma("GCC unroll 16")
#endif

// Inline where 16 lanes are a register or two; called where they are a page of code.
#if defined(INFC_ISA_SCALAR)
#define INFC_HEAVY __attribute__((noinline, unused)) static
#else
#define INFC_HEAVY INFC_INLINE
#endif

// Not 0: this CPU drops a prefetch that finds its requests all under way, so what must come is to be asked for again (docs/performance.md).
// infc_cpu.c; set before a model's first step.
extern _Atomic int infc_cpu_drops;
INFC_INLINE int infc_drops_prefetches(void) { return atomic_load_explicit(&infc_cpu_drops, memory_order_relaxed); }

#if defined(INFC_ISA_AMX)
#include "infc_simd_avx512.h"
#include "infc_simd_amx.h"
#elif defined(INFC_ISA_AVX512)
#include "infc_simd_avx512.h"
#elif defined(INFC_ISA_AVX2)
#include "infc_simd_avx2.h"
#elif defined(INFC_ISA_SCALAR)
#include "infc_simd_scalar.h"
#else
#error "define INFC_ISA_SCALAR, INFC_ISA_AVX2, INFC_ISA_AVX512 or INFC_ISA_AMX"
#endif

// A line of the stream of weights at p, on a CPU that drops prefetches: 30 GB/s on Zen 4, one of the three alone 21
INFC_INLINE void infc_prefetch_thrice(const uint8_t *p)
{
    infc_prefetch_l2(p + 16384);
    infc_prefetch_l2(p + 8192);
    infc_prefetch_l2(p + 4096);
}

INFC_INLINE float infc_bits_to_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

INFC_INLINE uint32_t infc_float_to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

INFC_INLINE float infc_bf16_to_f32(uint16_t h) { return infc_bits_to_float((uint32_t)h << 16); }

// Exact, subnormals too; NaN payloads are kept and quieted, as the hardware does.
INFC_INLINE float infc_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 0x3ff;
    if (e == 31) return infc_bits_to_float(sign | 0x7f800000u | m << 13 | (m ? 0x400000u : 0));
    if (e == 0) {
        const float f = (float)m * 0x1p-24f;  // exact
        return infc_bits_to_float(infc_float_to_bits(f) | sign);
    }
    return infc_bits_to_float(sign | (e + 112) << 23 | m << 13);
}

#if !defined(INFC_HALF_TERMS)
// terms: d times the sum of q over each half of eight blocks of a row
INFC_INLINE void infc_half_terms(const float *d, const int16_t *s, float *terms)
{
    for (int b = 0; b < 8; b++) {
        terms[2 * b] = d[b] * (float)s[2 * b + 1];
        terms[2 * b + 1] = d[b] * (float)(s[2 * b] - s[2 * b + 1]);
    }
}
#endif
#endif
