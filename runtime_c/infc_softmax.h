// infc_softmax.h: exp and log of our own for the sampler, so that the same seed gives the same text with every C library and on
// every CPU: plain multiplications and additions in a fixed order, no fma (build with -ffp-contract=off). Vectors of 4 lanes, which
// every 64-bit baseline has; sums use 16 lanes (index mod 16), added up in double every 1,024 elements.
#ifndef INFC_SOFTMAX_H
#define INFC_SOFTMAX_H
#include <stddef.h>
#include <stdint.h>

enum { INFC_LANES = 16 };
static inline size_t infc_padded(size_t n) { return (n + INFC_LANES - 1) / INFC_LANES * INFC_LANES; }

// Copies n logits: NaN becomes -inf, +inf becomes FLT_MAX; out (infc_padded(n), 16-byte aligned) is filled up with -inf.
// Returns the largest, -inf when there is none.
float infc_logits_copy(float *out, const float *logits, size_t n);
// Largest of x (padded to 16 with -inf, 16-byte aligned).
float infc_logits_max(const float *x, size_t n);
// First index of a value that is in x (as above).
int32_t infc_first_of(const float *x, float value);
// Sum of exp(x[i] - max), x as above, max finite.
double infc_sum_exp(const float *x, size_t n, float max);
// out[i] = exp((x[i] - max) * scale), 0 below exp(-87); x and out as above, may be the same. Relative error < 2.5e-7.
void infc_exp(float *out, const float *x, size_t n, float max, float scale);
// Natural logarithm of a positive, finite, normal x; error < 2 ulp.
double infc_log(double x);

#endif
