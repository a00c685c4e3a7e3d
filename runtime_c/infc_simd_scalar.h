// infc_simd_scalar.h: infc_simd.h in portable C, the oracle every other ISA must equal. Vectors of 16 bytes are a gcc and clang
// extension that any CPU can run: SSE2 on plain x86-64, NEON on arm64, loops elsewhere. No intrinsic, no instruction set flag.
#ifndef INFC_SIMD_SCALAR_H
#define INFC_SIMD_SCALAR_H

enum { INFC_PREFETCH_BYTES = 2048, INFC_TILE_ROWS = 1, INFC_SMALL_TILE_ROWS = 1, INFC_GEMM_PANELS = 1, INFC_F32_PANELS = 1, INFC_ATTN_QUERIES = 4, INFC_ATTN_SUMS = 4 };  // see infc_simd_avx2.h
enum { INFC_Q16_QUERIES = 4, INFC_Q16_SUMS = 1 };

typedef float infc_f4 __attribute__((vector_size(16)));
typedef float infc_f2 __attribute__((vector_size(8)));
typedef double infc_d2 __attribute__((vector_size(16)));
typedef int32_t infc_i4 __attribute__((vector_size(16)));
typedef uint32_t infc_u4 __attribute__((vector_size(16)));
typedef int16_t infc_s8 __attribute__((vector_size(16)));
typedef uint16_t infc_w8 __attribute__((vector_size(16)));

typedef struct { infc_f4 v[4]; } v16f;
typedef struct { infc_i4 v[4]; } v16i;
typedef struct { infc_w8 v[4]; } v64b;
typedef struct { infc_s8 v[4]; } vdot;  // s16 pairs

#define INFC_EACH4(E) {{E(0), E(1), E(2), E(3)}}

INFC_INLINE v16f v16f_set1(float x)
{
    const infc_f4 v = {x, x, x, x};
    return (v16f){{v, v, v, v}};
}
INFC_INLINE v16f v16f_zero(void) { return v16f_set1(0.0f); }
INFC_INLINE v16f v16f_load(const float *p)
{
    v16f r;
    memcpy(&r, p, 64);
    return r;
}
INFC_INLINE void v16f_store(float *p, v16f a) { memcpy(p, &a, 64); }
#define INFC_E(i) a.v[i] + b.v[i]
INFC_INLINE v16f v16f_add(v16f a, v16f b) { return (v16f)INFC_EACH4(INFC_E); }
INFC_INLINE v16i v16i_add(v16i a, v16i b) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) a.v[i] - b.v[i]
INFC_INLINE v16f v16f_sub(v16f a, v16f b) { return (v16f)INFC_EACH4(INFC_E); }
INFC_INLINE v16i v16i_sub(v16i a, v16i b) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) a.v[i] * b.v[i]
INFC_INLINE v16f v16f_mul(v16f a, v16f b) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) a.v[i] / b.v[i]
INFC_INLINE v16f v16f_div(v16f a, v16f b) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E

