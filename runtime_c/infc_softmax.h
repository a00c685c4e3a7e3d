// infc_softmax.h: exp and log of our own for the sampler, so that the same seed gives the same text with every C library and on
// every CPU: plain multiplications and additions in a fixed order, no fma (build with -ffp-contract=off). Sums use 16 lanes (index
// mod 16), added up in double every 1,024 elements. Vectors of 4 lanes, which every 64-bit baseline has, or of 8 or 16.
#ifndef INFC_SOFTMAX_H
#define INFC_SOFTMAX_H
#include <stddef.h>
#include <stdint.h>

enum { INFC_LANES = 16 };
static inline size_t infc_padded(size_t n) { return (n + INFC_LANES - 1) / INFC_LANES * INFC_LANES; }

// The passes over a vocabulary. Twins for wider vectors give the same bits.
typedef struct infc_passes {
    // Copies n logits: NaN becomes -inf, +inf becomes FLT_MAX; out (infc_padded(n), 16-byte aligned) is filled up with -inf.
    // Returns the largest, -inf when there is none.
    float (*copy)(float *out, const float *logits, size_t n);
    // Largest of x (padded to 16 with -inf, 16-byte aligned).
    float (*max)(const float *x, size_t n);
    // First index of a value that is in x (as above).
    int32_t (*first_of)(const float *x, float value);
    // Sum of exp(x[i] - max), x as above, max finite.
    double (*sum_exp)(const float *x, size_t n, float max);
    // out[i] = exp((x[i] - max) * scale), 0 below exp(-87); x and out as above, may be the same. Relative error < 2.5e-7.
    void (*exp)(float *out, const float *x, size_t n, float max, float scale);
} infc_passes;

// Those of the widest vectors that these INFC_CPU_* bits allow.
const infc_passes *infc_passes_for(uint32_t cpu_features);

// Natural logarithm of a positive, finite, normal x; error < 2 ulp.
double infc_log(double x);

#endif
