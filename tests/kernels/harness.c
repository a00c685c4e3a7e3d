// Every function of the kernel headers, out of line, for tests/kernels to call through cffi. One library per ISA.
#define _GNU_SOURCE
#include "infc_attention.h"
#include "infc_epilogue.h"
#include "infc_linear.h"
#include "infc_norm.h"

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

#if defined(INFC_ISA_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#define TILES(F)                                                                                                                         \
    void t_linear_##F##_q8_tiles(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s)                                \
    {                                                                                                                                    \
        linear_##F##_q8_tiles(w, n, K, (const infc_q8 *)x, M, y, s);                                                                     \
    }
TILES(q4_0)
TILES(q4_1)
TILES(q5_0)
TILES(q5_1)
TILES(q8_0)
// Whether the kernel grants this process its tiles
int t_tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }
#endif

Q8(q4_0)
Q8(q4_1)
Q8(q5_0)
Q8(q5_1)
Q8(q8_0)
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
void t_rope_k(const float *tile, const float *rope, int head_dim, int d0, uint8_t *part, int page, int slot)
{
    epi_rope_k(tile, rope, head_dim, d0, part, page, slot);
}
void t_v(const float *tile, int head_dim, int d0, uint8_t *part, int page, int slot) { epi_v(tile, head_dim, d0, part, page, slot); }

// The shapes of real models, small and odd groups among them: head_dim, group, page
#define ATTENTION(H, G, P)                                                                                                               \
    if (head_dim == H && group == G && page == P) {                                                                                      \
        attn_row(q, kv, pages, stride, offset, n_pos, H, G, P, out);                                                                     \
        return 0;                                                                                                                        \
    }
#define ATTENTION_ROWS(H, G, P)                                                                                                          \
    if (head_dim == H && group == G && page == P) {                                                                                      \
        attn_rows(q, ldq, kv, pages, stride, offset, n_pos, H, G, P, out, ldo);                                                          \
        return INFC_ATTN_ROWS;                                                                                                           \
    }
int t_attn(const float *q, const uint8_t *kv, const int32_t *pages, size_t stride, size_t offset, int n_pos, int head_dim, int group,
           int page, float *out)
{
    ATTENTION(64, 3, 32)
    ATTENTION(64, 1, 32)
    ATTENTION(32, 2, 16)
    ATTENTION(48, 5, 64)
    ATTENTION(128, 8, 32)
    return -1;
}
int t_attn_rows(const float *q, size_t ldq, const uint8_t *kv, const int32_t *pages, size_t stride, size_t offset, int n_pos, int head_dim,
                int group, int page, float *out, size_t ldo)
{
    ATTENTION_ROWS(64, 3, 32)
    ATTENTION_ROWS(64, 1, 32)
    ATTENTION_ROWS(32, 2, 16)
    ATTENTION_ROWS(48, 5, 64)
    ATTENTION_ROWS(128, 8, 32)
    return -1;
}
