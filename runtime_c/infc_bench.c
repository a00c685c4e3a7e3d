// infc_bench.c: NAME bench. Tests are interleaved (A B C A B C ...), so that a machine whose speed drifts slows them alike, and the read
// bandwidth and the arithmetic peaks are measured beside every run.
#define _GNU_SOURCE
#include "infc_bench.h"
#include "infc_bandwidth.h"
#include "infc_program.h"
#include "infc_startup.h"
#include "infc_together.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH_STEPS = 32,  // decode steps of a batch test
    MAX_DEPTHS = 16
};
static const double read_seconds = 0.03, peak_seconds = 0.01;  // lengths of the measurements of limits

typedef struct bench {
    const infc_args *args;
    infc_session s;
    infc_costs costs;
    infc_bench_test *tests;  // (n_tests) over all thread counts
    int n_tests;
    infc_row *rows;          // (max batch or ubatch)
    int32_t *ids, *seqs;     // (longest prompt), (largest batch)
    float *logits;           // (largest batch, vocab_size)
    int32_t max_batch, max_prompt;
    int32_t kept[MAX_DEPTHS];  // (n_kept) sequences that hold the depths
    infc_bandwidth bw[1 + MAX_DEPTHS];  // of the weights, and of the weights with the keys and values of each kept sequence
    int32_t n_kept, kept_pages;
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
    int peaks = 1;
    for (int k = 0; k < INFC_PEAK_KINDS; k++) {
        t.peak[k] = malloc((size_t)reps * sizeof(double));
        peaks &= t.peak[k] != NULL;
    }
    b->tests[b->n_tests++] = t;
    return t.seconds && t.read_bw && peaks ? INFC_EXIT_OK : infc_complain(INFC_EXIT_LIMIT, "out of memory");
}

// Positions that `seqs` new sequences may take each, by context and by the pages that the kept sequences leave.
static int32_t room(const bench *b, int32_t seqs) {
    const infc_info *i = &b->s.info;
    int64_t by_pages = (int64_t)((i->n_pages - b->kept_pages) / seqs) * i->page_size;
    return by_pages < i->n_ctx ? (int32_t)by_pages : i->n_ctx;
}

// Keys and values of one position.
static uint64_t position_bytes(const infc_info *i) { return i->kv_bytes / ((uint64_t)i->n_pages * (uint64_t)i->page_size); }

// Positions that n consecutive rows attend to, over all rows: the first is at position `first`; window: the most that one sees, 0: all
static uint64_t attended(uint64_t first, uint64_t n, uint64_t window) {
    const uint64_t growing = window == 0 || first + n < window ? n : first < window ? window - first : 0;  // rows that see each one more
    return growing * first + growing * (growing + 1) / 2 + (n - growing) * window;
}

// Positions that a pass over the same rows reads
static uint64_t held(uint64_t first, uint64_t n, uint64_t window) {
    return first + n - (window > 0 && first + 1 > window ? first + 1 - window : 0);
}

// Sums over the layers. wanted: of the last layer, whose rows are fewer where not all are wanted
typedef struct sums {
    uint64_t attended, held;
} sums;

static sums over_layers(const bench *b, uint64_t depth, uint64_t n, uint64_t rows, int all) {
    const infc_costs *c = &b->costs;
    const uint64_t windowed = c->kv_windowed_layers - (c->kv_last_window > 0), others = (uint64_t)b->s.info.n_layers - 1 - windowed;
    const uint64_t counts[3] = {others, windowed, 1}, windows[3] = {0, c->kv_window, c->kv_last_window};
    sums s = {0, 0};
    for (int k = 0; k < 3; k++) {
        const uint64_t begin = k < 2 || all ? 0 : n - 1;
        s.attended += counts[k] * attended(depth + begin, n - begin, windows[k]);
        for (uint64_t at = begin; at < n; at += rows) s.held += counts[k] * held(depth + at, at + rows < n ? rows : n - at, windows[k]);
    }
    return s;
}

