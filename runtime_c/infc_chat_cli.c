// infc_chat_cli.c: NAME chat: a line of stdin is a turn of the user. The KV cache of earlier turns is kept: each turn tokenizes the whole
// conversation and runs only what follows the prefix that the sequence holds already.
#define _GNU_SOURCE
#include "infc_session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 65536 + 8, LINE_MAX_BYTES = 16 << 20 };

typedef struct chat {
    const infc_args *args;
    infc_session s;
    infc_sampler *sampler;
    int32_t seq;
    infc_message *messages;  // (n_messages) content is allocated; 0 is the system message if there is one
    int32_t n_messages, cap_messages;
    int32_t n_system;        // 1 if the user gave a system message
    int32_t *held, *ids;     // (n_ctx) tokens in the sequence; tokens of the conversation
    int32_t n_held;
    float *logits;           // (vocab_size)
    int tty;
    int status;              // of a turn that was refused; the conversation goes on
} chat;

static infc_out out = {.fd = STDOUT_FILENO};
static char piece[PIECE_BYTES];

static int add_message(chat *c, const char *role, const char *content, size_t size) {
    if (c->n_messages == c->cap_messages) {
        int32_t cap = c->cap_messages * 2 + 16;
        infc_message *grown = realloc(c->messages, (size_t)cap * sizeof *grown);
        if (grown == NULL) return infc_complain(INFC_EXIT_LIMIT, "out of memory");
        c->messages = grown;
        c->cap_messages = cap;
    }
    char *copy = malloc(size + 1);
    if (copy == NULL) return infc_complain(INFC_EXIT_LIMIT, "out of memory");
    if (size > 0) memcpy(copy, content, size);
    copy[size] = '\0';
    c->messages[c->n_messages++] = (infc_message){role, copy, size};
    return INFC_EXIT_OK;
}

static void drop_messages(chat *c, int32_t from, int32_t n) {
    if (n == 0) return;
    for (int32_t i = from; i < from + n; i++) free((char *)c->messages[i].content);
    memmove(c->messages + from, c->messages + from + n, (size_t)(c->n_messages - from - n) * sizeof *c->messages);
    c->n_messages -= n;
}

// One line without its end. 1: a line, 0: end of input or a signal, else -exit code.
static int read_line(infc_text *line) {
    static char buf[65536];
    static size_t n, at;
    line->n = 0;
    for (;;) {
        while (at < n) {
            const char *end = memchr(buf + at, '\n', n - at);
            size_t size = end != NULL ? (size_t)(end - (buf + at)) : n - at;
            int code = infc_text_append(line, buf + at, size);
            if (code != INFC_EXIT_OK) return -code;
            at += size + (end != NULL);
            if (line->n > LINE_MAX_BYTES) return -infc_complain(INFC_EXIT_LIMIT, "a line has more than %d MiB", LINE_MAX_BYTES >> 20);
            if (end == NULL) continue;
            if (line->n > 0 && line->data[line->n - 1] == '\r') line->n--;
            return 1;
        }
        ssize_t got = read(STDIN_FILENO, buf, sizeof buf);
        if (got < 0 && errno == EINTR && infc_stop_signal == 0) continue;
        if (got < 0 && errno != EINTR) return -infc_complain(INFC_EXIT_INPUT, "cannot read stdin: %s", strerror(errno));
        if (got <= 0) return got == 0 && line->n > 0;
        n = (size_t)got;
        at = 0;
    }
}

// Tokens of the conversation that leave room for an answer: the oldest turns are forgotten until it fits. *n_ids is 0 if it never does.
static int conversation_ids(chat *c, int32_t *n_ids) {
    int32_t n_ctx = c->s.info.n_ctx, dropped = 0;
    for (;;) {
        int n = infc_chat_tokenize(c->s.model, c->messages, c->n_messages, 1, c->ids, (size_t)n_ctx);
        if (n < 0) return infc_complain_api(n);
        // An eighth of the context for the answer, unless this turn alone needs it.
        int alone = c->n_messages <= c->n_system + 1;
        *n_ids = n;
        if (n <= n_ctx - n_ctx / 8 || (alone && n < n_ctx)) break;
        *n_ids = 0;
        if (alone) break;
        drop_messages(c, c->n_system, 2);  // a question and its answer
        dropped += 2;
    }
    if (dropped > 0) infc_note("the context is full: the %d oldest messages are forgotten", dropped);
    return INFC_EXIT_OK;
}

// Brings the sequence to ids[0..n) and leaves the logits of the last one in c->logits.
static int catch_up(chat *c, int32_t n) {
    int32_t common = 0, fed;
    while (common < n - 1 && common < c->n_held && c->ids[common] == c->held[common]) common++;
    int rc = infc_seq_truncate(c->s.model, c->seq, common);
    if (rc < 0) return infc_complain_api(rc);
    int code = infc_feed(&c->s, c->seq, common, c->ids + common, n - common, c->logits, &fed);
    memcpy(c->held + common, c->ids + common, (size_t)fed * sizeof *c->held);
    c->n_held = common + fed;
    if (code != INFC_EXIT_OK) return code;
    rc = infc_sampler_accept(c->sampler, c->ids + common, (size_t)fed);
    return rc < 0 ? infc_complain_api(rc) : INFC_EXIT_OK;
}

