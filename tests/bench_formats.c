// bench_formats.c: calls one kernel of tests/kernels/harness.c again and again: from Python a call costs as much as some kernels do.
#include <stdint.h>
#include <time.h>

#include "infc_cpu.h"

typedef void (*kernel)(const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s);

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Seconds of `times` calls, after one that is not counted over the first `warm` panels.
double seconds_of(kernel f, const uint8_t *w, int n, int K, const void *x, int M, float *y, void *s, int times, int warm)
{
    f(w, warm, K, x, M, y, s);
    const double began = now();
    for (int i = 0; i < times; i++) f(w, n, K, x, M, y, s);
    return now() - began;
}

// What the program sets infc_cpu_drops to on this CPU
int drops_prefetches(void)
{
    const infc_cpu_regs cpu = infc_cpu_read();
    return infc_cpu_drops_prefetches(&cpu);
}
