// kv/q16_amx.h: q16 attention of 16 consecutive rows at a time on AMX tiles: the same integers as kv/q16_rows.h, so the same bits.
//
// An operand a is split, a = 256 ah + al, into bytes: al in -128..127 for queries, keys and values, in 0..255 for P (which is unsigned).
// A product of two tiles is then 2^16 HH + 2^8 (HL + LH) + LL, four tile products in three accumulators, each exact. Whole bytes, because
// tiles leave the shifter's port as the narrow one (infc_simd_amx.h), and moving bytes is another port's work.
// A tile has 64 bytes of the inner index: head_dim (padded with zeros) for scores, the page's 64 positions for values. Its dword i holds
// bytes of four inner indices, which may be any four as long as both operands agree: here the words of dword i of one half of a
// vector and of its other half, since those interleave without crossing lanes.
#ifndef INFC_KV_Q16_AMX_H
#define INFC_KV_Q16_AMX_H
#include "q16_rows.h"

enum { Q16_TILES = 12, Q16_TILE_ROWS = 16, Q16_TILE_BYTES = 1024 };  // tiles of 16 queries that share an unpacked page

// 0 to 2: sums; 3 and 4: rows of queries or of P; 5 and 6: columns of keys or of values
static const infc_tile_config q16_tiles __attribute__((aligned(64), unused)) = {
    .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16}};

// Bytes of a row of queries or of a column of keys: whole tiles
INFC_INLINE int q16_padded(int head_dim) { return (head_dim + 63) / 64 * 64; }

// The even bytes of a and the odd ones of b_times_256
INFC_INLINE __m512i q16_bytes(__m512i a, __m512i b_times_256)
{
    return _mm512_ternarylogic_epi32(_mm512_set1_epi32(0x00ff00ff), a, b_times_256, 0xca);
}

// 32 words of a and of b -> 64 bytes of their high and of their low parts
INFC_INLINE void q16_split(const void *a, const void *b, uint8_t *high, uint8_t *low)
{
    const __m512i half = _mm512_set1_epi16(128), x = v16i_load(a), y = v16i_load(b);
    v16i_store(high, q16_bytes(_mm512_srli_epi16(_mm512_add_epi16(x, half), 8), _mm512_add_epi16(y, half)));
    v16i_store(low, q16_bytes(x, _mm512_slli_epi16(y, 8)));
}

// Keys of a page: (4, padded / 4, 16, 4) bytes high, then low; what pads head_dim is left alone
INFC_INLINE void q16_unpack_keys(const uint8_t *k, int head_dim, uint8_t *out)
{
    const int quads = head_dim / 4, padded = q16_padded(head_dim);
    for (int j = 0; j < 4; j++) {
        const uint8_t *a = k + (size_t)j * head_dim * 32, *b = a + (size_t)quads * 64;
        uint8_t *o = out + (size_t)j * padded * 16;
        for (int g = 0; g < quads; g++) q16_split(a + 64 * g, b + 64 * g, o + 64 * g, o + 64 * (padded + g));
    }
}

// Values of a page: (head_dim / 16, 16, 16, 4) bytes high, then low
INFC_INLINE void q16_unpack_values(const uint8_t *v, int head_dim, uint8_t *out)
{
    const size_t half = (size_t)64 * head_dim;
    for (int d = 0; d < head_dim / 16; d++) {
        for (int g = 0; g < 16; g++) {
            const uint8_t *a = v + 4 * ((size_t)g * head_dim + 16 * d);
            q16_split(a, a + half, out + Q16_TILE_BYTES * d + 64 * g, out + half + Q16_TILE_BYTES * d + 64 * g);
        }
    }
}

// One query to row r of a tile: (16, padded) bytes high, then low. Returns its scale
INFC_INLINE float q16_split_query(const float *q, int head_dim, int r, uint8_t *out)
{
    const int padded = q16_padded(head_dim);
    int16_t x[Q16_MAX_HEAD_DIM] __attribute__((aligned(64))), a[Q16_MAX_HEAD_DIM / 2] = {0}, b[Q16_MAX_HEAD_DIM / 2] = {0};
    const float dq = q16_quantize(q, head_dim, q16_query_max(head_dim), x);
    memcpy(a, x, (size_t)head_dim);
    memcpy(b, x + head_dim / 2, (size_t)head_dim);
    for (int i = 0; i < padded / 2; i += 32) q16_split(a + i, b + i, out + (size_t)r * padded + 2 * i, out + (size_t)(16 + r) * padded + 2 * i);
    return dq;
}

