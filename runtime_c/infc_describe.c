// infc_describe.c: NAME info, verify and tokenize: the commands that run no forward pass.
#define _GNU_SOURCE
#include "infc_json.h"
#include "infc_program.h"
#include "infc_session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static infc_out out = {.fd = STDOUT_FILENO};

typedef struct figure {
    const char *name;
    int64_t value;
} figure;

enum { N_FIGURES = 18 };

static void figures_of(const infc_info *i, uint64_t stream_bytes, figure f[N_FIGURES]) {
    const figure all[N_FIGURES] = {
        {"dim", i->dim}, {"n_layers", i->n_layers}, {"n_heads", i->n_heads}, {"n_kv_heads", i->n_kv_heads}, {"head_dim", i->head_dim},
        {"hidden_dim", i->hidden_dim}, {"vocab_size", i->vocab_size}, {"n_ctx", i->n_ctx}, {"page_size", i->page_size},
        {"n_pages", i->n_pages}, {"max_seqs", i->max_seqs}, {"max_rows", i->max_rows}, {"bos_id", i->bos_id}, {"eos_id", i->eos_id},
        {"weights_bytes", (int64_t)i->weights_bytes}, {"stream_bytes", (int64_t)stream_bytes}, {"kv_bytes", (int64_t)i->kv_bytes},
        {"arena_bytes", (int64_t)i->arena_bytes}};
    memcpy(f, all, sizeof all);
}

static void info_json(const infc_session *s, const figure *f, const char *meta, size_t meta_size) {
    infc_json j = {.out = &out};
    infc_json_bracket(&j, '{');
    infc_json_put_text(&j, "name", infc_name());
    infc_json_put_text(&j, "infc", infc_the_program.infc_version);
    infc_json_put_text(&j, "isa", s->info.isa);
    infc_json_key(&j, "isas");
    infc_json_bracket(&j, '[');
    for (int i = 0; i < infc_the_program.n_backends; i++) {
        const char *isa = infc_the_program.backends[i].isa;
        infc_json_string(&j, isa, strlen(isa));
    }
    infc_json_bracket(&j, ']');
    infc_json_key(&j, "chat");
    infc_json_bool(&j, s->info.has_chat);
    for (int i = 0; i < N_FIGURES; i++) infc_json_put_int(&j, f[i].name, f[i].value);
    infc_json_key(&j, "model");
    if (meta != NULL && meta_size > 0) infc_json_raw(&j, meta, meta_size);
    else infc_json_raw(&j, "null", 4);
    infc_json_bracket(&j, '}');
    infc_out_text(&out, "\n");
}

static void info_text(const infc_session *s, const figure *f, const char *meta, size_t meta_size) {
    infc_out_format(&out, "%-14s %.100s\n", "name", infc_name());
    infc_out_format(&out, "%-14s %s\n", "infc", infc_the_program.infc_version);
    infc_out_format(&out, "%-14s %s of", "isa", s->info.isa);
    for (int i = 0; i < infc_the_program.n_backends; i++) infc_out_format(&out, " %s", infc_the_program.backends[i].isa);
    infc_out_format(&out, "\n%-14s %s\n", "chat", s->info.has_chat ? "yes" : "no");
    for (int i = 0; i < N_FIGURES; i++) infc_out_format(&out, "%-14s %lld\n", f[i].name, (long long)f[i].value);
    infc_out_format(&out, "%-14s ", "model");
    if (meta != NULL) infc_out_bytes(&out, meta, meta_size);
    infc_out_text(&out, "\n");
}

int infc_cmd_info(const infc_args *a) {
    infc_session s;
    int code = infc_session_open(a, 1, INFC_OPEN_NO_POPULATE, &s);
    if (code != INFC_EXIT_OK) return code;
    figure f[N_FIGURES];
    size_t meta_size = 0;
    const char *meta = infc_meta(s.model, &meta_size);
    figures_of(&s.info, infc_stream_bytes(&s), f);
    (a->json ? info_json : info_text)(&s, f, meta, meta_size);
    infc_session_close(&s);
    return infc_out_flush(&out);
}

int infc_cmd_verify(const infc_args *a) {
    infc_session s;
    int code = infc_session_open(a, 1, INFC_OPEN_NO_POPULATE, &s);
    if (code != INFC_EXIT_OK) return code;
    int rc = infc_verify(s.model);
    if (rc < 0) {
        code = infc_complain_api(rc);
    } else {
        infc_out_format(&out, "ok: %llu bytes of weights match their checksum\n", (unsigned long long)s.info.weights_bytes);
        code = infc_out_flush(&out);
    }
    infc_session_close(&s);
    return code;
}

static int print_tokens(const infc_args *a, const infc_session *s, const int32_t *ids, size_t n) {
    static char piece[65536 + 8];
    if (!a->json) {
        for (size_t i = 0; i < n; i++) infc_out_format(&out, i > 0 ? " %d" : "%d", ids[i]);
        infc_out_text(&out, "\n");
        return infc_out_flush(&out);
    }
    infc_json j = {.out = &out};
    infc_json_bracket(&j, '{');
    infc_json_put_int(&j, "n", (int64_t)n);
    infc_json_key(&j, "ids");
    infc_json_ids(&j, ids, n);
    infc_json_key(&j, "pieces");
    infc_json_bracket(&j, '[');
    for (size_t i = 0; i < n; i++) {
        int size = infc_detokenize(s->model, &ids[i], 1, 1, piece, sizeof piece);
        if (size < 0) return infc_complain_api(size);
        infc_json_string(&j, piece, (size_t)size < sizeof piece ? (size_t)size : sizeof piece);
    }
    infc_json_bracket(&j, ']');
    infc_json_bracket(&j, '}');
    infc_out_text(&out, "\n");
    return infc_out_flush(&out);
}

int infc_cmd_tokenize(const infc_args *a) {
    infc_session s = {0};
    int fd = -1;
    char *text = NULL;
    int32_t *ids = NULL;
    size_t size = 0, n = 0;
    uint32_t flags = (a->no_bos ? 0 : INFC_TOKENIZE_BOS | INFC_TOKENIZE_END) | (a->no_special ? 0 : INFC_TOKENIZE_SPECIAL);
    int code = a->file != NULL ? infc_open_input(a->file, &fd) : INFC_EXIT_OK;
    if (code == INFC_EXIT_OK) code = infc_session_open(a, 1, INFC_OPEN_NO_POPULATE, &s);
    if (code == INFC_EXIT_OK && a->file != NULL) {
        code = infc_read_input(fd, a->file, &text, &size);
        fd = -1;
    }
    if (code == INFC_EXIT_OK) code = infc_tokenize_new(&s, text ? text : a->prompt, text ? size : strlen(a->prompt), flags, &ids, &n);
    if (code == INFC_EXIT_OK) code = print_tokens(a, &s, ids, n);
    if (fd > STDIN_FILENO) close(fd);
    free(ids);
    free(text);
    infc_session_close(&s);
    return code;
}
