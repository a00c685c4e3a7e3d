// infc_bench.c: NAME bench. Tests are interleaved (A B C A B C ...), so that a machine whose speed drifts slows them alike, and the read
// bandwidth is measured beside every run.
#define _GNU_SOURCE
#include "infc_bench.h"
#include "infc_bandwidth.h"
#include "infc_program.h"
#include "infc_startup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_STEPS = 32 };              // decode steps of a batch test
static const double read_seconds = 0.03;  // of a bandwidth measurement

typedef struct bench {
    const infc_args *args;
    infc_session s;
    infc_bench_test *tests;  // (n_tests) over all thread counts
    int n_tests;
    infc_row *rows;          // (max batch or ubatch)
    int32_t *ids, *seqs;     // (longest prompt), (largest batch)
    float *logits;           // (largest batch, vocab_size)
    int32_t max_batch, max_prompt;
} bench;

// Any token will do: every one costs the same. A fixed generator keeps runs alike.
static int32_t next_token(uint32_t *state, int32_t vocab) {
    *state = *state * 1664525u + 1013904223u;
    return (int32_t)((*state >> 8) % (uint32_t)vocab);
}

static int add_test(bench *b, infc_bench_test t) {
    int reps = b->args->reps;
    infc_bench_test *grown = realloc(b->tests, (size_t)(b->n_tests + 1) * sizeof *grown);
    if (grown == NULL) return infc_complain(INFC_EXIT_LIMIT, "out of memory");
    b->tests = grown;
    t.seconds = malloc((size_t)reps * sizeof(double));
    t.read_bw = malloc((size_t)reps * sizeof(double));
    b->tests[b->n_tests++] = t;
    return t.seconds && t.read_bw ? INFC_EXIT_OK : infc_complain(INFC_EXIT_LIMIT, "out of memory");
}

// Forward passes that n rows take.
static int32_t chunks(const bench *b, int32_t n) { return (n + b->s.ubatch - 1) / b->s.ubatch; }

// Positions that `seqs` sequences may take each, by context and by pages.
static int32_t room(const infc_info *i, int32_t seqs) {
    int64_t by_pages = (int64_t)(i->n_pages / seqs) * i->page_size;
    return by_pages < i->n_ctx ? (int32_t)by_pages : i->n_ctx;
}

// The tests that fit the program, for one thread count. A length that does not fit is cut, and its name says so.
static int plan_tests(bench *b, int32_t threads) {
    const infc_args *a = b->args;
    const infc_info *i = &b->s.info;
    int code = INFC_EXIT_OK;
    for (size_t k = 0; k < a->bench_prompts.n && code == INFC_EXIT_OK; k++) {
        int32_t n = a->bench_prompts.data[k], most = room(i, 1);
        if (n > most) infc_note("pp%d does not fit the context: pp%d instead", n, most);
        if (n > most) n = most;
        if (n > b->max_prompt) b->max_prompt = n;
        if (n > 0) code = add_test(b, (infc_bench_test){INFC_BENCH_PROMPT, n, chunks(b, n), n, threads, NULL, NULL});
    }
    for (size_t k = 0; k < a->bench_gens.n && code == INFC_EXIT_OK; k++) {
        int32_t n = a->bench_gens.data[k], most = room(i, 1);
        if (n > most) infc_note("tg%d does not fit the context: tg%d instead", n, most);
        if (n > most) n = most;
        if (n > 0) code = add_test(b, (infc_bench_test){INFC_BENCH_DECODE, n, n, n, threads, NULL, NULL});
    }
    for (size_t k = 0; k < a->bench_batches.n && code == INFC_EXIT_OK; k++) {
        int32_t n = a->bench_batches.data[k];
        if (n == 0) continue;
        int32_t steps = n <= i->max_seqs ? room(i, n) : 0;
        if (steps > BATCH_STEPS) steps = BATCH_STEPS;
        if (steps == 0) {
            infc_note("batch%d does not fit: the program holds %d sequences and %d pages", n, i->max_seqs, i->n_pages);
            continue;
        }
        if (n > b->max_batch) b->max_batch = n;
        code = add_test(b, (infc_bench_test){INFC_BENCH_BATCH, n, steps * chunks(b, n), steps * n, threads, NULL, NULL});
    }
    return code;
}

