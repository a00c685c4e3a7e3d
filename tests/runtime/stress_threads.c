// stress_threads.c: the team under load. Plain (not atomic) counters are written by one thread and read by the others across a barrier:
// a barrier that leaks gives a wrong count here and a report under ThreadSanitizer.
//   stress_threads N RUNS BARRIERS   prints "ok"      stress_threads N time   prints nanoseconds per barrier
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "infc.h"
#include "infc_threads.h"

enum { MAX = 64 };
typedef struct counter { _Alignas(64) unsigned value, errors; } counter;
typedef struct job {
    infc_team *team;
    counter c[MAX];
    int barriers;
} job;

static unsigned fp_state(void) {
#if defined(__x86_64__)
    unsigned v;
    __asm__ volatile("stmxcsr %0" : "=m"(v));
    return v;
#else
    return 0x1f80;
#endif
}

static void count(void *arg, int thread, int n) {
    job *j = arg;
    if ((fp_state() & 0xffc0) != 0x1f80) j->c[thread].errors++;
    for (int b = 0; b < j->barriers; b++) {
        j->c[thread].value++;
        infc_barrier(j->team, thread);
        for (int i = 0; i < n; i++)
            if (j->c[i].value != j->c[thread].value) j->c[thread].errors++;
        infc_barrier(j->team, thread);
    }
}

static void only_barriers(void *arg, int thread, int n) {
    (void)n;
    job *j = arg;
    for (int b = 0; b < j->barriers; b++) infc_barrier(j->team, thread);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv) {
    static job j;
    const int n = argc > 2 ? atoi(argv[1]) : 0, timing = n > 0 && !strcmp(argv[2], "time");
    if (n < 1 || n > MAX || (!timing && argc != 4)) return 2;
#if defined(__x86_64__)  // before the team: workers inherit the state of their creator
    const unsigned callers = 0x1f80 | 0x8040;  // FTZ and DAZ, as a host application compiled with -ffast-math sets them
    __asm__ volatile("ldmxcsr %0" : : "m"(callers));
#endif
    if (infc_team_open(n, 0, &j.team)) return puts(infc_last_error()), 1;
    if (timing) {
        double best = 1e18, best_run = 1e18;
        for (int k = 0; k < 20; k++) {
            double t = now();
            j.barriers = 20000;
            infc_team_run(j.team, only_barriers, &j);
            t = (now() - t) / j.barriers;
            if (t < best) best = t;
            j.barriers = 0;
            t = now();
            for (int i = 0; i < 2000; i++) infc_team_run(j.team, only_barriers, &j);
            t = (now() - t) / 2000;
            if (t < best_run) best_run = t;
        }
        printf("%d threads: %.0f ns a barrier, %.0f ns an empty run\n", n, best, best_run);
        infc_team_close(j.team);
        return 0;
    }
    const int runs = atoi(argv[2]);
    j.barriers = atoi(argv[3]);
    unsigned errors = 0;
    for (int r = 0; r < runs; r++) {
        infc_team_run(j.team, count, &j);
        if (r % 50 == 7) usleep(1000);  // long enough that the workers sleep, so waking them is exercised too
    }
#if defined(__x86_64__)
    if ((fp_state() & 0xffc0) != (callers & 0xffc0)) errors++;
#endif
    for (int i = 0; i < n; i++) errors += j.c[i].errors + (j.c[i].value != (unsigned)(runs * j.barriers));
    infc_team_close(j.team);
    puts(errors ? "errors" : "ok");
    return errors != 0;
}
