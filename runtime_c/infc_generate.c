// infc_generate.c: NAME -p TEXT: continues a text, or only evaluates it (-n 0) for its logits.
#define _GNU_SOURCE
#include "infc_json.h"
#include "infc_session.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 65536 + 8 };  // the longest token is 64 KiB

typedef struct run {
    const infc_args *args;
    infc_session s;
    infc_sampling sampling;
    infc_sampler *sampler;
    int32_t seq;
    int32_t *prompt, *ids;   // (n_prompt), (n_ids)
    size_t n_prompt, n_ids, cap_ids;
    int32_t *eog;            // (n_eog) tokens --ignore-eos bars
    size_t n_eog;
    float *logits;           // (logits_rows, vocab_size)
    int32_t logits_rows;
    int logits_fd, input_fd, tty;
    uint64_t hash;
    infc_text text;          // --json: the text so far
    const char *stop;        // why generation ended
    double prompt_s, decode_s, first_token_s;
    int32_t n_steps;         // forward passes after the prompt
} run;

static infc_out out = {.fd = STDOUT_FILENO};
static char piece[PIECE_BYTES];

static int open_files(run *r) {
    const infc_args *a = r->args;
    if (a->file != NULL) {
        int code = infc_open_input(a->file, &r->input_fd);
        if (code != INFC_EXIT_OK) return code;
    }
    if (a->logits_out == NULL) return INFC_EXIT_OK;
    r->logits_fd = open(a->logits_out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (r->logits_fd < 0) return infc_complain(INFC_EXIT_INPUT, "cannot write '%.100s': %s", a->logits_out, strerror(errno));
    return INFC_EXIT_OK;
}

static int read_prompt(run *r) {
    const infc_args *a = r->args;
    int code = INFC_EXIT_OK;
    if (a->tokens.data != NULL) {
        r->n_prompt = a->tokens.n;
        r->prompt = malloc(r->n_prompt * sizeof *r->prompt);
        if (r->prompt == NULL) return infc_complain(INFC_EXIT_LIMIT, "out of memory");
        memcpy(r->prompt, a->tokens.data, r->n_prompt * sizeof *r->prompt);
    } else {
        uint32_t flags = (a->no_bos ? 0 : INFC_TOKENIZE_BOS) | (a->no_special ? 0 : INFC_TOKENIZE_SPECIAL);
        char *text = NULL;
        size_t size = 0;
        if (a->file != NULL) {
            code = infc_read_input(r->input_fd, a->file, &text, &size);
            r->input_fd = -1;
        }
        if (code == INFC_EXIT_OK)
            code = infc_tokenize_new(&r->s, text ? text : a->prompt, text ? size : strlen(a->prompt), flags, &r->prompt, &r->n_prompt);
        free(text);
    }
    if (code != INFC_EXIT_OK) return code;
    for (size_t i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= r->s.info.vocab_size)
            return infc_complain(INFC_EXIT_INPUT, "token %d is not in the vocabulary of %d tokens", r->prompt[i], r->s.info.vocab_size);
    if (r->n_prompt == 0) return infc_complain(INFC_EXIT_INPUT, "the prompt is empty and the model adds no begin-of-text token");
    if (r->n_prompt > (size_t)r->s.info.n_ctx)
        return infc_complain(INFC_EXIT_LIMIT, "the prompt has %zu tokens, the context holds %d: compile with a larger --ctx",
                             r->n_prompt, r->s.info.n_ctx);
    return INFC_EXIT_OK;
}

// Everything the loop needs, so that it allocates nothing.
static int prepare(run *r) {
    const infc_args *a = r->args;
    const infc_info *info = &r->s.info;
    int all = a->logits_hash || a->logits_out != NULL;
    r->logits_rows = all ? infc_logits_rows(&r->s, a) : 1;
    if ((size_t)r->logits_rows > r->n_prompt) r->logits_rows = (int32_t)r->n_prompt;
    r->logits = malloc((size_t)r->logits_rows * (size_t)info->vocab_size * sizeof(float));
    r->cap_ids = (size_t)info->n_ctx + 1;
    if (a->n_predict >= 0 && (size_t)a->n_predict < r->cap_ids) r->cap_ids = (size_t)a->n_predict + 1;
    r->ids = malloc(r->cap_ids * sizeof *r->ids);
    if (a->ignore_eos) r->eog = malloc((size_t)info->vocab_size * sizeof *r->eog);
    if (r->logits == NULL || r->ids == NULL || (a->ignore_eos && r->eog == NULL)) return infc_complain(INFC_EXIT_LIMIT, "out of memory");
    for (int32_t id = 0; a->ignore_eos && id < info->vocab_size; id++)
        if (infc_is_eog(r->s.model, id) > 0) r->eog[r->n_eog++] = id;
    r->sampling = infc_sampling_of(a, info);
    int rc = infc_sampler_open(r->s.model, &r->sampling, &r->sampler);
    if (rc >= 0) rc = infc_sampler_accept(r->sampler, r->prompt, r->n_prompt);
    if (rc >= 0) rc = infc_seq_open(r->s.model);
    if (rc < 0) return infc_complain_api(rc);
    r->seq = rc;
    return INFC_EXIT_OK;
}

static int take_logits(void *arg, int32_t first_pos, int32_t n, const float *logits) {
    run *r = arg;
    size_t vocab = (size_t)r->s.info.vocab_size, size = (size_t)n * vocab * sizeof(float);
    (void)first_pos;
    _Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the file is little-endian");
    r->hash = infc_hash(r->hash, logits, size);
    const char *p = (const char *)logits;
    while (r->logits_fd >= 0 && size > 0) {
        ssize_t done = write(r->logits_fd, p, size);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return infc_complain(INFC_EXIT_LIMIT, "cannot write '%.100s': %s", r->args->logits_out, strerror(errno));
        p += done;
        size -= (size_t)done;
    }
    if (n > 1) memmove(r->logits, r->logits + (size_t)(n - 1) * vocab, vocab * sizeof(float));  // sampling reads the last row
    return INFC_EXIT_OK;
}

static int evaluate_prompt(run *r) {
    double start = infc_now();
    int code;
    if (r->args->logits_hash || r->args->logits_out != NULL) {
        code = infc_feed_all(&r->s, r->seq, r->prompt, (int32_t)r->n_prompt, 0, r->logits, r->logits_rows, take_logits, r);
    } else {
        int32_t fed;
        code = infc_feed(&r->s, r->seq, 0, r->prompt, (int32_t)r->n_prompt, r->logits, &fed);
    }
    r->prompt_s = infc_now() - start;
    return code;
}

static int emit(run *r, infc_decoder *decoder, int32_t id) {
    if (r->args->print_ids) {
        if (id < 0) return INFC_EXIT_OK;
        infc_out_format(&out, r->n_ids > 1 ? " %d" : "%d", id);
        return infc_out_flush(&out);
    }
    int n = infc_decode(r->s.model, decoder, id, 0, piece, sizeof piece);
    if (n < 0) return infc_complain_api(n);
    if (n == 0) return INFC_EXIT_OK;
    if (r->args->json) return infc_text_append(&r->text, piece, (size_t)n);
    infc_out_bytes(&out, piece, (size_t)n);
    return infc_out_flush(&out);
}

static int generate(run *r) {
    const infc_args *a = r->args;
    infc_decoder decoder = {0};
    int code = INFC_EXIT_OK;
    int32_t pos = (int32_t)r->n_prompt;
    double start = 0;
    r->stop = a->n_predict == 0 ? "length" : NULL;
    while (code == INFC_EXIT_OK && r->stop == NULL) {
        infc_choice choice;
        for (size_t i = 0; i < r->n_eog; i++) r->logits[r->eog[i]] = -INFINITY;
        int rc = infc_sample(r->sampler, r->logits, &choice);
        if (rc < 0) return infc_complain_api(rc);
        r->ids[r->n_ids++] = choice.id;
        int ends = infc_is_eog(r->s.model, choice.id) > 0;
        if (!ends || a->print_ids) code = emit(r, &decoder, choice.id);
        if (r->n_ids == 1) {
            start = infc_now();
            r->first_token_s = start - infc_start_time;
        }
        if (ends) r->stop = "eos";
        else if (a->n_predict >= 0 && r->n_ids >= (size_t)a->n_predict) r->stop = "length";
        else if (pos == r->s.info.n_ctx) r->stop = "context";
        else if (infc_stop_signal != 0) r->stop = "signal";
        if (code != INFC_EXIT_OK || r->stop != NULL) break;
        int32_t fed;
        code = infc_feed(&r->s, r->seq, pos, &choice.id, 1, r->logits, &fed);
        if (fed == 0) r->stop = "signal";
        pos += fed;
        r->n_steps += fed;
    }
    if (r->n_ids > 0) r->decode_s = infc_now() - start;
    if (code != INFC_EXIT_OK) return code;
    code = emit(r, &decoder, -1);
    if (code == INFC_EXIT_OK && !a->json && r->n_ids > 0 && (a->print_ids || r->tty)) {
        infc_out_bytes(&out, "\n", 1);
        code = infc_out_flush(&out);
    }
    return code;
}

static double rate(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

static double streamed_gb_s(const run *r) {
    return rate((double)r->n_steps * (double)infc_stream_bytes(&r->s), r->decode_s) * 1e-9;
}

static int print_json(run *r) {
    infc_json j = {.out = &out};
    char hash[20];
    infc_json_bracket(&j, '{');
    infc_json_key(&j, "text");
    infc_json_string(&j, r->text.data ? r->text.data : "", r->text.n);
    infc_json_key(&j, "ids");
    infc_json_ids(&j, r->ids, r->n_ids);
    infc_json_key(&j, "prompt_ids");
    infc_json_ids(&j, r->prompt, r->n_prompt);
    infc_json_key(&j, "logits_hash");
    if (r->args->logits_hash || r->args->logits_out != NULL) {
        infc_format_hash(hash, r->hash);
        infc_json_string(&j, hash, strlen(hash));
    } else {
        infc_json_raw(&j, "null", 4);
    }
    infc_json_put_text(&j, "stop", r->stop);
    infc_json_put_int(&j, "seed", (int64_t)r->sampling.seed);
    infc_json_key(&j, "timings");
    infc_json_bracket(&j, '{');
    infc_json_put_int(&j, "prompt_n", (int64_t)r->n_prompt);
    infc_json_put_real(&j, "prompt_ms", r->prompt_s * 1e3);
    infc_json_put_real(&j, "prompt_per_second", rate((double)r->n_prompt, r->prompt_s));
    infc_json_put_int(&j, "predicted_n", r->n_steps);
    infc_json_put_real(&j, "predicted_ms", r->decode_s * 1e3);
    infc_json_put_real(&j, "predicted_per_second", rate(r->n_steps, r->decode_s));
    infc_json_put_real(&j, "first_token_ms", r->first_token_s * 1e3);
    infc_json_put_real(&j, "gb_s", streamed_gb_s(r));
    infc_json_bracket(&j, '}');
    infc_json_put_text(&j, "isa", r->s.info.isa);
    infc_json_put_int(&j, "threads", r->s.info.threads);
    infc_json_bracket(&j, '}');
    infc_out_bytes(&out, "\n", 1);
    return infc_out_flush(&out);
}

static void print_summary(const run *r) {
    if (strcmp(r->stop, "context") == 0) infc_note("the context of %d positions is full", r->s.info.n_ctx);
    if (r->args->logits_hash || r->args->logits_out != NULL) {
        char hash[20];
        infc_format_hash(hash, r->hash);
        infc_note("logits hash %s over %zu prompt positions", hash, r->n_prompt);
    }
    infc_note("prompt %zu tokens %.1f tok/s | decode %d tokens %.1f tok/s, %.1f GB/s of weights | first token %.1f ms | "
              "%s, %d thread%s | seed %llu",
              r->n_prompt, rate((double)r->n_prompt, r->prompt_s), r->n_steps, rate(r->n_steps, r->decode_s), streamed_gb_s(r),
              r->first_token_s * 1e3, r->s.info.isa, r->s.info.threads, r->s.info.threads == 1 ? "" : "s",
              (unsigned long long)r->sampling.seed);
}

static int run_all(run *r) {
    int code = open_files(r);
    if (code == INFC_EXIT_OK) code = infc_session_open(r->args, r->args->threads, 0, &r->s);
    if (code == INFC_EXIT_OK) code = read_prompt(r);
    if (code == INFC_EXIT_OK) code = prepare(r);
    if (code == INFC_EXIT_OK) code = evaluate_prompt(r);
    if (code != INFC_EXIT_OK) return code;
    if (infc_stop_signal != 0) return infc_stop_code();  // the prompt is half read: there is nothing to show
    code = generate(r);
    if (code == INFC_EXIT_OK && r->args->json) code = print_json(r);
    if (code != INFC_EXIT_OK) return code;
    print_summary(r);
    return infc_stop_code();
}

int infc_cmd_generate(const infc_args *a) {
    run r = {.args = a, .hash = INFC_HASH_START, .logits_fd = -1, .input_fd = -1, .tty = isatty(STDOUT_FILENO)};
    int code = run_all(&r);
    if (r.logits_fd >= 0 && close(r.logits_fd) != 0 && code == INFC_EXIT_OK)
        code = infc_complain(INFC_EXIT_LIMIT, "cannot write '%.100s': %s", a->logits_out, strerror(errno));
    if (r.input_fd > STDIN_FILENO) close(r.input_fd);
    infc_sampler_close(r.sampler);
    infc_session_close(&r.s);
    free(r.prompt);
    free(r.ids);
    free(r.eog);
    free(r.logits);
    free(r.text.data);
    return code;
}
