// infc_peak.c: arithmetic peaks. Operands stay in registers: what is left is the multipliers' own rate, which no kernel can pass.
// As for the read bandwidth, several loops are tried and the best is the limit.
#define _GNU_SOURCE
#include "infc_peak.h"
#include "infc_together.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Runs a loop n times.
typedef void (*loop)(long n);

// Makes the compiler believe that x was changed: equal products must not be computed once for all.
#define TOUCH(constraint, x) __asm__ volatile("" : "+" constraint(x))

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TARGET(features) __attribute__((target(features)))

enum { CHAINS = 12 };  // accumulators: latency 4 or 5 times two units, and room to spare

// A loop of CHAINS independent accumulators; STEP uses and changes acc, with operands a and b. Each step is one vector of MACs.
// TOUCH after each step also keeps the accumulator where it is: gcc 12 otherwise copies all of them in every turn.
#define LOOP(name, features, vec, reg, zero, one, STEP)                 \
    TARGET(features) static void name(long n) {                         \
        vec sum[CHAINS], a = one, b = one;                              \
        for (int k = 0; k < CHAINS; k++) sum[k] = zero;                 \
        TOUCH(reg, a);                                                  \
        TOUCH(reg, b);                                                  \
        for (long i = 0; i < n; i++) {                                  \
            _Pragma("GCC unroll 12") for (int k = 0; k < CHAINS; k++) { \
                vec acc = sum[k];                                       \
                STEP;                                                   \
                TOUCH(reg, acc);                                        \
                sum[k] = acc;                                           \
            }                                                           \
        }                                                               \
        for (int k = 0; k < CHAINS; k++) TOUCH(reg, sum[k]);            \
    }

// SSE2 has no byte products: 8 pairs of 16-bit values.
LOOP(int_sse2, "sse2", __m128i, "x", _mm_setzero_si128(), _mm_set1_epi16(1), TOUCH("x", b); acc = _mm_add_epi32(acc, _mm_madd_epi16(a, b)))
LOOP(f32_sse2, "sse2", __m128, "x", _mm_setzero_ps(), _mm_set1_ps(0.5f), TOUCH("x", b); acc = _mm_add_ps(acc, _mm_mul_ps(a, b)))
LOOP(int_avx2, "avx2", __m256i, "x", _mm256_setzero_si256(), _mm256_set1_epi8(1), TOUCH("x", b);
     acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), a)))
// 4-bit weights leave room for eight sums in 16 bits, so that one widening serves eight products.
TARGET("avx2") static void int_avx2_narrow(long n) {
    __m256i sum[4], wide[4], a = _mm256_set1_epi8(1), b = a, ones = _mm256_set1_epi16(1);
    for (int k = 0; k < 4; k++) wide[k] = _mm256_setzero_si256();
    TOUCH("x", a);
    TOUCH("x", b);
    for (long i = 0; i < n; i++) {
        _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) sum[k] = _mm256_maddubs_epi16(a, b);
        _Pragma("GCC unroll 7") for (int s = 1; s < 8; s++) {
            _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) {
                TOUCH("x", b);
                sum[k] = _mm256_add_epi16(sum[k], _mm256_maddubs_epi16(a, b));
                TOUCH("x", sum[k]);
            }
        }
        _Pragma("GCC unroll 4") for (int k = 0; k < 4; k++) wide[k] = _mm256_add_epi32(wide[k], _mm256_madd_epi16(sum[k], ones));
    }
    for (int k = 0; k < 4; k++) TOUCH("x", wide[k]);
}
LOOP(int16_avx2, "avx2", __m256i, "x", _mm256_setzero_si256(), _mm256_set1_epi16(1), TOUCH("x", b);
     acc = _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)))