INFC_INLINE infc_f4 infc_pick(infc_i4 mask, infc_f4 x, infc_f4 y)
{
    return (infc_f4)((mask & (infc_i4)x) | (~mask & (infc_i4)y));
}
#define INFC_E(i) infc_pick((infc_i4)(a.v[i] > b.v[i]), a.v[i], b.v[i])
INFC_INLINE v16f v16f_max(v16f a, v16f b) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) infc_pick((infc_i4)(a.v[i] < b.v[i]), a.v[i], b.v[i])
INFC_INLINE v16f v16f_min(v16f a, v16f b) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) infc_pick((infc_i4)(a.v[i] < b.v[i]), x.v[i], y.v[i])
INFC_INLINE v16f v16f_if_less(v16f a, v16f b, v16f x, v16f y) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) infc_pick((infc_i4)(a.v[i] != a.v[i]), x.v[i], y.v[i])
INFC_INLINE v16f v16f_if_nan(v16f a, v16f x, v16f y) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E
INFC_INLINE v16f v16f_keep(v16f a, int n, v16f fill)
{
    const infc_i4 lane = {0, 1, 2, 3}, m = {n, n, n, n};
#define INFC_E(i) infc_pick((infc_i4)(lane + 4 * i < m), a.v[i], fill.v[i])
    return (v16f)INFC_EACH4(INFC_E);
#undef INFC_E
}
#define INFC_E(i) __builtin_shufflevector(a.v[i], a.v[i], 1, 0, 3, 2)
INFC_INLINE v16f v16f_swap_pairs(v16f a) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E
INFC_INLINE float v16f_fold_add(v16f a)
{
    const infc_f4 q = (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
    return (q[0] + q[2]) + (q[1] + q[3]);
}
INFC_INLINE float v16f_fold_max(v16f a)
{
#define INFC_MAX(x, y) infc_pick((infc_i4)((x) > (y)), x, y)
    const infc_f4 l = INFC_MAX(a.v[0], a.v[2]), h = INFC_MAX(a.v[1], a.v[3]), q = INFC_MAX(l, h);
#undef INFC_MAX
    const float x = q[0] > q[2] ? q[0] : q[2], y = q[1] > q[3] ? q[1] : q[3];
    return x > y ? x : y;
}

// a * b is exact in double, so only the second rounding (to float) can go wrong, and only where the double lies exactly between
// two floats or the result is subnormal. Then *doubtful is set.
INFC_INLINE infc_f2 infc_fma2(infc_f2 a, infc_f2 b, infc_f2 c, infc_i4 *doubtful)
{
    const infc_d2 s = __builtin_convertvector(a, infc_d2) * __builtin_convertvector(b, infc_d2) + __builtin_convertvector(c, infc_d2);
    const infc_i4 t = (infc_i4)s & (infc_i4){0x1fffffff, 0x7fffffff, 0x1fffffff, 0x7fffffff};
    const infc_i4 half = {0x10000000, 0x7fffffff, 0x10000000, 0x7fffffff}, least = {0, 0x38100000, 0, 0x38100000};
    *doubtful |= (infc_i4)(t == half) | ((infc_i4)(t < least) & (infc_i4)(t > 0));
    return __builtin_convertvector(s, infc_f2);
}
INFC_INLINE infc_f4 infc_fma4(infc_f4 a, infc_f4 b, infc_f4 c, infc_i4 *doubtful)
{
    const infc_f2 l = infc_fma2(__builtin_shufflevector(a, a, 0, 1), __builtin_shufflevector(b, b, 0, 1),
                                __builtin_shufflevector(c, c, 0, 1), doubtful);
    const infc_f2 h = infc_fma2(__builtin_shufflevector(a, a, 2, 3), __builtin_shufflevector(b, b, 2, 3),
                                __builtin_shufflevector(c, c, 2, 3), doubtful);
    return __builtin_shufflevector(l, h, 0, 1, 2, 3);
}
__attribute__((noinline, unused)) static v16f infc_fma_libm(const v16f *a, const v16f *b, const v16f *c)
{
    v16f r;
    for (int i = 0; i < 16; i++) r.v[i / 4][i % 4] = fmaf(a->v[i / 4][i % 4], b->v[i / 4][i % 4], c->v[i / 4][i % 4]);
    return r;
}
INFC_HEAVY v16f v16f_fma(v16f a, v16f b, v16f c)
{
    infc_i4 doubtful = {0, 0, 0, 0};
#define INFC_E(i) infc_fma4(a.v[i], b.v[i], c.v[i], &doubtful)
    const v16f r = INFC_EACH4(INFC_E);
#undef INFC_E
    if (__builtin_expect((doubtful[0] | doubtful[1] | doubtful[2] | doubtful[3]) == 0, 1)) return r;
    const v16f x = a, y = b, z = c;  // copies, so that a, b and c may live in registers
    return infc_fma_libm(&x, &y, &z);
}

// f16: shift into place and multiply by 2^112, exact; exponent 31 apart
INFC_INLINE infc_f4 infc_f16_4(const uint16_t *p)
{
    const infc_u4 h = {p[0], p[1], p[2], p[3]}, m = (h & 0x7fff) << 13;
    const infc_f4 f = (infc_f4)m * 0x1p112f;
    const infc_u4 quiet = (infc_u4)((h & 0x3ff) != 0) & 0x400000u;
    const infc_u4 special = (infc_u4)((h & 0x7c00) == 0x7c00);
    const infc_u4 r = (special & (m | 0x7f800000u | quiet)) | (~special & (infc_u4)f);
    return (infc_f4)(r | (h & 0x8000) << 16);
}
INFC_INLINE v16f v16f_from_f16(const void *p)
{
    uint16_t h[16];
    memcpy(h, p, 32);
#define INFC_E(i) infc_f16_4(h + 4 * i)
    return (v16f)INFC_EACH4(INFC_E);
#undef INFC_E
}
INFC_INLINE uint16_t infc_f32_to_f16(float x)
{
    uint32_t u, r;
    memcpy(&u, &x, 4);
    const uint32_t a = u & 0x7fffffff, sign = u >> 16 & 0x8000;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x47800000u) return (uint16_t)(sign | 0x7c00);
    if (a >= 0x38800000u) return (uint16_t)(sign | (a - 0x38000000u + 0xfff + (a >> 13 & 1)) >> 13);
    float f;
    memcpy(&f, &a, 4);
    f += 0.5f;  // whose last place is the least f16
    memcpy(&r, &f, 4);
    return (uint16_t)(sign | (r - 0x3f000000u));
}
INFC_INLINE void v16f_to_f16(void *p, v16f a)
{
    uint16_t h[16];
    for (int i = 0; i < 16; i++) h[i] = infc_f32_to_f16(a.v[i / 4][i % 4]);
    memcpy(p, h, 32);
}
INFC_INLINE v16f v16f_from_bf16(const void *p)
{
    uint16_t h[16];
    memcpy(h, p, 32);
#define INFC_E(i) (infc_f4)((infc_u4){h[4 * i], h[4 * i + 1], h[4 * i + 2], h[4 * i + 3]} << 16)
    return (v16f)INFC_EACH4(INFC_E);
#undef INFC_E
}
#define INFC_E(i) __builtin_convertvector(a.v[i], infc_f4)
INFC_INLINE v16f v16f_from_i32(v16i a) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) (infc_i4)a.v[i]
INFC_INLINE v16i v16f_bits(v16f a) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) (infc_f4)a.v[i]
INFC_INLINE v16f v16f_of_bits(v16i a) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E
INFC_INLINE v16f v16f_fraction(v16f a)
{
    const v16f magic = v16f_set1(12582912.0f);
    return v16f_sub(a, v16f_sub(v16f_add(a, magic), magic));
}
#define INFC_E(i) (infc_f4)((infc_u4)a.v[i] + ((infc_u4)(n.v[i] + 12582912.0f) << 23))
INFC_INLINE v16f v16f_scale(v16f a, v16f n) { return (v16f)INFC_EACH4(INFC_E); }
#undef INFC_E

