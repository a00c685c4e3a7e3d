/* operations avx2|avx512: one hash per operation over 65,536 operands, eight or sixteen lanes at a time.
 * The two print the same lines wherever the processor, or its emulator, rounds as IEEE 754 says. */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { COUNT = 1 << 16 };

static float a[COUNT], b[COUNT], c[COUNT], singles[COUNT];
static double d[COUNT], e[COUNT], f[COUNT], doubles[COUNT];
static uint16_t h[COUNT], halves[COUNT];
static int32_t ints[COUNT];

static uint64_t random_bits(void) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state * 0x2545F4914F6CDD1Du;
}

static float random_float(int exponent) {
  return ldexpf((float)((int32_t)(random_bits() >> 40) - (1 << 23)), (int)(random_bits() % 8) - 23 + exponent);
}

/* 0: any bit pattern, NaN and infinity included; 1: a * b and c nearly cancel; 2: the same with subnormal results. */
static void fill(int kind) {
  for (int i = 0; i < COUNT; i++) {
    uint64_t bits[6];
    for (int k = 0; k < 6; k++) bits[k] = random_bits();
    memcpy(a + i, bits + 0, 4);
    memcpy(b + i, bits + 1, 4);
    memcpy(c + i, bits + 2, 4);
    memcpy(d + i, bits + 3, 8);
    memcpy(e + i, bits + 4, 8);
    memcpy(f + i, bits + 5, 8);
    h[i] = (uint16_t)i;
    if (kind == 0) continue;
    a[i] = random_float(kind == 2 ? -75 : 0);
    b[i] = random_float(kind == 2 ? -60 : 0);
    c[i] = -a[i] * b[i] * (1 + (float)((int)(random_bits() % 5) - 2) * 0x1p-23f);
    d[i] = a[i] * 1.1;
    e[i] = b[i] * 1.3;
    f[i] = -d[i] * e[i];
  }
}

static uint64_t hash(const void *data, size_t size) {
  uint64_t value = 1469598103934665603u;
  for (const uint8_t *byte = data; size--; byte++) value = (value ^ *byte) * 1099511628211u;
  return value;
}

#define AVX2 __attribute__((target("avx2,fma,f16c"), noinline))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"), noinline))
#define OPERATION(name, out, lanes2, store2, value2, lanes512, store512, value512)  \
  AVX2 static void name##_avx2(void) {                                              \
    for (int i = 0; i < COUNT; i += lanes2) store2((void *)(out + i), value2);      \
  }                                                                                 \
  AVX512 static void name##_avx512(void) {                                          \
    for (int i = 0; i < COUNT; i += lanes512) store512((void *)(out + i), value512); \
  }
#define SINGLE(name, value2, value512) OPERATION(name, singles, 8, _mm256_storeu_ps, value2, 16, _mm512_storeu_ps, value512)
#define DOUBLE(name, value2, value512) OPERATION(name, doubles, 4, _mm256_storeu_pd, value2, 8, _mm512_storeu_pd, value512)
#define INT(name, value2, value512) OPERATION(name, ints, 8, _mm256_storeu_si256, value2, 16, _mm512_storeu_si512, value512)
#define PS(x) _mm256_loadu_ps(x + i)
#define PD(x) _mm256_loadu_pd(x + i)
#define ZPS(x) _mm512_loadu_ps(x + i)
#define ZPD(x) _mm512_loadu_pd(x + i)
#define HALF(x) _mm_loadu_si128((const void *)(x + i))
#define YMM(x) _mm256_loadu_si256((const void *)(x + i))
#define ZMM(x) _mm512_loadu_si512((const void *)(x + i))

