// infc_math.h: exp and what is made of it. Our own polynomials: the same operations in the same order on every ISA, so the same bits.
#ifndef INFC_MATH_H
#define INFC_MATH_H
#include "infc_simd.h"

// exp(x) within 1 ulp; 0 below -87.3 (no subnormal results), inf above 88.72, NaN for NaN.
// x = n ln2 + r, |r| <= ln2 / 2; exp(r) = 1 + r + r^2 P(r), P minimax of degree 4 (relative error 3.1e-9); 2^n by the exponent bits.
INFC_HEAVY v16f v16f_exp(v16f x)
{
    const v16f least = v16f_set1(-87.3f), most = v16f_set1(88.72283f), magic = v16f_set1(12582912.0f);
    const v16f c = v16f_max(least, v16f_min(most, x));  // magic must not see anything large
    const v16f t = v16f_fma(c, v16f_set1(0x1.715476p+0f), magic), n = v16f_sub(t, magic);
    v16f r = v16f_fma(n, v16f_set1(-0x1.62e4p-1f), c);
    r = v16f_fma(n, v16f_set1(-0x1.7f7d1cp-20f), r);
    v16f p = v16f_fma(v16f_set1(0x1.6a2358p-10f), r, v16f_set1(0x1.123a6ap-7f));
    p = v16f_fma(p, r, v16f_set1(0x1.5558f4p-5f));
    p = v16f_fma(p, r, v16f_set1(0x1.55549p-3f));
    p = v16f_fma(p, r, v16f_set1(0x1.fffffcp-2f));
    p = v16f_fma(p, r, v16f_set1(1.0f));
    p = v16f_fma(p, r, v16f_set1(1.0f));
    p = v16f_of_bits(v16i_add(v16f_bits(p), v16i_shl23(v16i_sub(v16f_bits(t), v16f_bits(magic)))));
    p = v16f_if_less(x, least, v16f_zero(), p);
    p = v16f_if_less(most, x, v16f_set1(INFINITY), p);
    return v16f_if_nan(x, x, p);
}

// 1 / (1 + exp(-x))
INFC_INLINE v16f v16f_sigmoid(v16f x)
{
    const v16f one = v16f_set1(1.0f);
    return v16f_div(one, v16f_add(one, v16f_exp(v16f_sub(v16f_zero(), x))));
}

// x / (1 + exp(-x))
INFC_INLINE v16f v16f_silu(v16f x)
{
    return v16f_div(x, v16f_add(v16f_set1(1.0f), v16f_exp(v16f_sub(v16f_zero(), x))));
}

// tanh(x) = sign(x) (1 - 2 / (exp(2 |x|) + 1)): absolute error below 1.2e-7
INFC_INLINE v16f v16f_tanh(v16f x)
{
    const v16f one = v16f_set1(1.0f), a = v16f_of_bits(v16i_and(v16f_bits(x), v16i_set1(0x7fffffff)));
    const v16f t = v16f_sub(one, v16f_div(v16f_set1(2.0f), v16f_add(v16f_exp(v16f_add(a, a)), one)));
    return v16f_if_less(x, v16f_zero(), v16f_sub(v16f_zero(), t), t);
}

// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the tanh form of GELU
INFC_INLINE v16f v16f_gelu(v16f x)
{
    const v16f one = v16f_set1(1.0f);
    const v16f u = v16f_mul(v16f_mul(v16f_set1(0x1.988454p-1f), x), v16f_fma(v16f_mul(v16f_set1(0.044715f), x), x, one));
    return v16f_mul(v16f_mul(v16f_set1(0.5f), x), v16f_add(one, v16f_tanh(u)));
}

// max(x, 0)^2; a NaN stays one
INFC_INLINE v16f v16f_relu2(v16f x)
{
    const v16f y = v16f_max(v16f_zero(), x);
    return v16f_mul(y, y);
}
#endif
