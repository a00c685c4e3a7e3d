// infc_linear.h: y = W x for every weight format and batch class. Three functions per format F and activation format A:
//
//   linear_F_A_gemv (w, n_panels, K, x, y)               M = 1
//   linear_F_A_small(w, n_panels, K, x, M, y)            a few rows: the weights leave memory once, rows go in register tiles
//   linear_F_A_gemm (w, n_panels, K, x, M, y, scratch)   more rows: panels are unpacked once into L1
//   linear_F_q8_tiles(w, n_panels, K, x, M, y, scratch)  the same on AMX tiles (target amx)
//   embed_F_row     (w, K, token, out)                   one row, dequantized
//
// w: n_panels panels of 16 output rows in the r16 layout, contiguous. x: infc_q8 (A = q8) or (M, K) floats (A = f32).
// gemm and tiles want q8 rows tiled (infc_quantize.h), the others row-major. y: (n_panels, M, 16). scratch: INFC_GEMM_SCRATCH_BYTES.
// All classes give the same bits.
//
// A format is a file quant/F.h: what a block looks like. It ends by including one of the two skeletons, infc_linear_q8.h or
// infc_linear_f32.h, which hold the loops.
#ifndef INFC_LINEAR_H
#define INFC_LINEAR_H
#include "infc_forward_sizes.h"
#include "infc_quantize.h"
#include "infc_simd.h"

#define INFC_CAT_(a, b, c) a##b##c
#define INFC_CAT(a, b, c) INFC_CAT_(a, b, c)
#define INFC_F(name) INFC_CAT(INFC_FORMAT, _, name)  // q4_1_tile
#define INFC_LINEAR(suffix) INFC_CAT(linear_, INFC_FORMAT, suffix)  // linear_q4_1_q8_gemv
#define INFC_EMBED INFC_CAT(embed_, INFC_FORMAT, _row)

// What a format without a minimum, and one whose scales are 16 f16 (and 16 minima) a block, would write out
#define INFC_NO_MIN(F)      \
    enum { F##_HAS_MIN = 0 }; \
    INFC_INLINE v16f F##_min(const uint8_t *scales, int b, int h) { return (void)scales, (void)b, (void)h, v16f_zero(); }
#define INFC_F16_SCALE(F) \
    INFC_INLINE v16f F##_scale(const uint8_t *scales, int b, int h) { return (void)b, (void)h, v16f_from_f16(scales); }
#define INFC_F16_MIN(F)     \
    enum { F##_HAS_MIN = 1 }; \
    INFC_INLINE v16f F##_min(const uint8_t *scales, int b, int h) { return (void)b, (void)h, v16f_from_f16(scales + 32); }

#include "quant/bf16.h"
#include "quant/f16.h"
#include "quant/f32.h"
#include "quant/iq4_nl.h"
#include "quant/iq4_xs.h"
#include "quant/mxfp4.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q4_k.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"
#include "quant/tq1_0.h"
#include "quant/tq2_0.h"

#undef INFC_CAT_
#undef INFC_CAT
#undef INFC_F
#undef INFC_LINEAR
#undef INFC_EMBED
#undef INFC_NO_MIN
#undef INFC_F16_SCALE
#undef INFC_F16_MIN
#endif
