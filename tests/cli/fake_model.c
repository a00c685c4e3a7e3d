// fake_model.c: infc.h over a toy, so that the executable's own code is tested without the compiler, and failures can be provoked.
// Tokens: 0..255 bytes, 256 <s>, 257 </s> (ends a text), 258.. the roles. Logits of a position depend on all tokens before it, as a real
// model's do. Environment:
//   FAKE_SCRIPT=text   the most likely token at position p is text[p % length]; $ stands for </s>
//   FAKE_FAIL=f:rc     function f (open, step, verify, tokenize, sample, chat) fails with rc
//   FAKE_LOG=file      one line "step SEQ FIRST_POS N_ROWS" for each infc_step
//   FAKE_SLOW_MS=n     a step takes that long        FAKE_BUS=1  the first step touches a truncated mapping
//   FAKE_N_CTX=n       context (64)                  FAKE_NO_CHAT=1, FAKE_NO_BOS=1
#define _GNU_SOURCE
#include "infc.h"
#include "infc_program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { VOCAB = 264, DIM = 8, MAX_SEQS = 4, PAGE = 16, BOS = 256, EOS = 257, USER = 258, ASSISTANT = 259, SYSTEM = 260 };
static const char *const names[] = {"<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "\xc3\xa9t\xc3\xa9", "[6]", "[7]"};
static const char meta[] =
    "{\"name\": \"fa\\\"ke\", \"inner\": {\"stream_bytes\": 7}, \"stream_bytes\": 65536, \"head_bytes\": 16384, "
    "\"int_macs\": 90000, \"f32_macs\": 500, \"head_int_macs\": 30000, \"head_f32_macs\": 20, "
    "\"kv_int16_macs\": 12, \"kv_f32_macs\": 4, \"kv_window\": 20, \"kv_windowed_layers\": 1, \"kv_last_window\": 0}";

struct infc_model { int32_t n_ctx, threads, max_rows; const char *isa; int open[MAX_SEQS], length[MAX_SEQS], *tokens[MAX_SEQS]; };
struct infc_sampler { infc_sampling s; uint64_t count; };

static const infc_backend backends[] = {{"scalar", 0, 0, 0, NULL}, {"fake", 0, 0, 0, NULL}};
const infc_program infc_the_program = {.infc_version = "0.0-fake", .n_ctx = 64, .n_backends = 2, .backends = backends};

static _Thread_local char error_text[256];
static int fail(int rc, const char *what) {
    snprintf(error_text, sizeof error_text, "%s", what);
    return rc;
}

static int env_int(const char *name, int otherwise) { return getenv(name) ? atoi(getenv(name)) : otherwise; }

// The code FAKE_FAIL orders for this function, else 0.
static int ordered(const char *function) {
    const char *f = getenv("FAKE_FAIL");
    size_t n = strlen(function);
    return f && strncmp(f, function, n) == 0 && f[n] == ':' ? fail(atoi(f + n + 1), "ordered \x1b[31mfailure\n") : 0;
}

int infc_abi_version(void) { return INFC_ABI_VERSION; }
const char *infc_last_error(void) { return error_text; }

int infc_open(const infc_options *o, infc_model **out) {
    *out = NULL;
    if (ordered("open")) return ordered("open");
    if (o->isa && strcmp(o->isa, "scalar") != 0 && strcmp(o->isa, "fake") != 0) return fail(INFC_EHOST, "this program has no such ISA");
    if (o->ubatch > 16) return fail(INFC_EINPUT, "ubatch is more than 16");
    infc_model *m = calloc(1, sizeof *m);
    m->n_ctx = env_int("FAKE_N_CTX", 64);
    m->threads = o->threads ? o->threads : 2;
    m->max_rows = 16;
    m->isa = o->isa ? o->isa : "fake";
    *out = m;
    return 0;
}

void infc_close(infc_model *m) {
    for (int i = 0; i < MAX_SEQS; i++) free(m->tokens[i]);
    free(m);
}

int infc_get_info(const infc_model *m, infc_info *out) {
    *out = (infc_info){.dim = DIM, .n_layers = 2, .n_heads = 2, .n_kv_heads = 1, .head_dim = 4, .hidden_dim = 16, .vocab_size = VOCAB,
                       .n_ctx = m->n_ctx, .page_size = PAGE, .n_pages = 2 * m->n_ctx / PAGE, .max_seqs = MAX_SEQS, .max_rows = m->max_rows,
                       .threads = m->threads, .bos_id = BOS, .eos_id = EOS, .has_chat = !getenv("FAKE_NO_CHAT"), .weights_bytes = 131072,
                       .kv_bytes = 4096, .arena_bytes = 8192, .isa = m->isa};
    return 0;
}

const char *infc_meta(const infc_model *m, size_t *size) {
    (void)m;
    *size = sizeof meta - 1;
    return meta;
}

int infc_verify(const infc_model *m) { return m ? ordered("verify") : INFC_EINPUT; }

int infc_seq_open(infc_model *m) {
    for (int i = 0; i < MAX_SEQS; i++) {
        if (m->open[i]) continue;
        m->open[i] = 1;
        m->length[i] = 0;
        if (!m->tokens[i]) m->tokens[i] = malloc((size_t)m->n_ctx * sizeof(int));
        return i;
    }
    return fail(INFC_ELIMIT, "all sequences are open");
}

static int is_open(const infc_model *m, int32_t s) { return s >= 0 && s < MAX_SEQS && m->open[s]; }
int infc_seq_close(infc_model *m, int32_t s) { return is_open(m, s) ? (m->open[s] = 0) : fail(INFC_EINPUT, "no such sequence"); }
int infc_seq_length(const infc_model *m, int32_t s) { return is_open(m, s) ? m->length[s] : fail(INFC_EINPUT, "no such sequence"); }

int infc_seq_truncate(infc_model *m, int32_t s, int32_t length) {
    if (!is_open(m, s) || length < 0 || length > m->length[s]) return fail(INFC_EINPUT, "bad truncation");
    m->length[s] = length;
    return 0;
}

int infc_seq_fork(infc_model *m, int32_t s, int32_t length) {
    int t = is_open(m, s) && length <= m->length[s] ? infc_seq_open(m) : fail(INFC_EINPUT, "bad fork");
    if (t < 0) return t;
    memcpy(m->tokens[t], m->tokens[s], (size_t)length * sizeof(int));
    m->length[t] = length;
    return t;
}

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void logits_of(const infc_model *m, int32_t seq, int32_t pos, float *out) {
    const char *script = getenv("FAKE_SCRIPT");
    uint64_t h = 1;
    for (int i = 0; i <= pos; i++) h = mix(h + (uint64_t)m->tokens[seq][i] + 1);
    for (int v = 0; v < VOCAB; v++) out[v] = (float)(int64_t)(mix(h + (uint64_t)v) >> 40) * 0x1p-21f - 4.0f;
    if (script && *script) {
        unsigned char c = (unsigned char)script[(size_t)pos % strlen(script)];
        out[c == '$' ? EOS : c] += 100;
    }
}

static void touch_truncated_mapping(void) {
    int fd = memfd_create("weights", 0);
    if (fd < 0 || ftruncate(fd, 4096) != 0) return;
    volatile char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (ftruncate(fd, 0) != 0) return;
    (void)p[0];
}

int infc_step(infc_model *m, const infc_row *rows, int32_t n, float *logits, float *hidden) {
    (void)hidden;
    if (ordered("step")) return ordered("step");
    if (getenv("FAKE_BUS")) touch_truncated_mapping();
    if (getenv("FAKE_LOG")) {
        FILE *log = fopen(getenv("FAKE_LOG"), "a");
        if (log) fprintf(log, "step %d %d %d\n", rows[0].seq, rows[0].pos, n), fclose(log);
    }
    struct timespec pause = {0, env_int("FAKE_SLOW_MS", 0) * 1000000L};
    nanosleep(&pause, NULL);
    for (int i = 0; i < n; i++) {
        const infc_row *r = &rows[i];
        if (!is_open(m, r->seq) || r->pos != m->length[r->seq] || r->token < 0 || r->token >= VOCAB) return fail(INFC_EINPUT, "bad row");
        if (r->pos >= m->n_ctx) return fail(INFC_ELIMIT, "the context is full");
        m->tokens[r->seq][m->length[r->seq]++] = r->token;
        if (!(r->flags & INFC_ROW_LOGITS)) continue;
        logits_of(m, r->seq, r->pos, logits);
        logits += VOCAB;
    }
    return 0;
}

int infc_tokenize(const infc_model *m, const char *text, size_t size, uint32_t flags, int32_t *ids, size_t cap) {
    size_t n = 0;
    (void)m;
    if (ordered("tokenize")) return ordered("tokenize");
    if (flags & INFC_TOKENIZE_BOS && !getenv("FAKE_NO_BOS")) {
        if (n < cap) ids[n] = BOS;
        n++;
    }
    for (size_t i = 0; i < size;) {
        int32_t id = (unsigned char)text[i];
        size_t used = 1;
        for (int k = 0; k < VOCAB - 256; k++) {
            size_t length = strlen(names[k]);
            if (k != 5 && !(flags & INFC_TOKENIZE_SPECIAL)) continue;
            if (length <= size - i && memcmp(text + i, names[k], length) == 0) id = 256 + k, used = length;
        }
        if (n < cap) ids[n] = id;
        n++;
        i += used;
    }
    return (int)n;
}

static size_t piece_of(int32_t id, int special, char *out) {
    if (id < 256) {
        out[0] = (char)id;
        return 1;
    }
    if (!special && id != 261) return 0;
    strcpy(out, names[id - 256]);
    return strlen(out);
}

int infc_detokenize(const infc_model *m, const int32_t *ids, size_t n, int special, char *out, size_t cap) {
    size_t size = 0;
    (void)m;
    for (size_t i = 0; i < n; i++) {
        char piece[32];
        size_t k = piece_of(ids[i], special, piece);
        if (size + k <= cap) memcpy(out + size, piece, k);
        size += k;
    }
    return (int)size;
}

int infc_decode(const infc_model *m, infc_decoder *d, int32_t id, int special, char *out, size_t cap) {
    (void)m, (void)cap;
    size_t n = d->n, done = 0;
    memcpy(out, d->pending, n);
    if (id >= 0) n += piece_of(id, special, out + n);
    while (done < n) {
        unsigned char c = (unsigned char)out[done];
        size_t need = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        if (id >= 0 && done + need > n) break;
        done += done + need > n ? n - done : need;
    }
    d->n = (uint32_t)(n - done);
    memcpy(d->pending, out + done, n - done);
    return (int)done;
}

int infc_is_eog(const infc_model *m, int32_t id) { return m && id >= 0 && id < VOCAB ? id == EOS : fail(INFC_EINPUT, "no such token"); }

int infc_chat_date(infc_model *m, const char *date) {
    (void)m;
    return strcmp(date, "2024-07-26") == 0 ? 0 : fail(INFC_EINPUT, "that is no date");
}

int infc_chat_tokenize(const infc_model *m, const infc_message *messages, int32_t n, int add_generation_prompt, int32_t *ids, size_t cap) {
    size_t at = 0;
    if (ordered("chat")) return ordered("chat");
    if (getenv("FAKE_NO_CHAT")) return fail(INFC_EINPUT, "the model has no chat template");
    for (int32_t i = 0; i < n; i++) {
        if (at < cap) ids[at] = messages[i].role[0] == 'u' ? USER : messages[i].role[0] == 'a' ? ASSISTANT : SYSTEM;
        at++;
        int k = infc_tokenize(m, messages[i].content, messages[i].size, 0, ids + (at < cap ? at : cap), at < cap ? cap - at : 0);
        at += (size_t)k;
        if (at < cap) ids[at] = EOS;
        at++;
    }
    if (add_generation_prompt) {
        if (at < cap) ids[at] = ASSISTANT;
        at++;
    }
    return (int)at;
}

int infc_sampler_open(const infc_model *m, const infc_sampling *s, infc_sampler **out) {
    (void)m;
    *out = calloc(1, sizeof **out);
    (*out)->s = *s;
    return 0;
}
void infc_sampler_close(infc_sampler *s) { free(s); }
int infc_sampler_accept(infc_sampler *s, const int32_t *ids, size_t n) { return s && (ids || n == 0) ? 0 : INFC_EINPUT; }

int infc_sample(infc_sampler *s, const float *logits, infc_choice *out) {
    float best = -INFINITY;
    if (ordered("sample")) return ordered("sample");
    s->count++;
    for (int v = 0; v < VOCAB; v++) {
        double u = ((double)(mix(s->s.seed * 977 + s->count * 7919 + (uint64_t)v) >> 11) + 0.5) * 0x1p-53;
        float x = logits[v] + (s->s.temperature > 0 ? s->s.temperature * (float)-log(-log(u)) : 0);  // Gumbel-max
        if (x > best) best = x, out->id = v;
    }
    out->logprob = 0;
    return 0;
}
