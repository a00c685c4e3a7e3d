// infc_softmax_passes.h: the passes of infc_softmax.h in vectors of WIDTH floats. Included once a width: NAME(x) is that twin's x, TARGET
// the attribute of its functions, SAME(x) a vector of x. No fused operation and the same sixteen lanes at every width: the same bits.
typedef float NAME(v) __attribute__((vector_size(4 * WIDTH)));
typedef int32_t NAME(vi) __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t NAME(vu) __attribute__((vector_size(4 * WIDTH)));
#define V NAME(v)
#define VI NAME(vi)
#define VU NAME(vu)
#define N_VECTORS (INFC_LANES / WIDTH)
#define INLINE TARGET __attribute__((always_inline)) static inline

INLINE V NAME(select)(VI mask, V yes, V no) { return (V)((mask & (VI)yes) | (~mask & (VI)no)); }
INLINE V NAME(load)(const float *p) {
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void NAME(store)(float *p, V v) { memcpy(p, &v, sizeof v); }

// exp(x) = 2^n * exp(r), n = round(x / ln 2), |r| <= ln(2)/2; exp(r) by a polynomial of degree 5 whose largest
// relative error, 1.05e-7, is the least possible with 1 + r in front (found by reweighted least squares in double).
// x <= 0; below -87, where the result would leave the normal floats, it is 0: whatever the steps made of it is masked out.
INLINE V NAME(exp_of)(V x) {
    const VI dead = x < SAME(-87.0f);
    const V shift = SAME(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, to nearest even
    const V shifted = x * SAME(1.44269504f) + shift;
    const V n = shifted - shift;
    const V r = (x - n * SAME(0x1.62e4p-1f)) - n * SAME(0x1.7f7d1cp-20f);  // ln 2 in two parts: n times the first is exact
    V p = SAME(0x1.106250p-7f);
    p = p * r + SAME(0x1.572a64p-5f);
    p = p * r + SAME(0x1.5557b0p-3f);
    p = p * r + SAME(0x1.fffdfcp-2f);
    p = p * r + SAME(1.0f);
    p = p * r + SAME(1.0f);
    const VU exponent = (VU)shifted << 23;  // the integer sits in the low bits of `shifted`; the others are shifted out
    return (V)(((VU)p + exponent) & ~(VU)dead);
}

INLINE float NAME(fold_max)(const V m[N_VECTORS]) {
    float best = -INFINITY;
    for (int j = 0; j < N_VECTORS; j++)
        for (int i = 0; i < WIDTH; i++) best = m[j][i] > best ? m[j][i] : best;
    return best;
}

TARGET static float NAME(copy)(float *out, const float *logits, size_t n) {
    const V low = SAME(-INFINITY), high = SAME(FLT_MAX);
    V max[N_VECTORS];
    for (int j = 0; j < N_VECTORS; j++) max[j] = low;
    for (size_t i = 0; i < n; i += INFC_LANES) {
        float tail[INFC_LANES];
        const float *from = logits + i;
        if (n - i < INFC_LANES) {
            for (size_t j = 0; j < INFC_LANES; j++) tail[j] = j < n - i ? from[j] : -INFINITY;
            from = tail;
        }
        for (int j = 0; j < N_VECTORS; j++) {
            const V x = NAME(load)(from + WIDTH * j);
            const V clean = NAME(select)(x <= high, x, NAME(select)(x == x, high, low));  // a NaN compares false with everything
            NAME(store)(out + i + WIDTH * j, clean);
            max[j] = NAME(select)(clean > max[j], clean, max[j]);
        }
    }
    return NAME(fold_max)(max);
}

TARGET static float NAME(max)(const float *x, size_t n) {
    V max[N_VECTORS];
    for (int j = 0; j < N_VECTORS; j++) max[j] = SAME(-INFINITY);
    for (size_t i = 0; i < n; i += INFC_LANES)
        for (int j = 0; j < N_VECTORS; j++) {
            const V v = NAME(load)(x + i + WIDTH * j);
            max[j] = NAME(select)(v > max[j], v, max[j]);
        }
    return NAME(fold_max)(max);
}

TARGET static int32_t NAME(first_of)(const float *x, float value) {
    for (int32_t i = 0;; i += INFC_LANES) {
        VI hit = NAME(load)(x + i) == SAME(value);
        for (int j = 1; j < N_VECTORS; j++) hit |= NAME(load)(x + i + WIDTH * j) == SAME(value);
        int32_t any = 0;
        for (int k = 0; k < WIDTH; k++) any |= hit[k];
        if (!any) continue;
        while (x[i] != value) i++;
        return i;
    }
}

TARGET static double NAME(sum_exp)(const float *x, size_t n, float max) {
    double sum = 0;
    for (size_t block = 0; block < n; block += 1024) {
        const size_t end = n - block < 1024 ? n : block + 1024;
        V lane[N_VECTORS];
        for (int j = 0; j < N_VECTORS; j++) lane[j] = SAME(0.0f);
        for (size_t i = block; i < end; i += INFC_LANES)
            for (int j = 0; j < N_VECTORS; j++) lane[j] += NAME(exp_of)(NAME(load)(x + i + WIDTH * j) - SAME(max));
        for (int j = 0; j < N_VECTORS; j++)
            for (int i = 0; i < WIDTH; i++) sum += (double)lane[j][i];
    }
    return sum;
}

TARGET static void NAME(exp)(float *out, const float *x, size_t n, float max, float scale) {
    for (size_t i = 0; i < n; i += WIDTH) NAME(store)(out + i, NAME(exp_of)((NAME(load)(x + i) - SAME(max)) * SAME(scale)));
}

static const infc_passes NAME(passes) = {NAME(copy), NAME(max), NAME(first_of), NAME(sum_exp), NAME(exp)};
#undef V
#undef VI
#undef VU
#undef N_VECTORS
#undef INLINE
#undef WIDTH
#undef TARGET
#undef NAME
#undef SAME
