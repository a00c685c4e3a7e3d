// infc_softmax.c: deterministic exp and log.
#include "infc_softmax.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "infc_program.h"

#define WIDTH 4
#define TARGET
#define NAME(x) x##_4
#define SAME(x) ((V){(x), (x), (x), (x)})
#include "infc_softmax_passes.h"

#if defined(__x86_64__)
#define WIDTH 8
#define TARGET __attribute__((target("avx2")))
#define NAME(x) x##_8
#define SAME(x) ((V){(x), (x), (x), (x), (x), (x), (x), (x)})
#include "infc_softmax_passes.h"

#define WIDTH 16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define NAME(x) x##_16
#define SAME(x) ((V){(x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x), (x)})
#include "infc_softmax_passes.h"
#endif

const infc_passes *infc_passes_for(uint32_t cpu_features) {
#if defined(__x86_64__)
    if (cpu_features & INFC_CPU_AVX512) return &passes_16;
    if (cpu_features & INFC_CPU_AVX2) return &passes_8;
#endif
    (void)cpu_features;
    return &passes_4;
}

// x = 2^e * m with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m-1)/(m+1), by its series: s^2 < 0.0295, 12 terms.
double infc_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t e = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffff) | 0x3ff0000000000000;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp0) {
        m *= 0.5;
        e++;
    }
    const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
    double series = 0;
    for (int k = 23; k >= 3; k -= 2) series = (series + 1.0 / k) * s2;
    return (double)e * 0x1.62e42fefa39efp-1 + 2.0 * (s + s * series);
}
