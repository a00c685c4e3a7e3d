// kv/q16_rows.h: softmax(q K^T) V over q16 pages (kv/q16.h), a few queries at a time. q comes multiplied by log2(e) / sqrt(head_dim).
//
// A query is quantized: q ~ Q dq. Per page, ascending:
//   S[j] = sum_d Q[d] K[j][d], exact     u[j] = fma((float)S[j], dq dk[j], e[j])     m = max_j u[j]
//   (with a soft cap, in units of log2(e): u[j] = fma(tanh((float)S[j] (dq dk[j]) (1 / cap)), cap, e[j]))
//   x[j] = 2^14 2^(u[j] - m)             P[j] = round(x[j])                          T[d] = sum_j P[j] V[j][d], exact
//   z[i] = sum over j = i mod 16, ascending, of x[j] 2^-e[j], by fma: the softmax's denominator in 16 lanes
// and into the sums so far:
//   M' = max(M, m)     c = 2^(M - M')     f = 2^(m - M')     l = fma(z, f, l c)     o[d] = fma((float)T[d], f, o[d] c)
// at the end o * (1 / fold(l)); all NaN where l is. What happens inside a page knows nothing of other pages or queries, and the sums over
// d and j are integers, so any grouping of queries and any order within a page gives the same bits. |S| and |T| stay below 2^31.
#ifndef INFC_KV_Q16_ROWS_H
#define INFC_KV_Q16_ROWS_H
#include "q16.h"

enum { Q16_ROWS = 4, Q16_BLOCK_QUERIES = 64, Q16_BLOCK_VALUES = 8192, Q16_STEPS = 2 };  // of q16_block: 48 KiB of stack and 4 KiB more

