// infc_perplexity.c: NAME perplexity FILE, by the method of llama.cpp's tool of that name: windows of n_ctx tokens, each begun anew (with
// BOS in place of its first token where the model wants one), the second half of each scored.
#define _GNU_SOURCE
#include "infc_json.h"
#include "infc_session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_WINDOW = 512 };

typedef struct score {
    infc_session s;
    int32_t *ids;      // (n_ids) the file
    size_t n_ids;
    const int32_t *window;  // (n_ctx) the tokens whose logits arrive
    int32_t n_ctx, first;   // positions first..n_ctx-2 of a window are scored
    float *logits;     // (rows, vocab_size)
    int32_t rows;
    double nll, nll2;  // sums of the negative log likelihood and of its square
    size_t count;
} score;

static infc_out out = {.fd = STDOUT_FILENO};

// -log softmax(logits)[target], summed in double: rounding must not show in the fourth digit of a long file.
static double negative_log_likelihood(const float *logits, int32_t n, int32_t target) {
    float top = logits[0];
    double sum = 0;
    for (int32_t i = 1; i < n; i++) top = logits[i] > top ? logits[i] : top;
    for (int32_t i = 0; i < n; i++) sum += exp((double)logits[i] - (double)top);
    return log(sum) + (double)top - (double)logits[target];
}

static int take_logits(void *arg, int32_t first_pos, int32_t n, const float *logits) {
    score *p = arg;
    for (int32_t i = 0; i < n; i++) {
        if (first_pos + i + 1 >= p->n_ctx) break;
        const float *row = logits + (size_t)i * (size_t)p->s.info.vocab_size;
        double v = negative_log_likelihood(row, p->s.info.vocab_size, p->window[first_pos + i + 1]);
        p->nll += v;
        p->nll2 += v * v;
        p->count++;
    }
    return INFC_EXIT_OK;
}

static double perplexity(const score *p) { return exp(p->nll / (double)p->count); }

// Standard error of the perplexity: that of the mean of nll, carried through exp.
static double perplexity_error(const score *p) {
    double mean = p->nll / (double)p->count, variance = p->nll2 / (double)p->count - mean * mean;
    return p->count > 1 && variance > 0 ? sqrt(variance / (double)(p->count - 1)) * exp(mean) : 0;
}

static int score_window(score *p, size_t start, int add_bos) {
    int32_t kept = p->ids[start];
    int seq = infc_seq_open(p->s.model);
    if (seq < 0) return infc_complain_api(seq);
    p->window = p->ids + start;
    if (add_bos) p->ids[start] = p->s.info.bos_id;
    // The last position predicts a token of the next window, which is not scored: it is not fed at all.
    int code = infc_feed_all(&p->s, seq, p->window, p->n_ctx - 1, p->first, p->logits, p->rows, take_logits, p);
    p->ids[start] = kept;
    int rc = infc_seq_close(p->s.model, seq);
    return code == INFC_EXIT_OK && rc < 0 ? infc_complain_api(rc) : code;
}

static int report(const score *p, int json, size_t windows) {
    double ppl = perplexity(p), error = perplexity_error(p);
    if (!json) {
        infc_out_format(&out, "Final estimate: PPL = %.4f +/- %.5f\n", ppl, error);
        return infc_out_flush(&out);
    }
    infc_json j = {.out = &out};
    infc_json_bracket(&j, '{');
    infc_json_put_real(&j, "ppl", ppl);
    infc_json_put_real(&j, "ppl_error", error);
    infc_json_put_real(&j, "nll", p->nll / (double)p->count);
    infc_json_put_int(&j, "n_scored", (int64_t)p->count);
    infc_json_put_int(&j, "n_windows", (int64_t)windows);
    infc_json_put_int(&j, "n_ctx", p->n_ctx);
    infc_json_put_int(&j, "n_tokens", (int64_t)p->n_ids);
    infc_json_put_text(&j, "isa", p->s.info.isa);
    infc_json_put_int(&j, "threads", p->s.info.threads);
    infc_json_bracket(&j, '}');
    infc_out_text(&out, "\n");
    return infc_out_flush(&out);
}

static int score_file(score *p, const infc_args *a, const char *text, size_t size) {
    int32_t bos;
    int add_bos = infc_tokenize(p->s.model, "", 0, INFC_TOKENIZE_BOS, &bos, 1);
    if (add_bos < 0) return infc_complain_api(add_bos);
    int code = infc_tokenize_new(&p->s, text, size, INFC_TOKENIZE_BOS, &p->ids, &p->n_ids);
    if (code != INFC_EXIT_OK) return code;
    size_t windows = p->n_ids / (size_t)p->n_ctx;
    if (windows == 0)
        return infc_complain(INFC_EXIT_INPUT, "'%.100s' has %zu tokens, a window has %d: choose -c", a->file, p->n_ids, p->n_ctx);
    double start = infc_now();
    for (size_t w = 0; w < windows && infc_stop_signal == 0; w++) {
        code = score_window(p, w * (size_t)p->n_ctx, add_bos > 0);
        if (code != INFC_EXIT_OK) return code;
        if (infc_stop_signal == 0)
            infc_note("[%zu/%zu] PPL %.4f, %.1f tok/s", w + 1, windows, perplexity(p), (double)(w + 1) * p->n_ctx / (infc_now() - start));
    }
    return infc_stop_signal != 0 ? infc_stop_code() : report(p, a->json, windows);
}

int infc_cmd_perplexity(const infc_args *a) {
    score p = {0};
    char *text = NULL;
    size_t size = 0;
    int fd = -1;
    int code = infc_open_input(a->file, &fd);
    if (code == INFC_EXIT_OK) code = infc_session_open(a, a->threads, 0, &p.s);
    if (code == INFC_EXIT_OK) {
        int32_t most = p.s.info.n_ctx;
        p.n_ctx = a->n_ctx > 0 ? a->n_ctx : most < DEFAULT_WINDOW ? most : DEFAULT_WINDOW;
        p.first = p.n_ctx / 2;
        if (p.n_ctx > most)
            code = infc_complain(INFC_EXIT_LIMIT, "option -c: the context holds %d positions: compile with a larger --ctx", most);
    }
    if (code == INFC_EXIT_OK) {
        p.rows = infc_logits_rows(&p.s, a);
        p.logits = malloc((size_t)p.rows * (size_t)p.s.info.vocab_size * sizeof(float));
        if (p.logits == NULL) code = infc_complain(INFC_EXIT_LIMIT, "out of memory");
    }
    if (code == INFC_EXIT_OK) {
        code = infc_read_input(fd, a->file, &text, &size);
        fd = -1;
    }
    if (code == INFC_EXIT_OK) code = score_file(&p, a, text, size);
    if (fd > STDIN_FILENO) close(fd);
    free(text);
    free(p.ids);
    free(p.logits);
    infc_session_close(&p.s);
    return code;
}
