// infc_attention.h: keys, values and attention over them, one file per format of the cache. A format F of kv/F.h has
//   F_write_k, F_write_v   one row of a qkv tile into its slot of a page part
//   F_attention            consecutive rows of one sequence, all query heads of one kv head (or one of them)
// with the same arguments in all, so that emitted code names the format and nothing else. The sums of a query never depend on which
// rows or heads are computed with it.
#ifndef INFC_ATTENTION_H
#define INFC_ATTENTION_H
#include "kv/f16.h"
#include "kv/q16_attention.h"
#endif