// What one run of `seqs` sequences of n rows each, from position `depth` on, must read and multiply. rows: of one pass and sequence;
// heads: rows of logits in all, either every row or the last of each sequence; head_passes: passes that make any. The last layer's attention
// is for these rows only.
static void count_costs(const bench *b, infc_bench_test *t, int32_t seqs, int32_t n, int32_t rows, int32_t heads, int32_t head_passes) {
    const infc_costs *c = &b->costs;
    const infc_info *i = &b->s.info;
    const uint64_t tokens = (uint64_t)seqs * (uint64_t)n;
    const sums s = over_layers(b, (uint64_t)t->depth, (uint64_t)n, (uint64_t)rows, (uint64_t)heads == tokens);
    t->bytes = (c->stream_bytes - c->head_bytes) * (uint64_t)t->steps + c->head_bytes * (uint64_t)head_passes;
    if (t->depth > 0) t->bytes += position_bytes(i) / (uint64_t)i->n_layers * s.held * (uint64_t)seqs;
    t->macs[INFC_PEAK_INT8] = c->int_macs * tokens + c->head_int_macs * (uint64_t)heads;
    t->macs[INFC_PEAK_INT16] = c->kv_int16_macs * s.attended * (uint64_t)seqs;
    t->macs[INFC_PEAK_F32] = c->f32_macs * tokens + c->head_f32_macs * (uint64_t)heads + c->kv_f32_macs * s.attended * (uint64_t)seqs;
}

// One length that fits the program: cut if need be, and its name then says so.
static int plan_sequence(bench *b, int kind, int32_t n, int32_t depth, int32_t base, int32_t threads) {
    static const char *const names[] = {"pp", "tg"};
    int32_t most = depth > 0 ? b->s.info.n_ctx - depth : room(b, 1);
    if (n > most) infc_note("%s%d does not fit the context: %s%d instead", names[kind], n, names[kind], most);
    if (n > most) n = most;
    if (n <= 0) return INFC_EXIT_OK;
    int32_t rows = kind == INFC_BENCH_PROMPT ? b->s.ubatch : 1;
    if (kind == INFC_BENCH_PROMPT && n > b->max_prompt) b->max_prompt = n;
    infc_bench_test t = {.kind = kind, .n = n, .depth = depth, .base = base, .tokens = n, .threads = threads};
    t.steps = (n + rows - 1) / rows;
    const int prompt = kind == INFC_BENCH_PROMPT;  // whose last row alone has logits
    count_costs(b, &t, 1, n, rows, prompt ? 1 : n, prompt ? 1 : n);
    return add_test(b, t);
}

static int plan_batch(bench *b, int32_t n, int32_t threads) {
    const infc_info *i = &b->s.info;
    int32_t steps = n <= i->max_seqs - b->n_kept ? room(b, n) : 0;
    if (steps > BATCH_STEPS) steps = BATCH_STEPS;
    if (steps == 0) {
        infc_note("batch%d does not fit: the program holds %d sequences and %d pages", n, i->max_seqs, i->n_pages);
        return INFC_EXIT_OK;
    }
    if (n > b->max_batch) b->max_batch = n;
    int32_t passes = steps * ((n + b->s.ubatch - 1) / b->s.ubatch);
    infc_bench_test t = {.kind = INFC_BENCH_BATCH, .n = n, .base = -1, .steps = passes, .tokens = steps * n, .threads = threads};
    count_costs(b, &t, n, steps, 1, steps * n, passes);
    return add_test(b, t);
}

// A sequence that holds `depth` positions for all tests of that depth. *base is its index, -1 if it does not fit.
static int keep_sequence(bench *b, int32_t depth, int32_t *base) {
    const infc_info *i = &b->s.info;
    int32_t pages = (i->n_ctx + i->page_size - 1) / i->page_size;  // it may grow to the whole context
    *base = -1;
    if (depth >= i->n_ctx || b->kept_pages + pages > i->n_pages || b->n_kept + 1 > i->max_seqs) {
        infc_note("depth %d does not fit: a context has %d positions, the program %d pages", depth, i->n_ctx, i->n_pages);
        return INFC_EXIT_OK;
    }
    int32_t seq = infc_seq_open(b->s.model), fed;
    if (seq < 0) return infc_complain_api(seq);
    int32_t *ids = malloc((size_t)depth * sizeof *ids);
    if (ids == NULL) return infc_complain(INFC_EXIT_LIMIT, "out of memory");
    uint32_t state = 7;
    for (int32_t k = 0; k < depth; k++) ids[k] = next_token(&state, i->vocab_size);
    int code = infc_feed(&b->s, seq, 0, ids, depth, NULL, &fed);
    free(ids);
    b->kept_pages += pages;
    *base = b->n_kept++;
    b->kept[*base] = seq;
    return code;
}