static int run_prompt(bench *b, const infc_bench_test *t, uint32_t *state) {
    int32_t fed, seq = infc_seq_open(b->s.model);
    if (seq < 0) return infc_complain_api(seq);
    for (int32_t i = 0; i < t->n; i++) b->ids[i] = next_token(state, b->s.info.vocab_size);
    int code = infc_feed(&b->s, seq, 0, b->ids, t->n, b->logits, &fed);
    int rc = infc_seq_close(b->s.model, seq);
    return code != INFC_EXIT_OK ? code : rc < 0 ? infc_complain_api(rc) : INFC_EXIT_OK;
}

// n sequences, one token each a step. Every row's logits are made, as a sampler would need them.
static int run_decode(bench *b, int32_t n, int32_t steps, uint32_t *state) {
    int rc = 0;
    int32_t open = 0;
    for (; open < n; open++) {
        rc = infc_seq_open(b->s.model);
        if (rc < 0) break;
        b->seqs[open] = rc;
    }
    for (int32_t pos = 0; rc >= 0 && pos < steps && infc_stop_signal == 0; pos++) {
        for (int32_t i = 0; i < n; i++)
            b->rows[i] = (infc_row){b->seqs[i], pos, next_token(state, b->s.info.vocab_size), INFC_ROW_LOGITS};
        rc = infc_step(b->s.model, b->rows, n, b->logits, NULL);
    }
    int code = rc < 0 ? infc_complain_api(rc) : INFC_EXIT_OK;
    while (open > 0) {
        rc = infc_seq_close(b->s.model, b->seqs[--open]);
        if (rc < 0 && code == INFC_EXIT_OK) code = infc_complain_api(rc);
    }
    return code;
}

static int run_test(bench *b, const infc_bench_test *t, uint32_t *state) {
    if (t->kind == INFC_BENCH_PROMPT) return run_prompt(b, t, state);
    int32_t n = t->kind == INFC_BENCH_BATCH ? t->n : 1;
    return run_decode(b, n, t->tokens / n, state);
}

static int run_interleaved(bench *b, infc_bench_test *tests, int n_tests, const infc_bandwidth *bw) {
    uint32_t state = 1;
    for (int rep = -1; rep < b->args->reps; rep++) {  // -1 warms up
        for (int k = 0; k < n_tests; k++) {
            infc_bench_test *t = &tests[k];
            double start = infc_now();
            int code = run_test(b, t, &state);
            double seconds = infc_now() - start;
            if (code != INFC_EXIT_OK) return code;
            if (infc_stop_signal != 0) return infc_stop_code();
            if (rep < 0) continue;
            t->seconds[rep] = seconds;
            t->read_bw[rep] = infc_bandwidth_measure(bw, read_seconds);
        }
    }
    return INFC_EXIT_OK;
}

static int allocate(bench *b) {
    int32_t rows = b->max_batch > 1 ? b->max_batch : 1;
    b->rows = malloc((size_t)rows * sizeof *b->rows);
    b->seqs = malloc((size_t)rows * sizeof *b->seqs);
    b->ids = malloc(((size_t)b->max_prompt + 1) * sizeof *b->ids);
    b->logits = malloc((size_t)rows * (size_t)b->s.info.vocab_size * sizeof(float));
    return b->rows && b->seqs && b->ids && b->logits ? INFC_EXIT_OK : infc_complain(INFC_EXIT_LIMIT, "out of memory");
}

