// infc_forward_sizes.h: scratch that the kernels need, for code that does not include the kernels.
#ifndef INFC_FORWARD_SIZES_H
#define INFC_FORWARD_SIZES_H

// An unpacked block of 16 rows is 512 B of weights and two rows of f32 scales.
enum { INFC_GEMM_CHUNK_BYTES = 32 * 640, INFC_GEMM_SCRATCH_BYTES = 48 * 640 };  // well within L1; what AMX tiles take: within 48 KiB
#endif