// The tests of one thread count.
static int plan_tests(bench *b, int32_t threads) {
    const infc_args *a = b->args;
    int32_t bases[MAX_DEPTHS];
    int code = INFC_EXIT_OK;
    if (a->bench_depths.n > MAX_DEPTHS) return infc_complain(INFC_EXIT_INPUT, "option -d: more than %d depths", MAX_DEPTHS);
    for (size_t d = 0; d < a->bench_depths.n && code == INFC_EXIT_OK; d++)  // first, so that the others know what is left
        if (a->bench_depths.data[d] > 0) code = keep_sequence(b, a->bench_depths.data[d], &bases[d]);
    for (size_t d = 0; d < a->bench_depths.n && code == INFC_EXIT_OK; d++) {
        int32_t depth = a->bench_depths.data[d], base = depth > 0 ? bases[d] : -1;
        if (depth > 0 && base < 0) continue;
        for (size_t k = 0; k < a->bench_prompts.n && code == INFC_EXIT_OK; k++)
            code = plan_sequence(b, INFC_BENCH_PROMPT, a->bench_prompts.data[k], depth, base, threads);
        for (size_t k = 0; k < a->bench_gens.n && code == INFC_EXIT_OK; k++)
            code = plan_sequence(b, INFC_BENCH_DECODE, a->bench_gens.data[k], depth, base, threads);
    }
    for (size_t k = 0; k < a->bench_batches.n && code == INFC_EXIT_OK; k++)
        if (a->bench_batches.data[k] > 0) code = plan_batch(b, a->bench_batches.data[k], threads);
    return code;
}

static int run_prompt(bench *b, const infc_bench_test *t, int32_t seq, uint32_t *state) {
    int32_t fed;
    for (int32_t i = 0; i < t->n; i++) b->ids[i] = next_token(state, b->s.info.vocab_size);
    return infc_feed(&b->s, seq, t->depth, b->ids, t->n, b->logits, &fed);
}

// n sequences, one token each a step. Every row's logits are made, as a sampler would need them.
static int run_decode(bench *b, const infc_bench_test *t, int32_t n, uint32_t *state) {
    for (int32_t step = 0; step < t->tokens / n && infc_stop_signal == 0; step++) {
        for (int32_t i = 0; i < n; i++)
            b->rows[i] = (infc_row){b->seqs[i], t->depth + step, next_token(state, b->s.info.vocab_size), INFC_ROW_LOGITS};
        int rc = infc_step(b->s.model, b->rows, n, b->logits, NULL);
        if (rc < 0) return infc_complain_api(rc);
    }
    return INFC_EXIT_OK;
}

// Gives the sequences of a run back: kept ones shrink to their depth, others close.
static int end_run(bench *b, const infc_bench_test *t, int32_t n_open) {
    int rc = t->base >= 0 ? infc_seq_truncate(b->s.model, b->kept[t->base], t->depth) : 0;
    for (int32_t i = 0; t->base < 0 && i < n_open; i++) {
        int closed = infc_seq_close(b->s.model, b->seqs[i]);
        if (rc >= 0) rc = closed;
    }
    return rc < 0 ? infc_complain_api(rc) : INFC_EXIT_OK;
}

// What the limits' own buffers pushed out of the caches comes back, as it is there for a peer that only repeats its test: two passes of one
// row, untimed. 0 or INFC_E*.
static int warm_up(bench *b, const infc_bench_test *t, int32_t seq) {
    int rc = 0;
    for (int pass = 0; pass < 2 && rc >= 0; pass++) {
        infc_row row = {seq, t->depth, 0, INFC_ROW_LOGITS};
        rc = infc_step(b->s.model, &row, 1, b->logits, NULL);
        if (rc >= 0) rc = infc_seq_truncate(b->s.model, seq, t->depth);
    }
    return rc;
}

static int run_test(bench *b, const infc_bench_test *t, uint32_t *state, double *seconds) {
    int32_t n = t->kind == INFC_BENCH_BATCH ? t->n : 1, n_open = 0;
    int rc = 0;
    if (t->base >= 0) b->seqs[0] = b->kept[t->base];
    for (; t->base < 0 && n_open < n; n_open++) {
        rc = infc_seq_open(b->s.model);
        if (rc < 0) break;
        b->seqs[n_open] = rc;
    }
    if (rc >= 0) rc = warm_up(b, t, b->seqs[0]);
    double start = infc_now();
    int code = rc < 0 ? infc_complain_api(rc)
             : t->kind == INFC_BENCH_PROMPT ? run_prompt(b, t, b->seqs[0], state) : run_decode(b, t, n, state);
    *seconds = infc_now() - start;
    int ended = end_run(b, t, n_open);
    return code != INFC_EXIT_OK ? code : ended;
}