// The largest lane of each of 16 vectors
INFC_INLINE v16f q16_maxima(const v16f *x)
{
    v16f a[8], b[4], c[2];
    INFC_UNROLL for (int i = 0; i < 8; i++) a[i] = v16f_max(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    INFC_UNROLL for (int i = 0; i < 4; i++) {
        const __m512d l = _mm512_castps_pd(a[2 * i]), h = _mm512_castps_pd(a[2 * i + 1]);
        b[i] = v16f_max(_mm512_castpd_ps(_mm512_unpacklo_pd(l, h)), _mm512_castpd_ps(_mm512_unpackhi_pd(l, h)));
    }
    INFC_UNROLL for (int i = 0; i < 2; i++)
        c[i] = v16f_max(_mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0x88), _mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0xdd));
    return v16f_max(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
}

// 2^16 HH + 2^8 X + LL of row i; t: three tiles
INFC_INLINE v16i q16_joined(const int32_t *t, int i)
{
    const __m512i by1 = _mm512_broadcast_i32x4(_mm_setr_epi8(-1, 0, 1, 2, -1, 4, 5, 6, -1, 8, 9, 10, -1, 12, 13, 14));
    const __m512i by2 = _mm512_broadcast_i32x4(_mm_setr_epi8(-1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13));
    const __m512i high = _mm512_shuffle_epi8(v16i_load(t + 16 * i), by2), mixed = _mm512_shuffle_epi8(v16i_load(t + 256 + 16 * i), by1);
    return v16i_add(v16i_add(high, mixed), v16i_load(t + 512 + 16 * i));
}

// What a tile of 16 queries (one head, consecutive rows) carries from page to page
typedef struct q16_tile {
    float dq[16], m[16];
    float l[16][16];
} __attribute__((aligned(64))) q16_tile;

// S of 16 queries and 64 positions: t: (4, 3, 16, 16). q: of q16_split_query, k: of q16_unpack_keys
INFC_INLINE void q16_tile_scores(const uint8_t *q, const uint8_t *k, int head_dim, int32_t *t)
{
    const int padded = q16_padded(head_dim);
    INFC_TILE_ORDER;
    for (int j = 0; j < 4; j++, t += 768) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        for (int s = 0; s < padded / 64; s++) {
            const uint8_t *b = k + (size_t)16 * (j * padded + 64 * s);
            _tile_loadd(3, q + 64 * s, padded);
            _tile_loadd(5, b, 64);
            _tile_loadd(6, b + (size_t)64 * padded, 64);
            _tile_loadd(4, q + 16 * padded + 64 * s, padded);
            _tile_dpbssd(0, 3, 5);
            _tile_dpbssd(1, 3, 6);
            _tile_dpbssd(2, 4, 6);
            _tile_dpbssd(1, 4, 5);
        }
        _tile_stored(0, t, 64);
        _tile_stored(1, t + 256, 64);
        _tile_stored(2, t + 512, 64);
    }
}

