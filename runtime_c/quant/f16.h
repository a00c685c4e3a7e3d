// f16: per k, 16 rows x 2 bytes.
INFC_INLINE v16f f16_load(const uint8_t *p) { return v16f_from_f16(p); }
enum { f16_BYTES = 32 };
#define INFC_FORMAT f16
#include "../infc_linear_f32.h"
