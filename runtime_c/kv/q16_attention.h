// kv/q16_attention.h: attention over q16 pages: on tiles where there are any and rows enough to fill them.
#ifndef INFC_KV_Q16_ATTENTION_H
#define INFC_KV_Q16_ATTENTION_H
#include "q16_rows.h"
#if defined(INFC_ISA_AMX)
#include "q16_amx.h"
#endif

// The query heads of `rows` consecutive positions of one sequence that share a kv head; the first attends n_pos >= 1 positions.
// Row r: q + r * ldq, (group, head_dim), to out + r * ldo. Position i is in page pages[i / 64], whose part begins at
// kv + pages[i / 64] * page_stride + part_offset; memory past the last position in its page is read but has no influence. page: 64.
// window, cap, sinks: kv/limit.h; sinks: (group). 4 head_dim + 12 bytes of keys and values per position; 2 group head_dim MACs per position and row
INFC_INLINE void q16_attention_limited(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t page_stride,
                               size_t part_offset, int n_pos, int rows, int head_dim, int group, int page, float *out, size_t ldo,
                               int window, float cap, const float *sinks)
{
    const infc_limit limit = {window, cap, sinks};
    int r = 0;
    (void)page;
#if defined(INFC_ISA_AMX)
    for (; r + 32 <= rows; r += 32)
        q16_tile_rows(q + r * ldq, ldq, kv, pages, page_stride, part_offset, n_pos + r, 32, head_dim, group, limit, out + r * ldo, ldo);
    for (; r + 16 <= rows; r += 16)
        q16_tile_rows(q + r * ldq, ldq, kv, pages, page_stride, part_offset, n_pos + r, 16, head_dim, group, limit, out + r * ldo, ldo);
#endif
    for (; r + Q16_ROWS <= rows; r += Q16_ROWS)
        q16_heads(q + r * ldq, ldq, kv, pages, page_stride, part_offset, n_pos + r, Q16_ROWS, head_dim, group, limit, out + r * ldo, ldo);
    for (; r < rows; r++)
        q16_heads(q + r * ldq, ldq, kv, pages, page_stride, part_offset, n_pos + r, 1, head_dim, group, limit, out + r * ldo, ldo);
}

INFC_INLINE void q16_attention(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t page_stride,
                               size_t part_offset, int n_pos, int rows, int head_dim, int group, int page, float *out, size_t ldo)
{
    q16_attention_limited(q, ldq, kv, pages, page_stride, part_offset, n_pos, rows, head_dim, group, page, out, ldo, 0, 0.0f, NULL);
}
#endif