// Vectors of 16 that each of n queries takes at once. A step of the loops over them is Q16_STEPS products of each sum: gcc writes sums
// that lie in an array back to it in every step, which with one product made the stores the bound.
INFC_INLINE int q16_vectors(int n)
{
    const int most = INFC_Q16_SUMS / n;
    return most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

// u of scores S
INFC_INLINE v16f q16_exponent(v16i s, v16f scale, v16f e, infc_limit limit)
{
    const v16f x = v16f_from_i32(s);
    if (limit.cap == 0.0f) return v16f_fma(x, scale, e);
    return v16f_fma(v16f_tanh(v16f_mul(v16f_mul(x, scale), v16f_set1(1.0f / limit.cap))), v16f_set1(limit.cap), e);
}

// u: (n, 64): the exponents of n queries at nv x 16 positions. q: (n, head_dim), k: (nv, head_dim / 2, 16, 2), dk: (3, 64) at the first
// of the positions.
INFC_INLINE void q16_scores_tile(const int16_t *q, const float *dq, int n, const uint8_t *k, kv_fetch fetch, int nv, int head_dim,
                                 const float *dk, infc_limit limit, float *u)
{
    const ptrdiff_t values = (ptrdiff_t)q16_values_offset(head_dim);
    v16i sum[INFC_Q16_SUMS > 4 ? INFC_Q16_SUMS : 4];
    INFC_UNROLL for (int i = 0; i < n * nv; i++) sum[i] = v16i_set1(0);
    for (int first = 0; first < head_dim / 2; first += Q16_STEPS) {
        INFC_UNROLL for (int d = first; d < first + Q16_STEPS; d++) {
            INFC_UNROLL for (int j = 0; j < nv; j++) {
                const uint8_t *line = k + 64 * ((size_t)j * (head_dim / 2) + d);
                const v16i x = v16i_load(line);
                kv_fetch_line(line, fetch, values);
                INFC_UNROLL for (int i = 0; i < n; i++) {
                    int32_t pair;
                    memcpy(&pair, q + (size_t)i * head_dim + 2 * d, 4);
                    sum[i * nv + j] = v16i_dot2(sum[i * nv + j], x, v16i_set1(pair));
                }
            }
        }
    }
    INFC_UNROLL for (int j = 0; j < nv; j++) {
        const v16f scale = v16f_load(dk + 16 * j), e = v16f_load(dk + Q16_PAGE + 16 * j);
        INFC_UNROLL for (int i = 0; i < n; i++)
            v16f_store(u + i * Q16_PAGE + 16 * j, q16_exponent(sum[i * nv + j], v16f_mul(v16f_set1(dq[i]), scale), e, limit));
    }
}

INFC_INLINE void q16_scores(const int16_t *q, const float *dq, int n, const uint8_t *part, kv_fetch fetch, int vectors, int head_dim,
                            infc_limit limit, float *u)
{
    const int nv = q16_vectors(n);
    const size_t step = (size_t)head_dim * 32;
    const float *dk = (const float *)(const void *)(part + q16_scales_offset(head_dim));
    int j = 0;
    for (; nv >= 4 && j + 4 <= vectors; j += 4) q16_scores_tile(q, dq, n, part + j * step, fetch, 4, head_dim, dk + 16 * j, limit, u + 16 * j);
    for (; nv >= 2 && j + 2 <= vectors; j += 2) q16_scores_tile(q, dq, n, part + j * step, fetch, 2, head_dim, dk + 16 * j, limit, u + 16 * j);
    for (; j < vectors; j++) q16_scores_tile(q, dq, n, part + j * step, fetch, 1, head_dim, dk + 16 * j, limit, u + 16 * j);
}

// o: (n, head_dim), nv x 16 dimensions of it: fma((float)T, f[i], o c[i]). p: (n, 32) pairs of P, v: (halves, 16, head_dim, 2)
INFC_INLINE void q16_values_tile(const int32_t *p, const float *c, const float *f, int n, const uint8_t *v, kv_fetch fetch, int nv,
                                 int halves, int head_dim, float *o)
{
    const ptrdiff_t values = (ptrdiff_t)q16_values_offset(head_dim);
    v16i sum[INFC_Q16_SUMS > 4 ? INFC_Q16_SUMS : 4];
    INFC_UNROLL for (int i = 0; i < n * nv; i++) sum[i] = v16i_set1(0);
    for (int first = 0; first < 16 * halves; first += Q16_STEPS) {
        INFC_UNROLL for (int g = first; g < first + Q16_STEPS; g++) {
            INFC_UNROLL for (int d = 0; d < nv; d++) {
                const uint8_t *line = v + 4 * ((size_t)g * head_dim + 16 * d);
                const v16i x = v16i_load(line);
                kv_fetch_line(line, fetch, fetch.ahead - values);
                INFC_UNROLL for (int i = 0; i < n; i++) sum[i * nv + d] = v16i_dot2(sum[i * nv + d], x, v16i_set1(p[i * 32 + g]));
            }
        }
    }
    INFC_UNROLL for (int i = 0; i < n; i++) {
        INFC_UNROLL for (int d = 0; d < nv; d++) {
            float *y = o + (size_t)i * head_dim + 16 * d;
            v16f_store(y, v16f_fma(v16f_from_i32(sum[i * nv + d]), v16f_set1(f[i]), v16f_mul(v16f_load(y), v16f_set1(c[i]))));
        }
    }
}

INFC_INLINE void q16_values(const int32_t *p, const float *c, const float *f, int n, const uint8_t *part, kv_fetch fetch, int halves,
                            int head_dim, float *o)
{
    const int nv = q16_vectors(n);
    const uint8_t *v = part + q16_values_offset(head_dim);
    int d = 0;
    for (; nv >= 4 && d + 64 <= head_dim; d += 64) q16_values_tile(p, c, f, n, v + 4 * d, fetch, 4, halves, head_dim, o + d);
    for (; nv >= 2 && d + 32 <= head_dim; d += 32) q16_values_tile(p, c, f, n, v + 4 * d, fetch, 2, halves, head_dim, o + d);
    for (; d < head_dim; d += 16) q16_values_tile(p, c, f, n, v + 4 * d, fetch, 1, halves, head_dim, o + d);
}

// z + x 2^-e in the lanes of positions from..valid - 1; what those past them hold nobody wrote
INFC_INLINE v16f q16_add_weights(v16f z, v16f x, const float *inverse, int masked, int from, int valid, infc_limit limit)
{
    const v16f next = v16f_fma(x, v16f_load(inverse), z);
    return masked ? infc_keep_from(limit, v16f_keep(next, valid, z), from, z) : next;
}

// c, f: (16) what n queries' older sums and this page's shrink by, from the page's maxima pm; updates M. Lanes past n: anything
INFC_INLINE void q16_rescale(const float *pm, int n, float *m, float *c, float *f)
{
    float old[16] = {0}, page[16] = {0};
    for (int i = 0; i < n; i++) {
        const float next = m[i] > pm[i] ? m[i] : pm[i];
        old[i] = m[i] - next;
        page[i] = pm[i] - next;
        m[i] = next;
    }
    const v16f unit = v16f_set1(0x1p-14f);
    v16f_store(c, v16f_mul(q16_exp2(v16f_load(old)), unit));
    v16f_store(f, v16f_mul(q16_exp2(v16f_load(page)), unit));
}

// One page for n queries, each of which sees at least one of its positions. Where masked, a query sees positions from..valid - 1,
// valid: (n), ascending; else all 64. q, o: (n, head_dim); dq, m: (n); l: (n, 16)
INFC_INLINE void q16_page(const int16_t *q, const float *dq, int n, const uint8_t *part, kv_fetch fetch, int masked, int from,
                          const int *valid, int head_dim, infc_limit limit, float *m, float *l, float *o)
{
    float u[INFC_Q16_QUERIES * Q16_PAGE] __attribute__((aligned(64))), pm[16], c[16], f[16];
    int32_t p[INFC_Q16_QUERIES * 32] __attribute__((aligned(64)));
    const int halves = masked ? (valid[n - 1] + 31) / 32 : 2, vectors = 2 * halves;
    const float *inverse = (const float *)(const void *)(part + q16_scales_offset(head_dim)) + 2 * Q16_PAGE;
    for (size_t line = q16_scales_offset(head_dim); line < q16_part_bytes(head_dim); line += 64) infc_prefetch_l2(part + fetch.ahead + line);
    q16_scores(q, dq, n, part, fetch, vectors, head_dim, limit, u);
    for (int i = 0; i < n; i++) {
        float *ui = u + i * Q16_PAGE;
        v16f most = v16f_set1(-INFINITY);
        for (int j = 0; j < vectors; j++) {
            v16f x = v16f_load(ui + 16 * j);
            if (masked) {
                // P is 0 there, too: 2^(14 - 126) rounds to it
                x = infc_keep_from(limit, v16f_keep(x, valid[i] - 16 * j, v16f_set1(-INFINITY)), from - 16 * j, v16f_set1(-INFINITY));
                v16f_store(ui + 16 * j, x);
            }
            most = v16f_max(most, x);
        }
        pm[i] = v16f_fold_max(most);
    }
    q16_rescale(pm, n, m, c, f);
    for (int i = 0; i < n; i++) {
        const float *ui = u + i * Q16_PAGE;
        v16f z = v16f_zero();
        for (int h = 0; h < halves; h++) {
            const v16f most = v16f_set1(pm[i]);
            const v16f x = q16_exp2(v16f_sub(v16f_load(ui + 32 * h), most)), y = q16_exp2(v16f_sub(v16f_load(ui + 32 * h + 16), most));
            const int left = masked ? valid[i] - 32 * h : 32, begin = from - 32 * h;
            z = q16_add_weights(z, x, inverse + 32 * h, masked, begin, left, limit);
            z = q16_add_weights(z, y, inverse + 32 * h + 16, masked, begin - 16, left - 16, limit);
            v16i_store(p + 32 * i + 16 * h, v16i_or(v16i_round(x), v16i_shl16(v16i_round(y))));
        }
        float *li = l + 16 * i;
        v16f_store(li, v16f_fma(z, v16f_set1(f[i]), v16f_mul(v16f_load(li), v16f_set1(c[i]))));
    }
    q16_values(p, c, f, n, part, fetch, halves, head_dim, o);
}

// out: (head_dim) = o / fold(l). A NaN's bits would depend on the path it took
INFC_INLINE void q16_finish(const float *l, const float *o, int head_dim, float *out)
{
    const float sum = v16f_fold_add(v16f_load(l)), inverse = 1.0f / sum;
    for (int d = 0; d < head_dim; d += 16) {
        const v16f y = v16f_mul(v16f_load(o + d), v16f_set1(inverse));
        v16f_store(out + d, sum == sum ? y : v16f_set1(infc_bits_to_float(0x7fc00000)));
    }
}

// A query of head h that has seen nothing but its sink: a score M of which l holds 2^14, and no value
INFC_INLINE void q16_begin(infc_limit limit, int h, float *m, float *l)
{
    float lanes[16] = {0};
    if (limit.sinks != NULL) lanes[0] = 0x1p14f;
    *m = limit.sinks != NULL ? limit.sinks[h] * 0x1.715476p+0f : -INFINITY;  // in powers of two
    v16f_store(l, v16f_load(lanes));
}

// `heads` heads of `rows` consecutive positions, of which the first attends n_pos positions, the next n_pos + 1, ...: each page is
// loaded once for all. q, out: head h of row r at r * ld + h * head_dim; rows * heads <= Q16_BLOCK_QUERIES
INFC_INLINE void q16_block(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t page_stride, size_t part_offset,
                           int n_pos, int rows, int heads, int head_dim, infc_limit limit, float *out, size_t ldo)
{
    enum { Q = INFC_Q16_QUERIES };
    int16_t x[Q16_BLOCK_VALUES] __attribute__((aligned(64)));
    float o[Q16_BLOCK_VALUES] __attribute__((aligned(64))), l[Q16_BLOCK_QUERIES * 16] __attribute__((aligned(64)));
    float dq[Q16_BLOCK_QUERIES], m[Q16_BLOCK_QUERIES];
    const int n = rows * heads, last = n_pos + rows - 1;
    for (int i = 0; i < n; i++) {
        dq[i] = q16_quantize(q + i / heads * ldq + (size_t)(i % heads) * head_dim, head_dim, q16_query_max(head_dim), x + i * head_dim);
        q16_begin(limit, i % heads, m + i, l + 16 * i);
        for (int d = 0; d < head_dim; d += 16) v16f_store(o + i * head_dim + d, v16f_zero());
    }
    const int begin = infc_first_page(limit, n_pos, Q16_PAGE), begin_last = infc_first_seen(limit, last);
    const uint8_t *next = kv + (size_t)pages[begin / Q16_PAGE] * page_stride + part_offset;
    for (int first = begin; first < last; first += Q16_PAGE) {
        const uint8_t *part = next;
        if (first + Q16_PAGE < last)
            next = kv + (size_t)pages[first / Q16_PAGE + 1] * page_stride + part_offset;
        else if (rows == 1)  // a prompt's rows come again to the same pages; one row goes on to the next kv head, which lies behind this one
            next = kv + (size_t)pages[begin / Q16_PAGE] * page_stride + part_offset + q16_part_bytes(head_dim);
        const kv_fetch fetch = {next - part, rows == 1 && infc_drops_prefetches()};
        if (first + Q16_PAGE <= n_pos && begin_last <= first) {
            int i = 0;
            for (; i + Q <= n; i += Q) q16_page(x + i * head_dim, dq + i, Q, part, fetch, 0, 0, NULL, head_dim, limit, m + i, l + 16 * i, o + i * head_dim);
            if (n % Q) q16_page(x + i * head_dim, dq + i, n % Q, part, fetch, 0, 0, NULL, head_dim, limit, m + i, l + 16 * i, o + i * head_dim);
            continue;
        }
        for (int r = 0; r < rows; r++) {  // each row sees another part of the page
            int valid[Q], i = r * heads;
            const int end = i + heads, seen = n_pos + r - first, from = infc_first_seen(limit, n_pos + r) - first;
            if (seen <= 0 || from >= Q16_PAGE) continue;
            for (int k = 0; k < Q; k++) valid[k] = seen < Q16_PAGE ? seen : Q16_PAGE;
            for (; i + Q <= end; i += Q)
                q16_page(x + i * head_dim, dq + i, Q, part, fetch, 1, from, valid, head_dim, limit, m + i, l + 16 * i, o + i * head_dim);
            if (heads % Q) q16_page(x + i * head_dim, dq + i, heads % Q, part, fetch, 1, from, valid, head_dim, limit, m + i, l + 16 * i, o + i * head_dim);
        }
    }
    for (int i = 0; i < n; i++) q16_finish(l + 16 * i, o + i * head_dim, head_dim, out + i / heads * ldo + (size_t)(i % heads) * head_dim);
}

// Query heads of one block of q16_attention: what its arrays hold
INFC_INLINE int q16_block_heads(int rows, int head_dim)
{
    const int by_values = Q16_BLOCK_VALUES / head_dim, most = by_values < Q16_BLOCK_QUERIES ? by_values : Q16_BLOCK_QUERIES;
    return most / rows;
}

INFC_INLINE void q16_heads(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t page_stride, size_t part_offset,
                           int n_pos, int rows, int head_dim, int group, infc_limit limit, float *out, size_t ldo)
{
    const int most = q16_block_heads(rows, head_dim);
    int h = 0;
    for (; h + most <= group; h += most)
        q16_block(q + h * head_dim, ldq, kv, pages, page_stride, part_offset, n_pos, rows, most, head_dim, infc_limit_from(limit, h),
                  out + h * head_dim, ldo);
    if (group % most)
        q16_block(q + h * head_dim, ldq, kv, pages, page_stride, part_offset, n_pos, rows, group % most, head_dim, infc_limit_from(limit, h),
                  out + h * head_dim, ldo);
}
#endif
