// bf16: per k, 16 rows x 2 bytes.
INFC_INLINE v16f bf16_load(const uint8_t *p) { return v16f_from_bf16(p); }
enum { bf16_BYTES = 32 };
#define INFC_FORMAT bf16
#include "../infc_linear_f32.h"