LOOP(f32_avx2, "avx2,fma", __m256, "x", _mm256_setzero_ps(), _mm256_set1_ps(0.5f), acc = _mm256_fmadd_ps(a, b, acc))
LOOP(int_avx512, "avx512f,avx512vnni", __m512i, "v", _mm512_setzero_si512(), _mm512_set1_epi8(1), acc = _mm512_dpbusd_epi32(acc, a, b))
LOOP(int16_avx512, "avx512f,avx512vnni", __m512i, "v", _mm512_setzero_si512(), _mm512_set1_epi16(1), acc = _mm512_dpwssd_epi32(acc, a, b))
LOOP(f32_avx512, "avx512f", __m512, "v", _mm512_setzero_ps(), _mm512_set1_ps(0.5f), acc = _mm512_fmadd_ps(a, b, acc))

// Intel SDM volume 1, chapter 18: palette 1, eight tiles of 16 rows of 64 bytes.
typedef struct tile_config {
    uint8_t palette, start_row, zero[14];
    uint16_t bytes_per_row[16];
    uint8_t rows[16];
} tile_config;

TARGET("amx-tile,amx-int8") static void int_amx(long n) {
    tile_config config __attribute__((aligned(64))) = {.palette = 1};
    int8_t operand[16 * 64] __attribute__((aligned(64)));
    for (int t = 0; t < 8; t++) config.bytes_per_row[t] = 64, config.rows[t] = 16;
    for (int i = 0; i < 16 * 64; i++) operand[i] = (int8_t)(37 * i);
    __asm__ volatile("" : : "r"(&config), "r"(operand) : "memory");  // gcc 12 takes the configuration for a dead store
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, operand, 64);
    _tile_loadd(5, operand, 64);
    _tile_loadd(6, operand, 64);
    _tile_loadd(7, operand, 64);
    for (long i = 0; i < n; i++) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_release();
}

// Whether the CPU has int8 tiles, the system saves them, and it lets this process use them; it is asked once a process.
static int may_use_tiles(void) {
    enum { REQUEST = 0x1023, TILE_DATA = 18 };  // ARCH_REQ_XCOMP_PERM
    uint32_t a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0;  // OSXSAVE
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & 3u << 24) != 3u << 24) return 0;  // AMX-TILE, AMX-INT8
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    if ((low & 3u << 17) != 3u << 17) return 0;
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#else
static void int_plain(long n) {
    int32_t sum[16] = {0};
    int8_t a[64], b[64];
    memset(a, 3, sizeof a);
    memset(b, 5, sizeof b);
    for (long i = 0; i < n; i++) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
        for (int k = 0; k < 64; k++) sum[k / 4] += a[k] * b[k];
    }
    __asm__ volatile("" : : "r"(sum) : "memory");
}

static void int16_plain(long n) {
    int32_t sum[64] = {0};
    int16_t a[64], b[64];
    memset(a, 1, sizeof a);
    memset(b, 2, sizeof b);
    for (long i = 0; i < n; i++) {
        __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
        for (int k = 0; k < 64; k++) sum[k] = (int32_t)((uint32_t)sum[k] + (uint32_t)(a[k] * b[k]));
    }
    __asm__ volatile("" : : "r"(sum) : "memory");
}

static void f32_plain(long n) {
    float sum[64] = {0}, a[64];
    for (int k = 0; k < 64; k++) a[k] = 0.5f;
    for (long i = 0; i < n; i++) {
        __asm__ volatile("" : : "r"(a) : "memory");
        for (int k = 0; k < 64; k++) sum[k] = __builtin_fmaf(a[k], a[k], sum[k]);
    }
    __asm__ volatile("" : : "r"(sum) : "memory");
}
#endif

enum { LEVEL_BASE, LEVEL_AVX2, LEVEL_AVX512, LEVEL_AMX };
static const char *const levels[] = {"scalar", "avx2", "avx512", "amx"};

