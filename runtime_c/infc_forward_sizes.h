// infc_forward_sizes.h: scratch that the kernels need, for code that does not include the kernels.
#ifndef INFC_FORWARD_SIZES_H
#define INFC_FORWARD_SIZES_H

enum { INFC_GEMM_SCRATCH_BYTES = 32 * 640 };  // 32 unpacked blocks of 16 rows: 512 B of weights, two rows of f32 scales; well within L1
#endif
