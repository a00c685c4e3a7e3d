// infc_softmax.c: deterministic exp and log.
#include "infc_softmax.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef float v4f __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));
typedef uint32_t v4u __attribute__((vector_size(16)));

static inline v4f all(float x) { return (v4f){x, x, x, x}; }
static inline v4f select(v4i mask, v4f yes, v4f no) { return (v4f)((mask & (v4i)yes) | (~mask & (v4i)no)); }
static inline v4f load(const float *p) {
    v4f v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store(float *p, v4f v) { memcpy(p, &v, sizeof v); }

// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln(2)/2; exp(r) by a polynomial of degree 5 whose largest
// relative error, 1.05e-7, is the least possible with 1 + r in front (found by reweighted least squares in double).
// x <= 0; below -87, where the result would leave the normal floats, it is 0: whatever the steps made of it is masked out.
static inline v4f exp4(v4f x) {
    const v4i dead = x < all(-87.0f);
    const v4f shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, to nearest even
    const v4f shifted = x * all(1.44269504f) + shift;
    const v4f n = shifted - shift;
    const v4f r = (x - n * all(0x1.62e4p-1f)) - n * all(0x1.7f7d1cp-20f);  // ln 2 in two parts: n times the first is exact
    v4f p = all(0x1.106250p-7f);
    p = p * r + all(0x1.572a64p-5f);
    p = p * r + all(0x1.5557b0p-3f);
    p = p * r + all(0x1.fffdfcp-2f);
    p = p * r + all(1.0f);
    p = p * r + all(1.0f);
    const v4u exponent = (v4u)shifted << 23;  // the integer sits in the low bits of `shifted`; the others are shifted out
    return (v4f)(((v4u)p + exponent) & ~(v4u)dead);
}

static float fold_max(const v4f m[4]) {
    float best = -INFINITY;
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 4; i++) best = m[j][i] > best ? m[j][i] : best;
    return best;
}

float infc_logits_copy(float *out, const float *logits, size_t n) {
    const v4f low = all(-INFINITY), high = all(FLT_MAX);
    v4f max[4] = {low, low, low, low};
    for (size_t i = 0; i < n; i += INFC_LANES) {
        float tail[INFC_LANES];
        const float *from = logits + i;
        if (n - i < INFC_LANES) {
            for (size_t j = 0; j < INFC_LANES; j++) tail[j] = j < n - i ? from[j] : -INFINITY;
            from = tail;
        }
        for (int j = 0; j < 4; j++) {
            const v4f x = load(from + 4 * j);
            const v4f clean = select(x <= high, x, select(x == x, high, low));  // a NaN compares false with everything
            store(out + i + 4 * j, clean);
            max[j] = select(clean > max[j], clean, max[j]);
        }
    }
    return fold_max(max);
}

float infc_logits_max(const float *x, size_t n) {
    const v4f low = all(-INFINITY);
    v4f max[4] = {low, low, low, low};
    for (size_t i = 0; i < n; i += INFC_LANES)
        for (int j = 0; j < 4; j++) {
            const v4f v = load(x + i + 4 * j);
            max[j] = select(v > max[j], v, max[j]);
        }
    return fold_max(max);
}

int32_t infc_first_of(const float *x, float value) {
    for (int32_t i = 0;; i += INFC_LANES) {
        v4i hit = load(x + i) == all(value);
        for (int j = 1; j < 4; j++) hit |= load(x + i + 4 * j) == all(value);
        if (!(hit[0] | hit[1] | hit[2] | hit[3])) continue;
        while (x[i] != value) i++;
        return i;
    }
}

double infc_sum_exp(const float *x, size_t n, float max) {
    double sum = 0;
    for (size_t block = 0; block < n; block += 1024) {
        const size_t end = n - block < 1024 ? n : block + 1024;
        v4f lane[4] = {all(0), all(0), all(0), all(0)};
        for (size_t i = block; i < end; i += INFC_LANES)
            for (int j = 0; j < 4; j++) lane[j] += exp4(load(x + i + 4 * j) - all(max));
        for (int j = 0; j < 4; j++)
            for (int i = 0; i < 4; i++) sum += (double)lane[j][i];
    }
    return sum;
}

void infc_exp(float *out, const float *x, size_t n, float max, float scale) {
    for (size_t i = 0; i < n; i += 4) store(out + i, exp4((load(x + i) - all(max)) * all(scale)));
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
