// kv/limit.h: what a layer's attention may do besides. Constants after inlining; {0, 0, NULL} costs nothing.
#ifndef INFC_KV_LIMIT_H
#define INFC_KV_LIMIT_H
#include "../infc_math.h"

// window: a query at position p sees keys p - window + 1 .. p; 0: all up to p. cap: a score x becomes cap tanh(x / cap); 0: it stays.
// sinks: of each query head a logit that takes its share of the probability and gives no value (gpt-oss); NULL: there are none.
typedef struct infc_limit {
    int window;
    float cap;
    const float *sinks;
} infc_limit;

// The same of query heads h..
INFC_INLINE infc_limit infc_limit_from(infc_limit limit, int h)
{
    if (limit.sinks != NULL) limit.sinks += h;
    return limit;
}

// The first position that a query sees which attends n_pos positions: itself the last of them.
INFC_INLINE int infc_first_seen(infc_limit limit, int n_pos) { return limit.window > 0 && n_pos > limit.window ? n_pos - limit.window : 0; }

// The first position of that position's page
INFC_INLINE int infc_first_page(infc_limit limit, int n_pos, int page) { return infc_first_seen(limit, n_pos) / page * page; }

// x in the lanes from `from` on, fill below
INFC_INLINE v16f infc_keep_from(infc_limit limit, v16f x, int from, v16f fill) { return limit.window > 0 ? v16f_keep(fill, from, x) : x; }

// cap tanh(x / cap)
INFC_INLINE v16f infc_capped(infc_limit limit, v16f x)
{
    return limit.cap > 0.0f ? v16f_mul(v16f_tanh(v16f_mul(x, v16f_set1(1.0f / limit.cap))), v16f_set1(limit.cap)) : x;
}
#endif