static void release(bench *b) {
    free(b->rows);
    free(b->seqs);
    free(b->ids);
    free(b->logits);
    b->rows = NULL, b->seqs = NULL, b->ids = NULL, b->logits = NULL;
    infc_session_close(&b->s);
}

static int bench_threads(bench *b, int32_t threads, uint64_t *stream_bytes, infc_bench_process *process) {
    infc_bandwidth bw = {0};
    int first = b->n_tests;
    int code = infc_session_open(b->args, threads, 0, &b->s);
    if (code != INFC_EXIT_OK) return code;
    *stream_bytes = infc_stream_bytes(&b->s);
    process->weights_bytes = b->s.info.weights_bytes;
    process->kv_bytes = b->s.info.kv_bytes;
    code = plan_tests(b, b->s.info.threads);
    if (code == INFC_EXIT_OK) code = allocate(b);
    if (code == INFC_EXIT_OK && infc_bandwidth_open(&bw, *stream_bytes, b->s.info.threads) != 0)
        code = infc_complain(INFC_EXIT_LIMIT, "out of memory: the read bandwidth is measured on %llu bytes", (unsigned long long)*stream_bytes);
    if (code == INFC_EXIT_OK) code = run_interleaved(b, b->tests + first, b->n_tests - first, &bw);
    infc_bandwidth_close(&bw);
    release(b);
    return code;
}

static void format_int(char text[16], int value) { snprintf(text, 16, "%d", value); }

// Children of our own, before this process maps anything: the kernel hands a parent's peak memory to a spawned child.
static void measure_process(const infc_args *a, infc_bench_process *p) {
    char threads[16], gen[16], tokens[4096];
    double times[64];
    int reps = a->reps < 64 ? a->reps : 64, done = 0;
    infc_startup one;
    format_int(threads, a->bench_threads.data[0]);
    char *start[] = {(char *)infc_name(), "--tokens", "1,2,3,4", "-n", "1", "-t", threads, "--temp", "0",
                     "--print-ids", "--ignore-eos", NULL, NULL, NULL};
    if (a->isa != NULL) start[11] = "--isa", start[12] = (char *)a->isa;
    p->first_byte_s = -1;
    if (infc_startup_measure(start, &one) != 0) return;  // the first run warms the page cache
    while (done < reps && infc_startup_measure(start, &one) == 0) times[done++] = one.first_byte_s;
    if (done == 0) return;
    p->first_byte_s = infc_median(times, done);
    p->min_s = times[0];
    p->max_s = times[done - 1];
    int32_t n_ctx = infc_the_program.n_ctx;
    p->n_prompt = n_ctx / 2 < 512 ? n_ctx / 2 : 512;
    p->n_gen = n_ctx - p->n_prompt < 128 ? n_ctx - p->n_prompt : 128;
    size_t n = 0;
    for (int i = 0; i < p->n_prompt; i++) {
        tokens[n++] = (char)('0' + i % 10);
        tokens[n++] = i + 1 < p->n_prompt ? ',' : '\0';
    }
    format_int(gen, p->n_gen);
    start[2] = tokens;
    start[4] = gen;
    if (infc_startup_measure(start, &one) == 0) p->peak_rss = one.peak_rss;
}

int infc_cmd_bench(const infc_args *a) {
    bench b = {.args = a};
    infc_bench_process process = {0};
    uint64_t stream_bytes = 0;
    int code = INFC_EXIT_OK;
    measure_process(a, &process);
    for (size_t k = 0; k < a->bench_threads.n && code == INFC_EXIT_OK; k++)
        code = bench_threads(&b, a->bench_threads.data[k], &stream_bytes, &process);
    if (code == INFC_EXIT_OK) code = infc_bench_report(a->format, b.tests, b.n_tests, a->reps, stream_bytes, &process);
    for (int k = 0; k < b.n_tests; k++) {
        free(b.tests[k].seconds);
        free(b.tests[k].read_bw);
    }
    free(b.tests);
    return code;
}