static int show(infc_text *answer, int n) {
    if (n < 0) return infc_complain_api(n);
    if (n == 0) return INFC_EXIT_OK;
    infc_out_bytes(&out, piece, (size_t)n);
    int code = infc_text_append(answer, piece, (size_t)n);
    return code != INFC_EXIT_OK ? code : infc_out_flush(&out);
}

static int answer_turn(chat *c, infc_text *answer) {
    infc_decoder decoder = {0};
    int code = INFC_EXIT_OK;
    answer->n = 0;
    for (int32_t made = 0; code == INFC_EXIT_OK && infc_stop_signal == 0 && (c->args->n_predict < 0 || made < c->args->n_predict); made++) {
        infc_choice choice;
        int32_t fed;
        int rc = infc_sample(c->sampler, c->logits, &choice);
        if (rc < 0) return infc_complain_api(rc);
        if (infc_is_eog(c->s.model, choice.id) > 0) break;
        code = show(answer, infc_decode(c->s.model, &decoder, choice.id, 0, piece, sizeof piece));
        if (code != INFC_EXIT_OK) break;
        if (c->n_held == c->s.info.n_ctx) {
            infc_note("the context of %d positions is full: the answer is cut", c->s.info.n_ctx);
            break;
        }
        code = infc_feed(&c->s, c->seq, c->n_held, &choice.id, 1, c->logits, &fed);
        if (fed == 1) c->held[c->n_held++] = choice.id;
    }
    if (code == INFC_EXIT_OK) code = show(answer, infc_decode(c->s.model, &decoder, -1, 0, piece, sizeof piece));
    infc_out_bytes(&out, "\n", 1);
    int second = infc_out_flush(&out);
    return code != INFC_EXIT_OK ? code : second;
}

static int turn(chat *c, const infc_text *line, infc_text *answer) {
    int32_t n_ids;
    int code = add_message(c, "user", line->data, line->n);
    if (code == INFC_EXIT_OK) code = conversation_ids(c, &n_ids);
    if (code != INFC_EXIT_OK) return code;
    if (n_ids == 0) {
        drop_messages(c, c->n_messages - 1, 1);
        c->status = infc_complain(INFC_EXIT_LIMIT, "this turn does not fit the context of %d positions: compile with a larger --ctx",
                                  c->s.info.n_ctx);
        return INFC_EXIT_OK;
    }
    code = catch_up(c, n_ids);
    if (code == INFC_EXIT_OK) code = answer_turn(c, answer);
    if (code == INFC_EXIT_OK) code = add_message(c, "assistant", answer->data ? answer->data : "", answer->n);
    return code;
}

static int converse(chat *c) {
    infc_text line = {0}, answer = {0};
    int code = INFC_EXIT_OK;
    while (code == INFC_EXIT_OK) {
        if (c->tty && write(STDERR_FILENO, "> ", 2) < 0) break;
        int got = read_line(&line);
        if (got < 0) code = -got;
        if (got <= 0) break;
        if (line.n == 0) continue;
        code = turn(c, &line, &answer);
        if (infc_stop_signal == SIGINT) infc_stop_signal = 0;  // Ctrl-C ended the answer, not the conversation
        if (infc_stop_signal != 0) break;
    }
    if (c->tty) (void)!write(STDERR_FILENO, "\n", 1);
    free(line.data);
    free(answer.data);
    return code != INFC_EXIT_OK ? code : infc_stop_signal != 0 ? infc_stop_code() : c->status;
}

static int prepare(chat *c) {
    const infc_args *a = c->args;
    int code = infc_session_open(a, a->threads, 0, &c->s);
    if (code != INFC_EXIT_OK) return code;
    const infc_info *info = &c->s.info;
    if (!info->has_chat)
        return infc_complain(INFC_EXIT_INPUT, "this model has no chat template that could be compiled; use %s -p TEXT", infc_name());
    const int dated = a->date != NULL ? infc_chat_date(c->s.model, a->date) : 0;
    if (dated < 0) return infc_complain_api(dated);
    c->held = malloc((size_t)info->n_ctx * sizeof *c->held);
    c->ids = malloc((size_t)info->n_ctx * sizeof *c->ids);
    c->logits = malloc((size_t)info->vocab_size * sizeof *c->logits);
    if (c->held == NULL || c->ids == NULL || c->logits == NULL) return infc_complain(INFC_EXIT_LIMIT, "out of memory");
    infc_sampling sampling = infc_sampling_of(a, info);
    int rc = infc_sampler_open(c->s.model, &sampling, &c->sampler);
    if (rc >= 0) rc = infc_seq_open(c->s.model);
    if (rc < 0) return infc_complain_api(rc);
    c->seq = rc;
    infc_note("%s, %d thread%s, context %d | seed %llu", info->isa, info->threads, info->threads == 1 ? "" : "s", info->n_ctx,
              (unsigned long long)sampling.seed);
    if (a->system == NULL) return INFC_EXIT_OK;
    c->n_system = 1;
    return add_message(c, "system", a->system, strlen(a->system));
}

int infc_cmd_chat(const infc_args *a) {
    chat c = {.args = a, .tty = isatty(STDIN_FILENO) && isatty(STDERR_FILENO)};
    int code = prepare(&c);
    if (code == INFC_EXIT_OK) code = converse(&c);
    infc_sampler_close(c.sampler);
    infc_session_close(&c.s);
    drop_messages(&c, 0, c.n_messages);
    free(c.messages);
    free(c.held);
    free(c.ids);
    free(c.logits);
    return code;
}
