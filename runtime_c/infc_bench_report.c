// infc_bench_report.c: the table of NAME bench, as markdown for people and as JSON for programs.
#define _GNU_SOURCE
#include "infc_bench.h"
#include "infc_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static infc_out out = {.fd = STDOUT_FILENO};

static int compare(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

double infc_median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, compare);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

// The limits that a row of results stands beside.
typedef struct row {
    char name[40];
    double tok_s, min, max, gb_s, read_gb_s;
    double gmac_s, peak_gmac_s[INFC_PEAK_KINDS];  // peaks by INFC_PEAK_*
    double read_pct, math_pct;      // of the time that the run took: what reading, and what multiplying, takes at the measured limits
} row;

static row row_of(const infc_bench_test *t, int reps) {
    static const char *const kinds[] = {"pp", "tg", "batch"};
    row r;
    double seconds = infc_median(t->seconds, reps);  // sorted from here on
    int n = snprintf(r.name, sizeof r.name, "%s%d", kinds[t->kind], t->n);
    if (t->depth > 0) snprintf(r.name + n, sizeof r.name - (size_t)n, " @ d%d", t->depth);
    r.tok_s = t->tokens / seconds;
    r.min = t->tokens / t->seconds[reps - 1];
    r.max = t->tokens / t->seconds[0];
    r.gb_s = 1e-9 * (double)t->bytes / seconds;
    r.read_gb_s = 1e-9 * infc_median(t->read_bw, reps);
    r.read_pct = 100 * r.gb_s / r.read_gb_s;
    // Attention and linear layers take turns, so their times at the limit add up.
    double least = 0;
    r.gmac_s = 0;
    for (int k = 0; k < INFC_PEAK_KINDS; k++) {
        r.peak_gmac_s[k] = 1e-9 * infc_median(t->peak[k], reps);
        r.gmac_s += 1e-9 * (double)t->macs[k] / seconds;
        least += (double)t->macs[k] / r.peak_gmac_s[k];
    }
    r.math_pct = 100e-9 * least / seconds;
    return r;
}

static void print_json(const infc_bench_test *tests, int n_tests, int reps) {
    infc_json j = {.out = &out};
    infc_json_bracket(&j, '[');
    for (int k = 0; k < n_tests; k++) {
        row r = row_of(&tests[k], reps);
        infc_out_text(&out, k == 0 ? "\n" : "");
        infc_json_bracket(&j, '{');
        infc_json_put_text(&j, "test", r.name);
        infc_json_put_int(&j, "threads", tests[k].threads);
        infc_json_put_real(&j, "tok_s", r.tok_s);
        infc_json_put_real(&j, "min", r.min);
        infc_json_put_real(&j, "max", r.max);
        infc_json_put_real(&j, "gb_s", r.gb_s);
        infc_json_put_real(&j, "read_bw_gb_s", r.read_gb_s);
        infc_json_put_int(&j, "reps", reps);
        infc_json_put_real(&j, "read_pct", r.read_pct);
        infc_json_put_real(&j, "gmac_s", r.gmac_s);
        infc_json_put_real(&j, "int8_peak_gmac_s", r.peak_gmac_s[INFC_PEAK_INT8]);
        infc_json_put_real(&j, "int16_peak_gmac_s", r.peak_gmac_s[INFC_PEAK_INT16]);
        infc_json_put_real(&j, "f32_peak_gmac_s", r.peak_gmac_s[INFC_PEAK_F32]);
        infc_json_put_real(&j, "math_pct", r.math_pct);
        infc_json_bracket(&j, '}');
        infc_out_text(&out, "\n");
    }
    infc_json_bracket(&j, ']');
    infc_out_text(&out, "\n");
}

static void print_markdown(const infc_bench_test *tests, int n_tests, int reps) {
    infc_out_text(&out, "| test            | threads |    tok/s |      min |      max |  GB/s | read GB/s | % of it | GMAC/s | int8 / int16 / f32 peak | % of it |\n");
    infc_out_text(&out, "|-----------------|--------:|---------:|---------:|---------:|------:|----------:|--------:|-------:|------------------------:|--------:|\n");
    for (int k = 0; k < n_tests; k++) {
        row r = row_of(&tests[k], reps);
        infc_out_format(&out, "| %-15s | %7d | %8.1f | %8.1f | %8.1f | %5.1f | %9.1f | %7.1f |", r.name, tests[k].threads, r.tok_s, r.min,
                        r.max, r.gb_s, r.read_gb_s, r.read_pct);
        infc_out_format(&out, " %6.0f | %9.0f / %4.0f / %4.0f | %7.1f |\n", r.gmac_s, r.peak_gmac_s[INFC_PEAK_INT8],
                        r.peak_gmac_s[INFC_PEAK_INT16], r.peak_gmac_s[INFC_PEAK_F32], r.math_pct);
    }
}

// These are no rows of the table: they go below it, or to stderr where stdout holds JSON.
static void print_process(const infc_bench_process *p, int32_t threads) {
    if (p->first_byte_s >= 0)
        infc_out_format(&out, "start to first token of a 4-token prompt: %.1f ms (%.1f to %.1f), %d thread%s\n", p->first_byte_s * 1e3,
                        p->min_s * 1e3, p->max_s * 1e3, threads, threads == 1 ? "" : "s");
    if (p->peak_rss > 0)
        infc_out_format(&out,
                        "peak RSS of a process with %d prompt tokens and %d decoded: %.1f MB = %.2f x (weights %.1f MB + their KV %.1f MB + arena %.1f MB)\n",
                        p->n_prompt, p->n_gen, (double)p->peak_rss * 1e-6, (double)p->peak_rss / (double)(p->weights_bytes + p->kv_bytes + p->arena_bytes),
                        (double)p->weights_bytes * 1e-6, (double)p->kv_bytes * 1e-6, (double)p->arena_bytes * 1e-6);
}

int infc_bench_report(const char *format, const infc_bench_test *tests, int n_tests, int reps, const infc_bench_process *process) {
    int json = format[0] == 'j';
    (json ? print_json : print_markdown)(tests, n_tests, reps);
    int code = infc_out_flush(&out);
    if (json) out.fd = STDERR_FILENO;
    else infc_out_text(&out, "\n");
    print_process(process, n_tests > 0 ? tests[0].threads : 0);
    int second = infc_out_flush(&out);
    return code != INFC_EXIT_OK ? code : second;
}