INFC_INLINE v16i v16i_load(const void *p)
{
    v16i r;
    memcpy(&r, p, 64);
    return r;
}
INFC_INLINE void v16i_store(void *p, v16i a) { memcpy(p, &a, 64); }
INFC_INLINE v16i v16i_from_u8(const void *p)
{
    const uint8_t *b = (const uint8_t *)p;
#define INFC_E(i) {b[4 * i], b[4 * i + 1], b[4 * i + 2], b[4 * i + 3]}
    return (v16i)INFC_EACH4(INFC_E);
}
INFC_INLINE v16i v16i_from_s8(const void *p)
{
    const int8_t *b = (const int8_t *)p;
    return (v16i)INFC_EACH4(INFC_E);
#undef INFC_E
}
INFC_INLINE v16i v16i_set1(int32_t x)
{
    const infc_i4 v = {x, x, x, x};
    return (v16i){{v, v, v, v}};
}
#define INFC_E(i) a.v[i] & b.v[i]
INFC_INLINE v16i v16i_and(v16i a, v16i b) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) a.v[i] | b.v[i]
INFC_INLINE v16i v16i_or(v16i a, v16i b) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) (infc_i4)((infc_u4)a.v[i] << 16)
INFC_INLINE v16i v16i_shl16(v16i a) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) (infc_i4)((infc_u4)a.v[i] >> 4)
INFC_INLINE v16i v16i_shr4(v16i a) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_LOW(x) (infc_u4)(((x) << 16) >> 16)
#define INFC_HIGH(x) (infc_u4)((x) >> 16)
#define INFC_E(i) (infc_i4)((infc_u4)s.v[i] + INFC_LOW(a.v[i]) * INFC_LOW(b.v[i]) + INFC_HIGH(a.v[i]) * INFC_HIGH(b.v[i]))
INFC_INLINE v16i v16i_dot2(v16i s, v16i a, v16i b) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#undef INFC_LOW
#undef INFC_HIGH
#define INFC_E(i) a.v[i] << 21
INFC_INLINE v16i v16i_shl21(v16i a) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) a.v[i] << 23
INFC_INLINE v16i v16i_shl23(v16i a) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_MAX(x, y) (((infc_i4)((x) > (y)) & (x)) | (~(infc_i4)((x) > (y)) & (y)))
#define INFC_E(i) INFC_MAX(a.v[i], b.v[i])
INFC_INLINE v16i v16i_max(v16i a, v16i b) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
INFC_INLINE int32_t v16i_fold_add(v16i a)
{
    const infc_i4 q = a.v[0] + a.v[1] + a.v[2] + a.v[3];
    return q[0] + q[1] + q[2] + q[3];
}
INFC_INLINE int32_t v16i_fold_max(v16i a)
{
    const infc_i4 l = INFC_MAX(a.v[0], a.v[1]), h = INFC_MAX(a.v[2], a.v[3]), q = INFC_MAX(l, h);
    const int32_t x = q[0] > q[1] ? q[0] : q[1], y = q[2] > q[3] ? q[2] : q[3];
    return x > y ? x : y;
}
#undef INFC_MAX
// adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits
#define INFC_E(i) (infc_i4)(a.v[i] + 12582912.0f) - 0x4b400000
INFC_INLINE v16i v16i_round(v16f a) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
INFC_INLINE void v16i_store_i16(int16_t *p, v16i a)
{
    for (int i = 0; i < 16; i++) p[i] = (int16_t)a.v[i / 4][i % 4];
}
INFC_INLINE void v16i_store_i8(int8_t *p, v16i a)
{
    for (int i = 0; i < 16; i++) p[i] = (int8_t)a.v[i / 4][i % 4];
}

