// infc_bench.h: what NAME bench measures, and how it is shown.
#ifndef INFC_BENCH_H
#define INFC_BENCH_H
#include "infc_peak.h"
#include "infc_session.h"

enum { INFC_BENCH_PROMPT, INFC_BENCH_DECODE, INFC_BENCH_BATCH };

typedef struct infc_bench_test {
    int kind;
    int32_t n;        // prompt tokens, decoded tokens, or sequences
    int32_t depth;    // positions the sequence holds before
    int32_t base;     // index of the sequence that holds them, -1 if depth is 0
    int32_t steps;    // forward passes of one run: each reads the weights of the layers once
    int32_t tokens;   // tokens of one run, over all sequences
    int32_t threads;
    uint64_t bytes;   // of weights, and where depth > 0 of the cache, that one run must read
    uint64_t macs[INFC_PEAK_KINDS];  // multiply-accumulates of one run by INFC_PEAK_*
    double *seconds;  // (reps)
    double *read_bw;  // (reps) bytes per second, measured next to the run
    double *peak[INFC_PEAK_KINDS];  // (reps) of them per second, measured next to the run
} infc_bench_test;

typedef struct infc_bench_process {
    double first_byte_s;      // median; < 0: not measured
    double min_s, max_s;
    uint64_t peak_rss;        // of a process that runs the longest prompt and decodes; 0: not measured
    uint64_t weights_bytes, kv_bytes;  // kv_bytes: of n_prompt + n_gen positions
    uint64_t arena_bytes;     // with the scratch of its threads
    int32_t n_prompt, n_gen;  // of that process
} infc_bench_process;

// The median of n values; sorts them.
double infc_median(double *values, int n);
// The table on stdout. 0 or an exit code.
int infc_bench_report(const char *format, const infc_bench_test *tests, int n_tests, int reps, const infc_bench_process *process);

#endif
