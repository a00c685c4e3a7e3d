// infc_profile.c: the clock behind INFC_PROBE.
#define _GNU_SOURCE
#include "infc_profile.h"

#ifdef INFC_PROFILE
#include <string.h>
#include <time.h>

#include "infc_error.h"

static struct {
    uint64_t last;                    // ticks at the last mark
    uint64_t sum[INFC_MAX_PROBES], marks[INFC_MAX_PROBES];
    uint64_t first_ticks, first_ns;   // both clocks at the first mark since they were read; 0: none yet
} profile;

static uint64_t nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// The time stamp counter costs half of what clock_gettime does; its rate is found from the two together.
static uint64_t ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return nanoseconds();
#endif
}

void infc_profile_start(int thread)
{
    if (thread != 0) return;
    if (profile.first_ns == 0) {
        profile.first_ns = nanoseconds();
        profile.first_ticks = ticks();
    }
    profile.last = ticks();
}

void infc_profile_mark(int thread, int probe)
{
    if (thread != 0 || probe < 0 || probe >= INFC_MAX_PROBES) return;
    const uint64_t now = ticks();
    profile.sum[probe] += now - profile.last;
    profile.marks[probe]++;
    profile.last = now;
}

int infc_profile_take(int32_t n, double *seconds, uint64_t *marks)
{
    if (n < 0 || n > INFC_MAX_PROBES) return infc_fail(INFC_EINPUT, "%d probes: at most %d", n, INFC_MAX_PROBES);
    const uint64_t ns = nanoseconds() - profile.first_ns, passed = ticks() - profile.first_ticks;
    const double second = profile.first_ns != 0 && passed > 0 ? 1e-9 * (double)ns / (double)passed : 0;
    for (int32_t i = 0; i < n; i++) {
        seconds[i] = second * (double)profile.sum[i];
        marks[i] = profile.marks[i];
    }
    memset(profile.sum, 0, (size_t)n * sizeof profile.sum[0]);
    memset(profile.marks, 0, (size_t)n * sizeof profile.marks[0]);
    profile.first_ns = 0;
    return INFC_OK;
}
#endif