INFC_INLINE v64b v64b_load(const void *p)
{
    v64b r;
    memcpy(&r, p, 64);
    return r;
}
INFC_INLINE void v64b_store(void *p, v64b a) { memcpy(p, &a, 64); }
#define INFC_E(i) a.v[i] | b.v[i]
INFC_INLINE v64b v64b_or(v64b a, v64b b) { return (v64b)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) a.v[i] & 0x0f0f
INFC_INLINE v64b v64b_low4(v64b a) { return (v64b)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) (a.v[i] >> 4) & 0x0f0f
INFC_INLINE v64b v64b_high4(v64b a) { return (v64b)INFC_EACH4(INFC_E); }
#undef INFC_E
// Bytes are taken apart in pairs: one subtraction that borrowed would change its neighbour.
#define INFC_E(i) ((a.v[i] - (unsigned short)x) & 0xff) | ((a.v[i] & 0xff00) - (unsigned short)(x << 8))
INFC_INLINE v64b v64b_sub(v64b a, int x) { return (v64b)INFC_EACH4(INFC_E); }
#undef INFC_E
#define INFC_E(i) (from > to ? a.v[i] >> (from - to) : a.v[i] << (to - from)) & mask
INFC_INLINE v64b v64b_bits(v64b a, int from, int count, int to)
{
    const unsigned short mask = (unsigned short)((((1 << count) - 1) << to) * 0x0101);
    return (v64b)INFC_EACH4(INFC_E);
}
#undef INFC_E
INFC_INLINE v64b v64b_table(const int8_t *table, v64b a)
{
    uint8_t b[64];
    memcpy(b, &a, 64);
    for (int i = 0; i < 64; i++) b[i] = (uint8_t)table[b[i]];
    memcpy(&a, b, 64);
    return a;
}
#define INFC_E(i) ((a.v[i] >> g) & 0x0101) << 4
INFC_INLINE v64b v64b_bit_to_16(v64b a, int g) { return (v64b)INFC_EACH4(INFC_E); }
#undef INFC_E

INFC_INLINE vdot vdot_zero(void)
{
    const infc_s8 z = {0, 0, 0, 0, 0, 0, 0, 0};
    return (vdot){{z, z, z, z}};
}
INFC_INLINE vdot vdot_begin(v16i *sum) { return (void)sum, vdot_zero(); }
INFC_INLINE infc_s8 infc_pairs(int8_t x, int8_t y) { return (infc_s8){x, y, x, y, x, y, x, y}; }
// Bytes 0 and 2 of each dword, then bytes 1 and 3: 8 steps of 2 * 15 * 127 or 4 of 2 * 31 * 127 stay below 2^15.
INFC_INLINE vdot vdot_step(vdot a, v64b w, const int8_t *x)
{
    const infc_s8 even = infc_pairs(x[0], x[2]), odd = infc_pairs(x[1], x[3]);
#define INFC_E(i) a.v[i] + (infc_s8)(w.v[i] & 0xff) * even + (infc_s8)(w.v[i] >> 8) * odd
    return (vdot)INFC_EACH4(INFC_E);
#undef INFC_E
}
#define INFC_E(i) (((infc_i4)a.v[i] << 16) >> 16) + ((infc_i4)a.v[i] >> 16)
INFC_INLINE v16i vdot_fold(vdot a) { return (v16i)INFC_EACH4(INFC_E); }
#undef INFC_E
enum { INFC_S8_BIAS = 0 };
INFC_INLINE v64b v64b_s8(v64b w) { return w; }
INFC_INLINE v16i vdot_step_s8(v16i a, v64b w, const int8_t *x)
{
    const infc_s8 even = infc_pairs(x[0], x[2]), odd = infc_pairs(x[1], x[3]);
#define INFC_E(i) ((infc_s8)(w.v[i] << 8) >> 8) * even + ((infc_s8)w.v[i] >> 8) * odd
    const vdot pair = INFC_EACH4(INFC_E);
#undef INFC_E
    return v16i_add(a, vdot_fold(pair));
}
INFC_INLINE const uint8_t *infc_after(const uint8_t *p, v16i sum) { return (void)sum, p; }
INFC_INLINE void infc_prefetch(const void *p) { __builtin_prefetch(p); }
INFC_INLINE void infc_prefetch_weights(const void *p) { __builtin_prefetch(p); }
INFC_INLINE void infc_prefetch_l2(const void *p) { __builtin_prefetch(p, 0, 2); }
#endif
