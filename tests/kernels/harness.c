// Every function of the kernel headers, out of line, for tests/kernels to call through cffi. One library per ISA.
#define _GNU_SOURCE
#include "infc_attention.h"
#include "infc_epilogue.h"
#include "infc_experts.h"
#include "infc_linear.h"
#include "infc_norm.h"

_Atomic int infc_cpu_drops;  // of infc_cpu.c, which tests of kernels do without
void t_drops_prefetches(int yes) { infc_cpu_drops = yes; }

#define Q8(F)                                                                                                                            \
    void t_linear_##F##_q8_gemv(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s)                                 \
    {                                                                                                                                    \
        (void)M, (void)s;                                                                                                                \
        linear_##F##_q8_gemv(w, n, K, (const infc_q8 *)x, y);                                                                            \
    }                                                                                                                                    \
    void t_linear_##F##_q8_small(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s)                                \
    {                                                                                                                                    \
        (void)s;                                                                                                                         \
        linear_##F##_q8_small(w, n, K, (const infc_q8 *)x, M, y);                                                                        \
    }                                                                                                                                    \
    void t_linear_##F##_q8_gemm(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s)                                 \
    {                                                                                                                                    \
        linear_##F##_q8_gemm(w, n, K, (const infc_q8 *)x, M, y, s);                                                                      \
    }                                                                                                                                    \
    void t_embed_##F##_row(const uint8_t *w, int K, int token, float *out) { embed_##F##_row(w, K, token, out); }
#define F32(F)                                                                                                                           \
    void t_linear_##F##_f32_gemv(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s)                                \
    {                                                                                                                                    \
        (void)M, (void)s;                                                                                                                \
        linear_##F##_f32_gemv(w, n, K, (const float *)x, y);                                                                             \
    }                                                                                                                                    \
    void t_linear_##F##_f32_small(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s)                               \
    {                                                                                                                                    \
        (void)s;                                                                                                                         \
        linear_##F##_f32_small(w, n, K, (const float *)x, M, y);                                                                         \
    }                                                                                                                                    \
    void t_linear_##F##_f32_gemm(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s)                                \
    {                                                                                                                                    \
        linear_##F##_f32_gemm(w, n, K, (const float *)x, M, y, s);                                                                       \
    }                                                                                                                                    \
    void t_embed_##F##_row(const uint8_t *w, int K, int token, float *out) { embed_##F##_row(w, K, token, out); }

// Every block-quantized format
#define FORMATS(X)                                                                                                                       \
    X(iq4_nl) X(iq4_xs) X(mxfp4) X(q2_k) X(q3_k) X(q4_0) X(q4_1) X(q4_k) X(q5_0) X(q5_1) X(q5_k) X(q6_k) X(q8_0) X(tq1_0) X(tq2_0)

#if defined(INFC_ISA_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#define TILES(F)                                                                                                                         \
    void t_linear_##F##_q8_tiles(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s)                                \
    {                                                                                                                                    \
        linear_##F##_q8_tiles(w, n, K, (const infc_q8 *)x, M, y, s);                                                                     \
    }
FORMATS(TILES)
// Whether the kernel grants this process its tiles
int t_tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }
#endif

FORMATS(Q8)
F32(f32)
F32(f16)
F32(bf16)

int t_scratch_bytes(void) { return INFC_GEMM_SCRATCH_BYTES; }

#define UNARY(name, f)                                                                                                                   \
    void t_##name(const float *x, float *y, int n)                                                                                       \
    {                                                                                                                                    \
        for (int i = 0; i < n; i += 16) v16f_store(y + i, f(v16f_load(x + i)));                                                          \
    }
UNARY(exp, v16f_exp)
UNARY(sigmoid, v16f_sigmoid)
UNARY(silu, v16f_silu)
UNARY(tanh, v16f_tanh)
UNARY(gelu, v16f_gelu)
UNARY(relu2, v16f_relu2)
void t_fma(const float *a, const float *b, const float *c, float *y, int n)
{
    for (int i = 0; i < n; i += 16) v16f_store(y + i, v16f_fma(v16f_load(a + i), v16f_load(b + i), v16f_load(c + i)));
}
void t_from_f16(const uint16_t *h, float *y, int n)
{
    for (int i = 0; i < n; i += 16) v16f_store(y + i, v16f_from_f16(h + i));
}
void t_from_f16_one(const uint16_t *h, float *y, int n)
{
    for (int i = 0; i < n; i++) y[i] = infc_f16_to_f32(h[i]);
}
void t_to_f16(const float *x, uint16_t *h, int n)
{
    for (int i = 0; i < n; i += 16) v16f_to_f16(h + i, v16f_load(x + i));
}
void t_max(const float *a, const float *b, float *y) { v16f_store(y, v16f_max(v16f_load(a), v16f_load(b))); }
float t_fold_add(const float *x) { return v16f_fold_add(v16f_load(x)); }
float t_fold_max(const float *x) { return v16f_fold_max(v16f_load(x)); }

void t_quantize_row(const float *x, int K, const infc_q8 *a, int m) { quantize_q8_row(x, K, a, m); }
void t_rmsnorm(const float *x, const float *w, float eps, int K, float *out) { rmsnorm_row(x, w, eps, K, out); }
void t_rmsnorm_q8(const float *x, const float *w, float eps, int K, const infc_q8 *a, int m) { rmsnorm_q8_row(x, w, eps, K, a, m); }

