// infc_quantize_avx512.h: one block of sixteen rows to int8: quantize_q8_block for each, to the bit, with one fold for all sixteen.
#ifndef INFC_QUANTIZE_AVX512_H
#define INFC_QUANTIZE_AVX512_H

// Sixteen vectors become one: lane r of the result is the fold of x[r] by OP, in the order 16 -> 8 -> 4 -> 2 -> 1 that the contract
// gives a sum: lanes 8 apart, then 4, 2 and 1. The first two steps move 128-bit parts, the others stay inside them.
#define INFC_FOLD_16(name, vec, OP, CAST, BACK)                                                                          \
    INFC_INLINE vec name(const vec *x)                                                                                  \
    {                                                                                                                   \
        __m512 v[4];                                                                                                    \
        INFC_UNROLL for (int e = 0; e < 4; e++) {                                                                       \
            __m512 h[2];                                                                                                \
            INFC_UNROLL for (int i = 0; i < 2; i++) {                                                                   \
                const __m512 a = CAST(x[e + 8 * i]), b = CAST(x[e + 8 * i + 4]);                                        \
                h[i] = CAST(OP(BACK(_mm512_shuffle_f32x4(a, b, 0x44)), BACK(_mm512_shuffle_f32x4(a, b, 0xee))));        \
            }                                                                                                           \
            v[e] = CAST(OP(BACK(_mm512_shuffle_f32x4(h[0], h[1], 0x88)), BACK(_mm512_shuffle_f32x4(h[0], h[1], 0xdd)))); \
        }                                                                                                               \
        INFC_UNROLL for (int i = 0; i < 2; i++) {                                                                       \
            const __m512d a = _mm512_castps_pd(v[2 * i]), b = _mm512_castps_pd(v[2 * i + 1]);                           \
            v[i] = CAST(OP(BACK(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b))), BACK(_mm512_castpd_ps(_mm512_unpackhi_pd(a, b))))); \
        }                                                                                                               \
        return OP(BACK(_mm512_shuffle_ps(v[0], v[1], 0x88)), BACK(_mm512_shuffle_ps(v[0], v[1], 0xdd)));                 \
    }
#define INFC_SAME(x) (x)
INFC_FOLD_16(v16f_fold_add_16, v16f, _mm512_add_ps, INFC_SAME, INFC_SAME)
INFC_FOLD_16(v16i_fold_add_16, v16i, _mm512_add_epi32, _mm512_castsi512_ps, _mm512_castps_si512)
INFC_FOLD_16(v16i_fold_max_16, v16i, _mm512_max_epi32, _mm512_castsi512_ps, _mm512_castps_si512)
#undef INFC_SAME
#undef INFC_FOLD_16

// x: sixteen rows of 32 floats, ldx apart -> blocks i..i+15 of a
INFC_INLINE void quantize_q8_sixteen(const float *x, size_t ldx, const infc_q8 *a, size_t i)
{
    const v16i abs = v16i_set1(0x7fffffff);
    v16i most[16], sums[16];
    v16f yq[16], qq[16];
    float scale[16] __attribute__((aligned(64)));
    INFC_UNROLL for (int r = 0; r < 16; r++) {
        const float *p = x + r * ldx;
        most[r] = v16i_max(v16i_and(v16f_bits(v16f_load(p)), abs), v16i_and(v16f_bits(v16f_load(p + 16)), abs));
    }
    const v16i bits = v16i_fold_max_16(most);
    const v16f amax = v16f_of_bits(bits);
    // false for NaN too
    const __mmask16 usual = _mm512_cmp_ps_mask(amax, v16f_set1(1e-30f), _CMP_GE_OQ) & _mm512_cmplt_epi32_mask(bits, v16i_set1(0x7f800000));
    v16f_store(scale, _mm512_maskz_div_ps(usual, v16f_set1(127.0f), amax));
    for (int r = 0; r < 16; r++) {
        const float *p = x + r * ldx;
        const v16f id = v16f_set1(scale[r]), yl = v16f_mul(v16f_load(p), id), yh = v16f_mul(v16f_load(p + 16), id);
        const __mmask16 keep = (usual >> r & 1) ? 0xffff : 0;  // 0 times NaN or infinity
        const v16i ql = _mm512_maskz_cvtps_epi32(keep, yl), qh = _mm512_maskz_cvtps_epi32(keep, yh);
        const v16f fl = v16f_from_i32(ql), fh = v16f_from_i32(qh);
        v16i_store_i8(a->q + 32 * (i + (size_t)r), ql);
        v16i_store_i8(a->q + 32 * (i + (size_t)r) + 16, qh);
        yq[r] = v16f_fma(yh, fh, v16f_mul(yl, fl));
        qq[r] = v16f_fma(fh, fh, v16f_mul(fl, fl));
        sums[r] = v16i_add(v16i_shl16(ql), v16i_add(ql, qh));  // 2^16 first + all
    }
    const v16i both = v16i_fold_add_16(sums), s = _mm512_srai_epi32(v16i_shl16(both), 16);
    const v16i pair = _mm512_mask_blend_epi16(0x55555555, v16i_sub(both, s), s);  // (all, first): what `all` borrowed comes back
    const v16f d = v16f_mul(v16f_div(v16f_fold_add_16(yq), v16f_fold_add_16(qq)), v16f_div(amax, v16f_set1(127.0f)));
    const v16f ds = v16f_mul(d, v16f_from_i32(s));
    const v16f none = _mm512_mask_blend_ps(_mm512_cmplt_epi32_mask(bits, v16i_set1(0x7f800000)), v16f_set1(infc_bits_to_float(0x7fc00000)), v16f_zero());
    v16f_store(a->d + i, _mm512_mask_blend_ps(usual, none, d));
    v16f_store(a->ds + i, _mm512_mask_blend_ps(usual, none, ds));
    _mm512_storeu_si512(a->s + 2 * i, pair);
}
#endif
