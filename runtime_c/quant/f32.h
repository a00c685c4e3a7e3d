// f32: per k, 16 rows x 4 bytes.
INFC_INLINE v16f f32_load(const uint8_t *p) { return v16f_load((const float *)(const void *)p); }
enum { f32_BYTES = 64 };
#define INFC_FORMAT f32
#include "../infc_linear_f32.h"