// Exponents, maxima and P of one page. The first row sees positions from..valid - 1, row r begins and ends r later. p: (16, 64) bytes high, then low
INFC_INLINE void q16_tile_softmax(q16_tile *x, const int32_t *t, const float *dk, int masked, int from, int valid, infc_limit limit,
                                  uint8_t *p, float *c, float *f)
{
    float u[16][Q16_PAGE] __attribute__((aligned(64))), pm[16] __attribute__((aligned(64)));
    v16f most[16];
    INFC_UNROLL for (int i = 0; i < 16; i++) {
        const v16f dq = v16f_set1(x->dq[i]);
        most[i] = v16f_set1(-INFINITY);
        INFC_UNROLL for (int j = 0; j < 4; j++) {
            const v16f scale = v16f_mul(dq, v16f_load(dk + 16 * j));
            v16f y = q16_exponent(q16_joined(t + 768 * j, i), scale, v16f_load(dk + Q16_PAGE + 16 * j), limit);
            if (masked) {
                y = v16f_keep(y, valid + i - 16 * j, v16f_set1(-INFINITY));
                y = infc_keep_from(limit, y, from + i - 16 * j, v16f_set1(-INFINITY));
            }
            v16f_store(u[i] + 16 * j, y);
            most[i] = v16f_max(most[i], y);
        }
    }
    const v16f unit = v16f_set1(0x1p-14f), page = q16_maxima(most), old = v16f_load(x->m), next = v16f_max(old, page);
    v16f_store(x->m, next);
    v16f_store(pm, page);
    v16f_store(c, v16f_mul(q16_exp2(v16f_sub(old, next)), unit));
    v16f_store(f, v16f_mul(q16_exp2(v16f_sub(page, next)), unit));
    for (int i = 0; i < 16; i++) {
        if (masked && (valid + i <= 0 || from + i >= Q16_PAGE)) {  // this row ended before the page, or begins behind it
            v16i_store(p + 64 * i, v16i_set1(0));
            v16i_store(p + 1024 + 64 * i, v16i_set1(0));
            continue;
        }
        v16f z = v16f_zero(), y[4];
        INFC_UNROLL for (int j = 0; j < 4; j++) {
            y[j] = q16_exp2(v16f_sub(v16f_load(u[i] + 16 * j), v16f_set1(pm[i])));
            z = q16_add_weights(z, y[j], dk + 2 * Q16_PAGE + 16 * j, masked, from + i - 16 * j, valid + i - 16 * j, limit);
        }
        v16f_store(x->l[i], v16f_fma(z, v16f_set1(f[i]), v16f_mul(v16f_load(x->l[i]), v16f_set1(c[i]))));
        const __m512i a = v16i_or(v16i_round(y[0]), v16i_shl16(v16i_round(y[1])));
        const __m512i b = v16i_or(v16i_round(y[2]), v16i_shl16(v16i_round(y[3])));
        v16i_store(p + 64 * i, q16_bytes(_mm512_srli_epi16(a, 8), b));
        v16i_store(p + 1024 + 64 * i, q16_bytes(a, _mm512_slli_epi16(b, 8)));
    }
}

// T = P V, and o = fma(T, f, o c) of rows from..to - 1. v: of q16_unpack_values; o: row i at o + i * ldo
INFC_INLINE void q16_tile_values(const uint8_t *p, const uint8_t *v, const float *c, const float *f, int from, int to, int head_dim, int32_t *t,
                                 float *o, size_t ldo)
{
    INFC_TILE_ORDER;
    _tile_loadd(3, p, 64);
    _tile_loadd(4, p + 1024, 64);
    for (int d = 0; d < head_dim / 16; d++, v += Q16_TILE_BYTES) {
        int32_t *td = t + 768 * (d & 3);
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_loadd(5, v, 64);
        _tile_loadd(6, v + (size_t)64 * head_dim, 64);
        _tile_dpbusd(0, 3, 5);
        _tile_dpbusd(1, 3, 6);
        _tile_dpbusd(2, 4, 6);
        _tile_dpbusd(1, 4, 5);
        _tile_stored(0, td, 64);
        _tile_stored(1, td + 256, 64);
        _tile_stored(2, td + 512, 64);
        if ((d & 3) < 3 && d + 1 < head_dim / 16) continue;
        const int first = d & ~3;  // of up to four tiles
        for (int i = from; i < to; i++) {
            const v16f fi = v16f_set1(f[i]), ci = v16f_set1(c[i]);
            float *y = o + i * ldo;
            for (int k = first; k <= d; k++)
                v16f_store(y + 16 * k, v16f_fma(v16f_from_i32(q16_joined(t + 768 * (k & 3), i)), fi, v16f_mul(v16f_load(y + 16 * k), ci)));
        }
    }
}

