// infc_bandwidth.c: read bandwidth of a buffer. Which instructions and how many streams read fastest differs between machines, so several
// readers are tried and the best is the limit: a limit that a slow reader sets would flatter us.
#define _GNU_SOURCE
#include "infc_bandwidth.h"
#include "infc_together.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__x86_64__)
#define TARGET(features) __attribute__((target(features)))
#else
#define TARGET(features)
#endif

// Reads size bytes at p, size a multiple of 4096; returns something that depends on all of them.
typedef uint64_t (*reader)(const unsigned char *p, size_t size);

// xor of `streams` places of the buffer at once; each step reads one cache line of each.
// Prefetch distance in bytes, 0: left to the hardware; from 4 KB on into the second level, which holds more requests in flight.
#define READER(name, features, lane_bytes, streams, distance)                                                  \
    TARGET(features) static uint64_t name(const unsigned char *p, size_t size) {                               \
        typedef uint64_t vec __attribute__((vector_size(lane_bytes)));                                         \
        enum { PER_LINE = 64 / (lane_bytes) };                                                                 \
        vec sum[(streams) * PER_LINE];                                                                         \
        memset(sum, 0, sizeof sum);                                                                            \
        const size_t part = size / (streams);                                                                  \
        for (size_t i = 0; i < part; i += 64) {                                                                \
            _Pragma("GCC unroll 4") for (int s = 0; s < (streams); s++) {                                      \
                const unsigned char *line = p + (size_t)s * part + i;                                          \
                if ((distance) > 0) __builtin_prefetch(line + (distance), 0, (distance) < 4096 ? 3 : 2);       \
                _Pragma("GCC unroll 4") for (int k = 0; k < PER_LINE; k++)                                     \
                    sum[s * PER_LINE + k] ^= *(const vec *)(const void *)(line + k * (lane_bytes));            \
            }                                                                                                  \
        }                                                                                                      \
        uint64_t words[sizeof sum / 8], all = 0;                                                               \
        memcpy(words, sum, sizeof sum);                                                                        \
        for (size_t i = 0; i < sizeof sum / 8; i++) all ^= words[i];                                           \
        return all;                                                                                            \
    }

READER(read_base_s1, "sse2", 16, 1, 0)
READER(read_base_s2, "sse2", 16, 2, 0)
READER(read_base_s1_ahead, "sse2", 16, 1, 1024)
#if defined(__x86_64__)
READER(read_avx2_s1, "avx2", 32, 1, 0)
READER(read_avx2_s2, "avx2", 32, 2, 0)
READER(read_avx2_s4, "avx2", 32, 4, 0)
READER(read_avx2_s1_ahead, "avx2", 32, 1, 1024)
READER(read_avx2_s4_ahead, "avx2", 32, 4, 1024)
READER(read_avx2_s1_far, "avx2", 32, 1, 8192)
READER(read_avx512_s1, "avx512f", 64, 1, 0)
READER(read_avx512_s4, "avx512f", 64, 4, 0)
READER(read_avx512_s1_ahead, "avx512f", 64, 1, 2048)
READER(read_avx512_s4_ahead, "avx512f", 64, 4, 2048)
READER(read_avx512_s1_far, "avx512f", 64, 1, 8192)
READER(read_avx512_s4_far, "avx512f", 64, 4, 8192)
READER(read_avx512_s1_farther, "avx512f", 64, 1, 16384)
#endif

enum { NEED_NOTHING, NEED_AVX2, NEED_AVX512 };
static const struct {
    reader read;
    int need;
} readers[] = {
    {read_base_s1, NEED_NOTHING}, {read_base_s2, NEED_NOTHING}, {read_base_s1_ahead, NEED_NOTHING},
#if defined(__x86_64__)
    {read_avx2_s1, NEED_AVX2}, {read_avx2_s2, NEED_AVX2}, {read_avx2_s4, NEED_AVX2},
    {read_avx2_s1_ahead, NEED_AVX2}, {read_avx2_s4_ahead, NEED_AVX2}, {read_avx2_s1_far, NEED_AVX2},
    {read_avx512_s1, NEED_AVX512}, {read_avx512_s4, NEED_AVX512},
    {read_avx512_s1_ahead, NEED_AVX512}, {read_avx512_s4_ahead, NEED_AVX512}, {read_avx512_s1_far, NEED_AVX512},
    {read_avx512_s4_far, NEED_AVX512}, {read_avx512_s1_farther, NEED_AVX512},
#endif
};
enum { N_READERS = (int)(sizeof readers / sizeof readers[0]) };

// The builtin checks XCR0 too.
static int usable(int need) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (need == NEED_AVX2) return __builtin_cpu_supports("avx2") != 0;
    if (need == NEED_AVX512) return __builtin_cpu_supports("avx512f") != 0;
#endif
    return need == NEED_NOTHING;
}

typedef struct job {
    const infc_bandwidth *b;
    int passes;
} job;

static _Atomic uint64_t sink;  // keeps the reads alive

static void work(void *arg, int thread) {
    const job *j = arg;
    const size_t part = j->b->size / (size_t)j->b->threads;
    const unsigned char *p = j->b->data + (size_t)thread * part;
    uint64_t sum = 0;
    for (int i = 0; i < j->passes; i++) {
        __asm__ volatile("" : : "r"(p) : "memory");  // each pass reads anew
        sum ^= readers[j->b->kernel].read(p, part);
    }
    atomic_fetch_xor(&sink, sum);
}

// Seconds that `passes` passes take on all threads, or -1.
static double time_passes(const infc_bandwidth *b, int passes) {
    job j = {b, passes};
    return infc_together(b->threads, work, &j);
}

double infc_bandwidth_measure(const infc_bandwidth *b, double seconds) {
    double once = time_passes(b, 1);
    if (once < 0) return -1;
    int passes = once > 0 && seconds / once < 1e6 ? (int)(seconds / once) + 1 : 1000000;
    double took = time_passes(b, passes);
    return took > 0 ? (double)b->size * passes / took : -1;
}

int infc_bandwidth_open(infc_bandwidth *b, size_t size, int threads) {
    size_t unit = (size_t)4096 * 4 * (size_t)threads;  // every thread's part splits into four streams of whole pages
    *b = (infc_bandwidth){.size = (size + unit - 1) / unit * unit, .threads = threads};
    // Prefetching readers look past the end: the slack keeps that inside the buffer.
    void *p = mmap(NULL, b->size + 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return -1;
    b->data = p;
    (void)madvise(p, b->size, MADV_HUGEPAGE);  // the limit is the memory's, not that of the page walker
    memset(p, 1, b->size + 65536);
    double best = 0;
    int best_kernel = -1;
    for (int round = 0; round < 2; round++) {  // twice, so that a disturbance does not rule the best one out
        for (b->kernel = 0; b->kernel < N_READERS; b->kernel++) {
            if (!usable(readers[b->kernel].need)) continue;
            double speed = infc_bandwidth_measure(b, 0.02);
            if (speed <= best) continue;
            best = speed;
            best_kernel = b->kernel;
        }
    }
    b->kernel = best_kernel;
    if (best_kernel >= 0) return 0;
    infc_bandwidth_close(b);
    return -1;
}

void infc_bandwidth_close(infc_bandwidth *b) {
    if (b->data != NULL) munmap(b->data, b->size + 65536);
    b->data = NULL;
}
