// kv/f16.h: keys and values as f16, and softmax(q K^T) V in f32 over the pages of one sequence and kv head (online softmax: Milakov and Gimelshein, 2018).
//
// A page part (one layer and kv head) is K: (page / 16, head_dim, 16) f16, then V: (page, head_dim) f16. Per page, ascending:
//   s[j] = fma over d ascending of q[d] k[d][j]     m' = max(m, max_j s[j])     c = exp(m - m')     p[j] = exp(s[j] - m')
//   l = fma(l, c, fold(sum of p over the page's vectors, ascending))     o = o c, then o = fma(p[j], v[j], o), j ascending
// and at the end o * (1 / l). Every query does exactly this, alone or beside others, so a batch never changes a bit.
#ifndef INFC_KV_F16_H
#define INFC_KV_F16_H
#include "../infc_epilogue.h"
#include "../infc_math.h"
#include "fetch.h"
#include "limit.h"

enum { INFC_MAX_PAGE = 64 };  // positions
enum { INFC_MAX_BATCH_QUERIES = 64, INFC_MAX_BATCH_FLOATS = 4096 };  // of f16_attn_rows: 2 x 16 KiB of stack, about what L1 holds beside a page

// Rotated key lanes d0..d0+dims-1 of one row to position `slot` of the page part. tile: panels of 16 lanes, ld floats apart;
// rope: (2, head_dim), NULL: positions turn nothing
INFC_INLINE void f16_write_k(const float *tile, size_t ld, const float *rope, int head_dim, int d0, int dims, uint8_t *part, int page,
                             int slot)
{
    (void)page;
    for (int d = d0; d < d0 + dims; d += 16, tile += ld) {
        uint8_t half[32];
        v16f_to_f16(half, rope != NULL ? infc_rotate(tile, rope, head_dim, d) : v16f_load(tile));
        uint8_t *o = part + 2 * ((size_t)(slot / 16 * head_dim + d) * 16 + slot % 16);
        for (int i = 0; i < 16; i++) memcpy(o + 32 * i, half + 2 * i, 2);
    }
}

// The same of values, which are not rotated
INFC_INLINE void f16_write_v(const float *tile, size_t ld, int head_dim, int d0, int dims, uint8_t *part, int page, int slot)
{
    for (int d = d0; d < d0 + dims; d += 16, tile += ld)
        v16f_to_f16(part + 2 * ((size_t)page * head_dim + (size_t)slot * head_dim + d), v16f_load(tile));
}