// `heads` heads of `rows` (a multiple of 16) consecutive rows, heads * rows / 16 <= Q16_TILES; arguments as q16_block
INFC_INLINE void q16_tile_block(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t page_stride, size_t part_offset,
                                int n_pos, int rows, int heads, int head_dim, infc_limit limit, float *out, size_t ldo)
{
    enum { MOST = Q16_MAX_HEAD_DIM };
    uint8_t queries[Q16_TILES * 32 * MOST] __attribute__((aligned(64)));
    uint8_t keys[128 * MOST] __attribute__((aligned(64))), values[128 * MOST] __attribute__((aligned(64)));
    int32_t t[4 * 768] __attribute__((aligned(64)));
    uint8_t p[2048] __attribute__((aligned(64)));
    float c[16] __attribute__((aligned(64))), f[16] __attribute__((aligned(64)));
    q16_tile x[Q16_TILES];
    const int padded = q16_padded(head_dim), n = rows / 16 * heads, last = n_pos + rows - 1;
    if (padded != head_dim) memset(keys, 0, (size_t)128 * padded);
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)(i % heads) * head_dim;
        for (int r = 0; r < 16; r++) {
            const int row = i / heads * 16 + r;
            x[i].dq[r] = q16_split_query(q + row * ldq + at, head_dim, r, queries + (size_t)i * 32 * padded);
            q16_begin(limit, i % heads, x[i].m + r, x[i].l[r]);
            for (int d = 0; d < head_dim; d += 16) v16f_store(out + row * ldo + at + d, v16f_zero());
        }
    }
    for (int first = infc_first_page(limit, n_pos, Q16_PAGE); first < last; first += Q16_PAGE) {
        const uint8_t *part = kv + (size_t)pages[first / Q16_PAGE] * page_stride + part_offset;
        const float *dk = (const float *)(const void *)(part + q16_scales_offset(head_dim));
        q16_unpack_keys(part, head_dim, keys);
        q16_unpack_values(part + q16_values_offset(head_dim), head_dim, values);
        for (int i = 0; i < n; i++) {
            // of the 16 rows' first; row r begins and ends r later
            const int row = i / heads * 16, valid = n_pos + row - first, from = limit.window > 0 ? valid - limit.window : 0;
            const int masked = valid < Q16_PAGE || (limit.window > 0 && from + 15 > 0);
            if (valid + 15 <= 0 || from >= Q16_PAGE) continue;  // beyond all 16 rows, or behind them
            q16_tile_scores(queries + (size_t)i * 32 * padded, keys, head_dim, t);
            if (masked)
                q16_tile_softmax(x + i, t, dk, 1, from, valid, limit, p, c, f);
            else
                q16_tile_softmax(x + i, t, dk, 0, 0, valid, limit, p, c, f);
            const int to = limit.window > 0 && Q16_PAGE - from < 16 ? Q16_PAGE - from : 16;
            q16_tile_values(p, values, c, f, masked && valid < 1 ? 1 - valid : 0, to, head_dim, t, out + row * ldo + (size_t)(i % heads) * head_dim, ldo);
        }
    }
    for (int i = 0; i < n; i++) {
        for (int r = 0; r < 16; r++) {
            float *o = out + (i / heads * 16 + r) * ldo + (size_t)(i % heads) * head_dim;
            q16_finish(x[i].l[r], o, head_dim, o);
        }
    }
}

// 16 or 32 rows of all heads of a group
INFC_INLINE void q16_tile_rows(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t page_stride, size_t part_offset,
                               int n_pos, int rows, int head_dim, int group, infc_limit limit, float *out, size_t ldo)
{
    const int most = Q16_TILES / (rows / 16);
    int h = 0;
    infc_tiles_configure(&q16_tiles);
    for (; h + most <= group; h += most)
        q16_tile_block(q + h * head_dim, ldq, kv, pages, page_stride, part_offset, n_pos, rows, most, head_dim, infc_limit_from(limit, h),
                       out + h * head_dim, ldo);
    if (group % most)
        q16_tile_block(q + h * head_dim, ldq, kv, pages, page_stride, part_offset, n_pos, rows, group % most, head_dim, infc_limit_from(limit, h),
                       out + h * head_dim, ldo);
}
#endif
