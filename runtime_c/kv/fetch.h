// kv/fetch.h: keys and values from memory, a page ahead of their use.
#ifndef INFC_KV_FETCH_H
#define INFC_KV_FETCH_H
#include "../infc_simd.h"

// What to prefetch while a page is at work: the page `ahead` bytes behind it, and, where `again`, every line of it four times. A line takes
// longer from memory than its products, so the requests come faster than they are served, and Zen 4 drops those that find no place. From
// memory one row reads 19 GB/s with one prefetch a line, 27 with four, of 30 that the loads of a plain loop reach (docs/performance.md).
typedef struct kv_fetch {
    ptrdiff_t ahead;
    int again;
} kv_fetch;

// At a line of keys or values. half: to the line that comes half a page later in the order of use
INFC_INLINE void kv_fetch_line(const uint8_t *line, kv_fetch fetch, ptrdiff_t half)
{
    enum { LATER = 1024 };
    infc_prefetch_l2(line + fetch.ahead);
    if (!fetch.again) return;
    infc_prefetch_l2(line + fetch.ahead + LATER);
    infc_prefetch_l2(line + half);
    infc_prefetch_l2(line + half + LATER);
}
#endif