// Vectors of 16 that each of n queries takes at once: enough independent sums to hide the latency of an fma.
INFC_INLINE int f16_attn_vectors(int n)
{
    const int most = INFC_ATTN_SUMS / n;
    return most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

// s: (n, page): scores of n queries and nv x 16 positions. q: (n, head_dim), k: (nv, head_dim, 16)
INFC_INLINE void f16_scores_tile(const float *q, int n, const uint8_t *k, kv_fetch fetch, int nv, int head_dim, int page, float *s)
{
    const ptrdiff_t values = (ptrdiff_t)page * head_dim * 2;
    v16f acc[INFC_ATTN_SUMS > 4 ? INFC_ATTN_SUMS : 4];
    INFC_UNROLL for (int i = 0; i < n * nv; i++) acc[i] = v16f_zero();
    for (int d = 0; d < head_dim; d++) {
        INFC_UNROLL for (int j = 0; j < nv; j++) {
            const uint8_t *at = k + 32 * ((size_t)j * head_dim + d);
            if (d % 2 == 0) kv_fetch_line(at, fetch, values);
            const v16f v = v16f_from_f16(at);
            INFC_UNROLL for (int i = 0; i < n; i++)
                acc[i * nv + j] = v16f_fma(v16f_set1(q[(size_t)i * head_dim + d]), v, acc[i * nv + j]);
        }
    }
    INFC_UNROLL for (int i = 0; i < n; i++) {
        INFC_UNROLL for (int j = 0; j < nv; j++) v16f_store(s + (size_t)i * page + 16 * j, acc[i * nv + j]);
    }
}

INFC_INLINE void f16_scores(const float *q, int n, const uint8_t *k, kv_fetch fetch, int vectors, int head_dim, int page, float *s)
{
    const int nv = f16_attn_vectors(n);
    const size_t step = (size_t)head_dim * 32;
    int j = 0;
    for (; nv >= 4 && j + 4 <= vectors; j += 4) f16_scores_tile(q, n, k + j * step, fetch, 4, head_dim, page, s + 16 * j);
    for (; nv >= 2 && j + 2 <= vectors; j += 2) f16_scores_tile(q, n, k + j * step, fetch, 2, head_dim, page, s + 16 * j);
    for (; j < vectors; j++) f16_scores_tile(q, n, k + j * step, fetch, 1, head_dim, page, s + 16 * j);
}

// o: (n, head_dim), nv x 16 dimensions of it: o * c[i] plus p: (n, page) times values from..n_valid - 1
INFC_INLINE void f16_values_tile(const float *p, const float *c, int n, const uint8_t *v, kv_fetch fetch, int nv, int from, int n_valid,
                                 int head_dim, int page, float *o)
{
    const ptrdiff_t values = (ptrdiff_t)page * head_dim * 2;
    v16f acc[INFC_ATTN_SUMS > 4 ? INFC_ATTN_SUMS : 4];
    INFC_UNROLL for (int i = 0; i < n; i++) {
        INFC_UNROLL for (int d = 0; d < nv; d++)
            acc[i * nv + d] = v16f_mul(v16f_load(o + (size_t)i * head_dim + 16 * d), v16f_set1(c[i]));
    }
    for (int j = from; j < n_valid; j++) {
        INFC_UNROLL for (int d = 0; d < nv; d++) {
            const uint8_t *at = v + 2 * ((size_t)j * head_dim + 16 * d);
            if (d % 2 == 0) kv_fetch_line(at, fetch, fetch.ahead - values);
            const v16f x = v16f_from_f16(at);
            INFC_UNROLL for (int i = 0; i < n; i++)
                acc[i * nv + d] = v16f_fma(v16f_set1(p[(size_t)i * page + j]), x, acc[i * nv + d]);
        }
    }
    INFC_UNROLL for (int i = 0; i < n; i++) {
        INFC_UNROLL for (int d = 0; d < nv; d++) v16f_store(o + (size_t)i * head_dim + 16 * d, acc[i * nv + d]);
    }
}

INFC_INLINE void f16_values(const float *p, const float *c, int n, const uint8_t *v, kv_fetch fetch, int from, int n_valid, int head_dim,
                            int page, float *o)
{
    const int nv = f16_attn_vectors(n);
    int d = 0;
    for (; nv >= 4 && d + 64 <= head_dim; d += 64) f16_values_tile(p, c, n, v + 2 * d, fetch, 4, from, n_valid, head_dim, page, o + d);
    for (; nv >= 2 && d + 32 <= head_dim; d += 32) f16_values_tile(p, c, n, v + 2 * d, fetch, 2, from, n_valid, head_dim, page, o + d);
    for (; d < head_dim; d += 16) f16_values_tile(p, c, n, v + 2 * d, fetch, 1, from, n_valid, head_dim, page, o + d);
}

// One page: scores to probabilities in place, and the factors c by which older sums shrink. s: (n, page), from..n_valid - 1 count
INFC_INLINE void f16_softmax_page(float *s, int n, int from, int n_valid, int page, infc_limit limit, float *m, float *l, float *c)
{
    const int vectors = (n_valid + 15) / 16;
    const v16f none = v16f_set1(-INFINITY);
    float old[16] = {0};
    for (int i = 0; i < n; i++) {
        float *si = s + (size_t)i * page;
        v16f most = none;
        for (int j = 0; j < vectors; j++) {
            v16f x = v16f_load(si + 16 * j);
            if (limit.cap > 0.0f) v16f_store(si + 16 * j, x = infc_capped(limit, x));
            most = v16f_max(most, infc_keep_from(limit, v16f_keep(x, n_valid - 16 * j, none), from - 16 * j, none));
        }
        const float page_max = v16f_fold_max(most), next = m[i] > page_max ? m[i] : page_max;
        old[i] = m[i] - next;
        m[i] = next;
        v16f sum = v16f_zero();
        for (int j = 0; j < vectors; j++) {
            const v16f p = v16f_exp(v16f_sub(v16f_load(si + 16 * j), v16f_set1(next)));
            const v16f kept = infc_keep_from(limit, v16f_keep(p, n_valid - 16 * j, v16f_zero()), from - 16 * j, v16f_zero());
            sum = v16f_add(sum, kept);
            v16f_store(si + 16 * j, kept);
        }
        c[i] = v16f_fold_add(sum);
    }
    v16f_store(old, v16f_exp(v16f_load(old)));
    for (int i = 0; i < n; i++) {
        l[i] = fmaf(l[i], old[i], c[i]);
        c[i] = old[i];
    }
}

// One page for n queries that all see its positions from..n_valid - 1. part: the page part; q, o: (n, head_dim); m, l: (n)
INFC_INLINE void f16_attn_page(const float *q, const uint8_t *part, kv_fetch fetch, int from, int n_valid, int n, int head_dim, int page,
                               infc_limit limit, float *m, float *l, float *o)
{
    float s[INFC_ATTN_QUERIES * INFC_MAX_PAGE] __attribute__((aligned(64)));
    float c[16];
    f16_scores(q, n, part, fetch, (n_valid + 15) / 16, head_dim, page, s);
    f16_softmax_page(s, n, from, n_valid, page, limit, m, l, c);
    f16_values(s, c, n, part + (size_t)page * head_dim * 2, fetch, from, n_valid, head_dim, page, o);
}

// Query i is of head i mod group; a sink is a score that has been seen already, of a value of zeros.
INFC_INLINE void f16_attn_begin(float *m, float *l, float *o, int n, int group, int head_dim, infc_limit limit)
{
    for (int i = 0; i < n; i++) {
        m[i] = limit.sinks != NULL ? limit.sinks[i % group] : -INFINITY;
        l[i] = limit.sinks != NULL ? 1.0f : 0.0f;
    }
    for (int i = 0; i < n * head_dim; i += 16) v16f_store(o + i, v16f_zero());
}

INFC_INLINE void f16_attn_end(const float *l, const float *o, int n, int head_dim, float *out)
{
    for (int i = 0; i < n; i++) {
        const v16f inverse = v16f_set1(1.0f / l[i]);
        for (int d = i * head_dim; d < (i + 1) * head_dim; d += 16) v16f_store(out + d, v16f_mul(v16f_load(o + d), inverse));
    }
}

// Pages from position `begin` (a multiple of page) to n_pos for n queries of one row.
INFC_INLINE void f16_attn_pages(const float *q, const uint8_t *kv, const int32_t *pages, size_t page_stride, size_t part_offset, int begin,
                                 int n_pos, int n, int head_dim, int page, infc_limit limit, float *m, float *l, float *o)
{
    const int seen = infc_first_seen(limit, n_pos);
    const uint8_t *next = kv + (size_t)pages[begin / page] * page_stride + part_offset;
    for (int first = begin; first < n_pos; first += page) {
        const uint8_t *part = next;
        // the next kv head's first page lies behind this one's
        next = first + page < n_pos ? kv + (size_t)pages[first / page + 1] * page_stride + part_offset
                                    : kv + (size_t)pages[begin / page] * page_stride + part_offset + (size_t)page * head_dim * 4;
        const kv_fetch fetch = {next - part, infc_drops_prefetches()};
        f16_attn_page(q, part, fetch, seen > first ? seen - first : 0, n_pos - first < page ? n_pos - first : page, n, head_dim, page, limit, m, l, o);
    }
}

// The query heads of one row that share a kv head. q: (group, head_dim), scaled by 1 / sqrt(head_dim); out: (group, head_dim).
// Position i is in page pages[i / page], whose part begins at kv + pages[i / page] * page_stride + part_offset. n_pos >= 1 positions are
// attended; memory past them in the last page is read but has no influence. head_dim: multiple of 16; page: multiple of 16,
// <= INFC_MAX_PAGE. 4 * head_dim bytes of keys and values per position; 2 * group * head_dim MACs
INFC_INLINE void f16_attn_row(const float *q, const uint8_t *kv, const int32_t *pages, size_t page_stride, size_t part_offset, int n_pos,
                          int head_dim, int group, int page, infc_limit limit, float *out)
{
    const int begin = infc_first_page(limit, n_pos, page);
    const int whole = group / INFC_ATTN_QUERIES * INFC_ATTN_QUERIES, rest = group - whole;
    float m[INFC_ATTN_QUERIES], l[INFC_ATTN_QUERIES];
    for (int i = 0; i < whole; i += INFC_ATTN_QUERIES, q += INFC_ATTN_QUERIES * head_dim, out += INFC_ATTN_QUERIES * head_dim) {
        f16_attn_begin(m, l, out, INFC_ATTN_QUERIES, INFC_ATTN_QUERIES, head_dim, infc_limit_from(limit, i));
        f16_attn_pages(q, kv, pages, page_stride, part_offset, begin, n_pos, INFC_ATTN_QUERIES, head_dim, page, limit, m, l, out);
        f16_attn_end(l, out, INFC_ATTN_QUERIES, head_dim, out);
    }
    if (rest == 0) return;
    f16_attn_begin(m, l, out, rest, rest, head_dim, infc_limit_from(limit, whole));
    f16_attn_pages(q, kv, pages, page_stride, part_offset, begin, n_pos, rest, head_dim, page, limit, m, l, out);
    f16_attn_end(l, out, rest, head_dim, out);
}

enum { F16_ROWS = 4 };  // rows of f16_attn_rows

// F16_ROWS consecutive positions of one sequence, the first of which attends n_pos positions, the next n_pos + 1, ...: f16_attn_row
// for each, to the bit, but pages that all of them see are loaded once for all their queries. Row r: q + r * ldq, out + r * ldo.
INFC_INLINE void f16_attn_rows(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t page_stride, size_t part_offset,
                           int n_pos, int head_dim, int group, int page, infc_limit limit, float *out, size_t ldo)
{
    enum { Q = INFC_ATTN_QUERIES };
    const int n = F16_ROWS * group, size = group * head_dim, shared = n_pos / page * page;
    if (limit.window > 0 || shared == 0 || n > INFC_MAX_BATCH_QUERIES || n * head_dim > INFC_MAX_BATCH_FLOATS) {
        for (int r = 0; r < F16_ROWS; r++)
            f16_attn_row(q + r * ldq, kv, pages, page_stride, part_offset, n_pos + r, head_dim, group, page, limit, out + r * ldo);
        return;
    }
    float qs[INFC_MAX_BATCH_FLOATS] __attribute__((aligned(64))), o[INFC_MAX_BATCH_FLOATS] __attribute__((aligned(64)));
    float m[INFC_MAX_BATCH_QUERIES], l[INFC_MAX_BATCH_QUERIES];
    for (int r = 0; r < F16_ROWS; r++) memcpy(qs + r * size, q + r * ldq, (size_t)size * 4);
    f16_attn_begin(m, l, o, n, group, head_dim, limit);
    for (int first = 0; first < shared; first += page) {
        const uint8_t *part = kv + (size_t)pages[first / page] * page_stride + part_offset;
        const kv_fetch fetch = {first + page < shared ? kv + (size_t)pages[first / page + 1] * page_stride + part_offset - part : 0, 0};
        int i = 0;
        for (; i + Q <= n; i += Q) f16_attn_page(qs + i * head_dim, part, fetch, 0, page, Q, head_dim, page, limit, m + i, l + i, o + i * head_dim);
        if (n % Q) f16_attn_page(qs + i * head_dim, part, fetch, 0, page, n % Q, head_dim, page, limit, m + i, l + i, o + i * head_dim);
    }
    for (int r = 0; r < F16_ROWS; r++) {
        int i = r * group;
        const int end = i + group;
        for (; i + Q <= end; i += Q)
            f16_attn_pages(qs + i * head_dim, kv, pages, page_stride, part_offset, shared, n_pos + r, Q, head_dim, page, limit, m + i, l + i,
                            o + i * head_dim);
        if (group % Q)
            f16_attn_pages(qs + i * head_dim, kv, pages, page_stride, part_offset, shared, n_pos + r, group % Q, head_dim, page, limit, m + i,
                            l + i, o + i * head_dim);
        f16_attn_end(l + r * group, o + r * size, group, head_dim, out + r * ldo);
    }
}

// Any number of such rows
INFC_INLINE void f16_attention_limited(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t page_stride,
                               size_t part_offset, int n_pos, int rows, int head_dim, int group, int page, float *out, size_t ldo,
                               int window, float cap, const float *sinks)
{
    const infc_limit limit = {window, cap, sinks};
    int r = 0;
    for (; r + F16_ROWS <= rows; r += F16_ROWS)
        f16_attn_rows(q + r * ldq, ldq, kv, pages, page_stride, part_offset, n_pos + r, head_dim, group, page, limit, out + r * ldo, ldo);
    for (; r < rows; r++) f16_attn_row(q + r * ldq, kv, pages, page_stride, part_offset, n_pos + r, head_dim, group, page, limit, out + r * ldo);
}

INFC_INLINE void f16_attention(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t page_stride,
                               size_t part_offset, int n_pos, int rows, int head_dim, int group, int page, float *out, size_t ldo)
{
    f16_attention_limited(q, ldq, kv, pages, page_stride, part_offset, n_pos, rows, head_dim, group, page, out, ldo, 0, 0.0f, NULL);
}
#endif