SINGLE(fmadd, _mm256_fmadd_ps(PS(a), PS(b), PS(c)), _mm512_fmadd_ps(ZPS(a), ZPS(b), ZPS(c)))
SINGLE(fnmadd, _mm256_fnmadd_ps(PS(a), PS(b), PS(c)), _mm512_fnmadd_ps(ZPS(a), ZPS(b), ZPS(c)))
SINGLE(fmsub, _mm256_fmsub_ps(PS(a), PS(b), PS(c)), _mm512_fmsub_ps(ZPS(a), ZPS(b), ZPS(c)))
SINGLE(add, _mm256_add_ps(PS(a), PS(c)), _mm512_add_ps(ZPS(a), ZPS(c)))
SINGLE(sub, _mm256_sub_ps(PS(a), PS(c)), _mm512_sub_ps(ZPS(a), ZPS(c)))
SINGLE(mul, _mm256_mul_ps(PS(a), PS(b)), _mm512_mul_ps(ZPS(a), ZPS(b)))
SINGLE(div, _mm256_div_ps(PS(a), PS(b)), _mm512_div_ps(ZPS(a), ZPS(b)))
SINGLE(sqrt, _mm256_sqrt_ps(PS(a)), _mm512_sqrt_ps(ZPS(a)))
SINGLE(max, _mm256_max_ps(PS(a), PS(b)), _mm512_max_ps(ZPS(a), ZPS(b)))
SINGLE(min, _mm256_min_ps(PS(a), PS(b)), _mm512_min_ps(ZPS(a), ZPS(b)))
SINGLE(round, _mm256_round_ps(PS(a), 8), _mm512_roundscale_ps(ZPS(a), 8))
SINGLE(from_half, _mm256_cvtph_ps(HALF(h)), _mm512_cvtph_ps(YMM(h)))
SINGLE(from_int, _mm256_cvtepi32_ps(YMM(a)), _mm512_cvtepi32_ps(ZMM(a)))
OPERATION(to_half, halves, 8, _mm_storeu_si128, _mm256_cvtps_ph(PS(a), 0), 16, _mm256_storeu_si256, _mm512_cvtps_ph(ZPS(a), 0))
INT(to_int, _mm256_cvtps_epi32(PS(a)), _mm512_cvtps_epi32(ZPS(a)))
INT(truncate, _mm256_cvttps_epi32(PS(a)), _mm512_cvttps_epi32(ZPS(a)))
DOUBLE(fmadd_double, _mm256_fmadd_pd(PD(d), PD(e), PD(f)), _mm512_fmadd_pd(ZPD(d), ZPD(e), ZPD(f)))
DOUBLE(div_double, _mm256_div_pd(PD(d), PD(e)), _mm512_div_pd(ZPD(d), ZPD(e)))
DOUBLE(sqrt_double, _mm256_sqrt_pd(PD(d)), _mm512_sqrt_pd(ZPD(d)))

static void dpbusd_avx2(void) { /* AVX2 has no such instruction: in plain C */
  for (int i = 0; i < COUNT; i++) {
    const uint8_t *x = (const void *)(a + i);
    const int8_t *y = (const void *)(b + i);
    uint32_t sum;
    memcpy(&sum, c + i, 4);
    for (int k = 0; k < 4; k++) sum += (uint32_t)(x[k] * y[k]);
    memcpy(ints + i, &sum, 4);
  }
}

AVX512 static void dpbusd_avx512(void) {
  for (int i = 0; i < COUNT; i += 16) _mm512_storeu_si512(ints + i, _mm512_dpbusd_epi32(ZMM(c), ZMM(a), ZMM(b)));
}

#define ENTRY(name, out) {#name, name##_avx2, name##_avx512, out, sizeof out}
static const struct {
  const char *name;
  void (*avx2)(void), (*avx512)(void);
  const void *out;
  size_t size;
} operations[] = {
    ENTRY(fmadd, singles),        ENTRY(fnmadd, singles),      ENTRY(fmsub, singles),       ENTRY(add, singles),
    ENTRY(sub, singles),          ENTRY(mul, singles),         ENTRY(div, singles),         ENTRY(sqrt, singles),
    ENTRY(max, singles),          ENTRY(min, singles),         ENTRY(round, singles),       ENTRY(from_half, singles),
    ENTRY(from_int, singles),     ENTRY(to_half, halves),      ENTRY(to_int, ints),         ENTRY(truncate, ints),
    ENTRY(fmadd_double, doubles), ENTRY(div_double, doubles),  ENTRY(sqrt_double, doubles), ENTRY(dpbusd, ints),
};

int main(int count, char **arguments) {
  int wide = count > 1 && !strcmp(arguments[1], "avx512");
  for (int kind = 0; kind < 3; kind++) {
    fill(kind);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
      (wide ? operations[i].avx512 : operations[i].avx2)();
      printf("%d %s %016llx\n", kind, operations[i].name, (unsigned long long)hash(operations[i].out, operations[i].size));
    }
  }
  return 0;
}