static const struct {
    loop run;
    int kind, level;
    double macs;  // of one turn
} loops[] = {
#if defined(__x86_64__)
    {int_sse2, INFC_PEAK_INT8, LEVEL_BASE, 8.0 * CHAINS},
    {int_sse2, INFC_PEAK_INT16, LEVEL_BASE, 8.0 * CHAINS},
    {f32_sse2, INFC_PEAK_F32, LEVEL_BASE, 4.0 * CHAINS},
    {int_avx2, INFC_PEAK_INT8, LEVEL_AVX2, 32.0 * CHAINS},
    {int_avx2_narrow, INFC_PEAK_INT8, LEVEL_AVX2, 32.0 * 32},
    {int16_avx2, INFC_PEAK_INT16, LEVEL_AVX2, 16.0 * CHAINS},
    {f32_avx2, INFC_PEAK_F32, LEVEL_AVX2, 8.0 * CHAINS},
    {int_avx512, INFC_PEAK_INT8, LEVEL_AVX512, 64.0 * CHAINS},
    {int16_avx512, INFC_PEAK_INT16, LEVEL_AVX512, 32.0 * CHAINS},
    {f32_avx512, INFC_PEAK_F32, LEVEL_AVX512, 16.0 * CHAINS},
    {int_amx, INFC_PEAK_INT8, LEVEL_AMX, 4.0 * 16 * 16 * 64},
    {int_amx, INFC_PEAK_INT16, LEVEL_AMX, 16.0 * 16 * 64},  // four products of bytes make one of words (kv/q16_amx.h)
#else
    {int_plain, INFC_PEAK_INT8, LEVEL_BASE, 64.0},
    {int16_plain, INFC_PEAK_INT16, LEVEL_BASE, 64.0},
    {f32_plain, INFC_PEAK_F32, LEVEL_BASE, 64.0},
#endif
};
enum { N_LOOPS = (int)(sizeof loops / sizeof loops[0]) };

// The builtins check XCR0 too.
static int usable(int level) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (level == LEVEL_AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == LEVEL_AVX512) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
    if (level == LEVEL_AMX) return may_use_tiles();
#endif
    return level == LEVEL_BASE;
}

typedef struct job {
    int loop;
    long n;
} job;

static void work(void *arg, int thread) {
    const job *j = arg;
    (void)thread;
    loops[j->loop].run(j->n);
}

// Multiply-accumulates per second of one loop, or -1.
static double measure(int which, int threads, double seconds) {
    job j = {which, 1000};
    double took = infc_together(threads, work, &j);  // also wakes the wide units up
    while (took >= 0 && took < seconds / 8 && j.n < 1L << 40) {
        j.n *= 4;
        took = infc_together(threads, work, &j);
    }
    if (took <= 0) return -1;
    j.n = (long)((double)j.n * seconds / took) + 1;
    took = infc_together(threads, work, &j);
    return took > 0 ? loops[which].macs * (double)j.n * threads / took : -1;
}

double infc_peak_measure(const infc_peak *p, int kind, double seconds) { return measure(p->best[kind], p->threads, seconds); }

int infc_peak_open(infc_peak *p, const char *isa, int threads) {
    double best[INFC_PEAK_KINDS] = {0};
    int level = LEVEL_BASE;
    *p = (infc_peak){.threads = threads, .best = {-1, -1, -1}};
    for (int i = 0; i <= LEVEL_AMX; i++)
        if (strcmp(isa, levels[i]) == 0) level = i;
    for (int round = 0; round < 2; round++) {  // twice, so that a disturbance does not rule the best one out
        for (int i = 0; i < N_LOOPS; i++) {
            if (loops[i].level > level || !usable(loops[i].level)) continue;
            double speed = measure(i, threads, 0.004);
            int kind = loops[i].kind;
            if (speed <= best[kind]) continue;
            best[kind] = speed;
            p->best[kind] = i;
        }
    }
    for (int kind = 0; kind < INFC_PEAK_KINDS; kind++)
        if (p->best[kind] < 0) return -1;
    return 0;
}