static int run_interleaved(bench *b, infc_bench_test *tests, int n_tests, const infc_peak *peak) {
    uint32_t state = 1;
    for (int rep = -1; rep < b->args->reps; rep++) {  // -1 warms up
        for (int k = 0; k < n_tests; k++) {
            infc_bench_test *t = &tests[k];
            double seconds;
            int code = run_test(b, t, &state, &seconds);
            if (code != INFC_EXIT_OK) return code;
            if (infc_stop_signal != 0) return infc_stop_code();
            if (rep < 0) continue;
            t->seconds[rep] = seconds;
            t->read_bw[rep] = infc_bandwidth_measure(&b->bw[t->base + 1], read_seconds);
            for (int kind = 0; kind < INFC_PEAK_KINDS; kind++) t->peak[kind][rep] = infc_peak_measure(peak, kind, peak_seconds);
        }
    }
    return INFC_EXIT_OK;
}

// A buffer that a cache holds reads faster than one that it does not, so each test's limit is measured on as many bytes as a pass reads.
static int open_bandwidths(bench *b, const infc_bench_test *tests, int n_tests) {
    for (int k = -1; k < n_tests; k++) {
        const int32_t base = k < 0 ? -1 : tests[k].base;
        const uint64_t layer = position_bytes(&b->s.info) / (uint64_t)b->s.info.n_layers;
        const uint64_t kv = base < 0 ? 0 : layer * over_layers(b, (uint64_t)tests[k].depth, 1, 1, 1).held, bytes = b->costs.stream_bytes + kv;
        infc_bandwidth *bw = &b->bw[base + 1];
        if (bw->data == NULL && infc_bandwidth_open(bw, bytes, b->s.info.threads) != 0)
            return infc_complain(INFC_EXIT_LIMIT, "out of memory: the read bandwidth is measured on %llu bytes", (unsigned long long)bytes);
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
    b->n_kept = b->kept_pages = 0;
    infc_session_close(&b->s);
}

static int bench_threads(bench *b, int32_t threads, infc_bench_process *process) {
    infc_peak peak;
    int first = b->n_tests;
    int code = infc_session_open(b->args, threads, 0, &b->s);
    if (code != INFC_EXIT_OK) return code;
    b->costs = infc_costs_of(&b->s);
    process->weights_bytes = b->s.info.weights_bytes;
    if (process->arena_bytes == 0) process->arena_bytes = b->s.info.arena_bytes;  // the child had the first thread count
    process->kv_bytes = position_bytes(&b->s.info) * (uint64_t)(process->n_prompt + process->n_gen);
    code = plan_tests(b, b->s.info.threads);
    if (code == INFC_EXIT_OK) code = allocate(b);
    if (code == INFC_EXIT_OK) code = open_bandwidths(b, b->tests + first, b->n_tests - first);
    if (code == INFC_EXIT_OK && infc_peak_open(&peak, b->s.info.isa, b->s.info.threads) != 0)
        code = infc_complain(INFC_EXIT_LIMIT, "no %d threads to measure the arithmetic peaks with", b->s.info.threads);
    if (code == INFC_EXIT_OK) code = run_interleaved(b, b->tests + first, b->n_tests - first, &peak);
    for (int k = 0; k < 1 + MAX_DEPTHS; k++) infc_bandwidth_close(&b->bw[k]);
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
    int code = INFC_EXIT_OK;
    process.first_byte_s = -1;
    infc_together_prepare();
    if (!a->no_process) measure_process(a, &process);
    for (size_t k = 0; k < a->bench_threads.n && code == INFC_EXIT_OK; k++)
        code = bench_threads(&b, a->bench_threads.data[k], &process);
    if (code == INFC_EXIT_OK) code = infc_bench_report(a->format, b.tests, b.n_tests, a->reps, &process);
    for (int k = 0; k < b.n_tests; k++) {
        free(b.tests[k].seconds);
        free(b.tests[k].read_bw);
        for (int i = 0; i < INFC_PEAK_KINDS; i++) free(b.tests[k].peak[i]);
    }
    free(b.tests);
    return code;
}