void t_quantize_rows(const float *x, size_t ldx, int rows, const infc_q8 *a, int K, int m, int b)
{
    quantize_q8_rows(x, ldx, rows, a, K, m, b);
}
void t_rmsnorm_q8_rows(const float *x, size_t ldx, int rows, const float *w, float eps, int K, const infc_q8 *a, int m)
{
    rmsnorm_q8_rows(x, ldx, rows, w, eps, K, a, m);
}
void t_rmsnorm_q8x2(const float *x, const float *w, float eps, int K, const infc_q8 *a, int m) { rmsnorm_q8x2_row(x, w, eps, K, a, m); }
void t_store_sum(const float *tile, int M, float *const *out, int n0, int n_valid) { epi_store_sum(tile, M, out, n0, n_valid); }
void t_residual(const float *tile, int M, float *x, int ldx, int n0) { epi_residual(tile, M, x, ldx, n0); }
void t_store(const float *tile, int M, float *const *out, int n0, int n_valid) { epi_store(tile, M, out, n0, n_valid); }
void t_swiglu_q8(const float *g, const float *u, int M, const infc_q8 *a, int K, int b) { epi_swiglu_q8(g, u, M, a, K, b); }
void t_swiglu_f32(const float *g, const float *u, int M, float *h, int ldh, int n0) { epi_swiglu_f32(g, u, M, h, ldh, n0); }
void t_rope_q(const float *tile, int M, const float *rope, int head_dim, int d0, float scale, float *q, int ldq, int n0)
{
    epi_rope_q(tile, M, rope, head_dim, d0, scale, q, ldq, n0);
}
void t_experts_choose(const float *logits, size_t ld, const float *bias, int n, int n_used, int renormalise, infc_expert_choice *out)
{
    experts_choose(logits, ld, bias, n, n_used, renormalise, out);
}
size_t t_most_members(size_t n_rows, size_t n_used, size_t n_experts) { return infc_most_members(n_rows, n_used, n_experts); }
void t_experts_group(const infc_expert_choice *choice, int n_rows, int n_used, int n_experts, int small_max, infc_groups *g)
{
    experts_group(choice, n_rows, n_used, n_experts, small_max, g);
}
int t_experts_share(const infc_groups *g, int i, int units, int t, int T) { return experts_share(g, g->group + i, units, t, T); }
int t_gather_rows(void) { return INFC_GATHER_ROWS; }
int t_group_bytes(void) { return sizeof(infc_group); }
int t_member_bytes(void) { return sizeof(infc_member); }
void t_gather_q8(const infc_q8 *a, int K, const infc_member *member, int n, int tiled, const infc_q8 *own, infc_q8 *out)
{
    *out = experts_gather_q8(a, K, member, n, tiled, own);
}
const float *t_gather_f32(const float *a, int K, const infc_member *member, int n, float *own) { return experts_gather_f32(a, K, member, n, own); }
void t_epi_experts(const float *tile, const infc_member *member, int n, const float *bias, float *x, int ldx, int n0)
{
    epi_experts(tile, member, n, bias, x, ldx, n0);
}
#define WRITE(F)                                                                                                                         \
    void t_##F##_write_k(const float *tile, size_t ld, const float *rope, int head_dim, int d0, int dims, uint8_t *part, int page,       \
                         int slot)                                                                                                       \
    {                                                                                                                                    \
        F##_write_k(tile, ld, rope, head_dim, d0, dims, part, page, slot);                                                               \
    }                                                                                                                                    \
    void t_##F##_write_v(const float *tile, size_t ld, int head_dim, int d0, int dims, uint8_t *part, int page, int slot)                \
    {                                                                                                                                    \
        F##_write_v(tile, ld, head_dim, d0, dims, part, page, slot);                                                                     \
    }
WRITE(f16)
WRITE(q16)
UNARY(q16_exp2, q16_exp2)

// The shapes of real models, small and odd groups among them: head_dim, group, page. They are constants as in emitted code.
#define SHAPE(F, H, G, P)                                                                                                                \
    if (head_dim == H && group == G && page == P) {                                                                                      \
        F##_attention(q, ldq, kv, pages, stride, offset, n_pos, rows, H, G, P, out, ldo);                                                \
        return rows;                                                                                                                     \
    }
#define ATTENTION(F)                                                                                                                     \
    int t_##F##_attention(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t stride, size_t offset, int n_pos,  \
                          int rows, int head_dim, int group, int page, float *out, size_t ldo)
ATTENTION(f16)
{
    SHAPE(f16, 64, 3, 32)
    SHAPE(f16, 64, 1, 32)
    SHAPE(f16, 32, 2, 16)
    SHAPE(f16, 48, 5, 64)
    SHAPE(f16, 128, 8, 32)
    return -1;
}
ATTENTION(q16)
{
    SHAPE(q16, 64, 3, 64)
    SHAPE(q16, 64, 1, 64)
    SHAPE(q16, 16, 2, 64)
    SHAPE(q16, 48, 5, 64)
    SHAPE(q16, 128, 8, 64)
    SHAPE(q16, 256, 1, 64)
    return -1;
}

// With a window and sinks: head_dim 64, 3 query heads
#define SINKS(F, PAGE)                                                                                                                   \
    void t_##F##_sinks(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t stride, size_t offset, int n_pos,     \
                       int rows, int window, const float *sinks, float *out, size_t ldo)                                                 \
    {                                                                                                                                    \
        F##_attention_limited(q, ldq, kv, pages, stride, offset, n_pos, rows, 64, 3, PAGE, out, ldo, window, 0.0f, sinks);               \
    }
SINKS(f16, 32)
SINKS(q16, 64)
