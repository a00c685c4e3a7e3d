// infc_session.c: what the commands share.
#define _GNU_SOURCE
#include "infc_session.h"
#include "infc_json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const size_t input_max_bytes = (size_t)256 << 20;
static const size_t logits_max_bytes = (size_t)32 << 20;

int infc_session_open(const infc_args *a, int32_t threads, uint32_t flags, infc_session *s) {
    memset(s, 0, sizeof *s);
    infc_options o = {.size = sizeof o, .threads = threads, .ubatch = a->ubatch, .isa = a->isa,
                      .flags = flags | (a->pin ? INFC_OPEN_PIN : 0)};
    int rc = infc_open(&o, &s->model);
    if (rc >= 0) rc = infc_get_info(s->model, &s->info);
    if (rc < 0) {
        int code = infc_complain_api(rc);
        infc_session_close(s);
        return code;
    }
    s->ubatch = a->ubatch > 0 && a->ubatch < s->info.max_rows ? a->ubatch : s->info.max_rows;
    s->rows = malloc((size_t)s->ubatch * sizeof *s->rows);
    if (s->rows != NULL) return INFC_EXIT_OK;
    infc_session_close(s);
    return infc_complain(INFC_EXIT_LIMIT, "out of memory");
}

void infc_session_close(infc_session *s) {
    free(s->rows);
    if (s->model != NULL) infc_close(s->model);
    memset(s, 0, sizeof *s);
}

int infc_open_input(const char *path, int *fd) {
    if (strcmp(path, "-") == 0) {
        *fd = STDIN_FILENO;
        return INFC_EXIT_OK;
    }
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return infc_complain(INFC_EXIT_INPUT, "cannot read '%.100s': %s", path, strerror(errno));
    return INFC_EXIT_OK;
}

int infc_read_input(int fd, const char *path, char **text, size_t *size) {
    struct stat st;
    size_t cap = 65536, n = 0;
    int code = INFC_EXIT_OK;
    // One byte more than the file has, so that its end is seen without growing.
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= 0 && (uint64_t)st.st_size < input_max_bytes)
        cap = (size_t)st.st_size + 1;
    char *data = malloc(cap);
    while (data != NULL) {
        if (n == cap) {
            char *grown = realloc(data, cap * 2);
            if (grown == NULL) free(data);
            data = grown;
            cap *= 2;
            continue;
        }
        ssize_t got = read(fd, data + n, cap - n);
        if (got < 0 && errno == EINTR && infc_stop_signal == 0) continue;
        if (got < 0) code = infc_complain(INFC_EXIT_INPUT, "cannot read '%.100s': %s", path, strerror(errno));
        if (got <= 0) break;
        n += (size_t)got;
        if (n <= input_max_bytes) continue;
        code = infc_complain(INFC_EXIT_LIMIT, "'%.100s' has more than %zu MiB", path, input_max_bytes >> 20);
        break;
    }
    if (data == NULL) code = infc_complain(INFC_EXIT_LIMIT, "out of memory: %zu bytes for '%.100s'", cap, path);
    if (fd != STDIN_FILENO) close(fd);
    if (code != INFC_EXIT_OK) {
        free(data);
        data = NULL;
    }
    *text = data;
    *size = n;
    return code;
}

int infc_tokenize_new(const infc_session *s, const char *text, size_t size, uint32_t flags, int32_t **ids, size_t *n) {
    size_t cap = size / 3 + 16;  // text has about four bytes a token; the second round has the exact count
    *ids = NULL;
    for (int round = 0; round < 2; round++) {
        int32_t *grown = realloc(*ids, cap * sizeof **ids);
        if (grown == NULL) break;
        *ids = grown;
        int got = infc_tokenize(s->model, text, size, flags, *ids, cap);
        if (got < 0) {
            free(*ids);
            *ids = NULL;
            return infc_complain_api(got);
        }
        *n = (size_t)got;
        if (*n <= cap) return INFC_EXIT_OK;
        cap = *n;
    }
    free(*ids);
    *ids = NULL;
    return infc_complain(INFC_EXIT_LIMIT, "out of memory: %zu tokens", cap);
}

int infc_feed(infc_session *s, int32_t seq, int32_t pos, const int32_t *ids, int32_t n, float *last_logits, int32_t *fed) {
    *fed = 0;
    while (*fed < n && infc_stop_signal == 0) {
        int32_t left = n - *fed, m = left < s->ubatch ? left : s->ubatch;
        for (int32_t i = 0; i < m; i++) s->rows[i] = (infc_row){seq, pos + *fed + i, ids[*fed + i], 0};
        if (m == left && last_logits != NULL) s->rows[m - 1].flags = INFC_ROW_LOGITS;
        int rc = infc_step(s->model, s->rows, m, last_logits, NULL);
        if (rc < 0) return infc_complain_api(rc);
        *fed += m;
    }
    return INFC_EXIT_OK;
}

int infc_feed_all(infc_session *s, int32_t seq, const int32_t *ids, int32_t n, int32_t first_wanted, float *logits, int32_t cap,
                  infc_logits_fn fn, void *arg) {
    for (int32_t pos = 0; pos < n && infc_stop_signal == 0;) {
        int wanted = pos >= first_wanted;
        int32_t end = wanted || first_wanted > n ? n : first_wanted;
        int32_t most = wanted && cap < s->ubatch ? cap : s->ubatch;
        int32_t m = end - pos < most ? end - pos : most;
        for (int32_t i = 0; i < m; i++) s->rows[i] = (infc_row){seq, pos + i, ids[pos + i], wanted ? INFC_ROW_LOGITS : 0};
        int rc = infc_step(s->model, s->rows, m, wanted ? logits : NULL, NULL);
        if (rc < 0) return infc_complain_api(rc);
        int code = wanted ? fn(arg, pos, m, logits) : INFC_EXIT_OK;
        if (code != INFC_EXIT_OK) return code;
        pos += m;
    }
    return INFC_EXIT_OK;
}

int32_t infc_logits_rows(const infc_session *s, const infc_args *a) {
    // A chunk the user chose is kept whatever it costs: -ub is how one shows that the chunk does not change the logits.
    if (a->ubatch > 0) return s->ubatch;
    size_t rows = logits_max_bytes / ((size_t)s->info.vocab_size * sizeof(float));
    if (rows < 1) rows = 1;
    return rows < (size_t)s->ubatch ? (int32_t)rows : s->ubatch;
}

static uint64_t cost_named(const infc_session *s, const char *key) {
    size_t size = 0;
    const char *meta = infc_meta(s->model, &size);
    int64_t value = meta != NULL ? infc_json_find_int(meta, size, key) : -1;
    return value > 0 ? (uint64_t)value : 0;
}

infc_costs infc_costs_of(const infc_session *s) {
    infc_costs c = {cost_named(s, "stream_bytes"), cost_named(s, "head_bytes"), cost_named(s, "int_macs"), cost_named(s, "f32_macs"),
                    cost_named(s, "head_int_macs"), cost_named(s, "head_f32_macs"), cost_named(s, "kv_int16_macs"),
                    cost_named(s, "kv_f32_macs"), cost_named(s, "kv_window"), cost_named(s, "kv_windowed_layers"),
                    cost_named(s, "kv_last_window")};
    // An embedding table that is only indexed is part of the weights, but a step does not read it.
    if (c.stream_bytes == 0 || c.stream_bytes > s->info.weights_bytes) c.stream_bytes = s->info.weights_bytes;
    if (c.head_bytes > c.stream_bytes) c.head_bytes = c.stream_bytes;
    return c;
}

uint64_t infc_stream_bytes(const infc_session *s) { return infc_costs_of(s).stream_bytes; }

infc_sampling infc_sampling_of(const infc_args *a, const infc_info *info) {
    uint64_t seed = (uint64_t)a->seed;
    if (a->seed < 0) {
        if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = (uint64_t)(infc_now() * 1e9);
        seed &= 0xffffffff;  // short enough to be typed again
    }
    return (infc_sampling){.size = sizeof(infc_sampling), .temperature = a->temperature, .top_k = a->top_k, .top_p = a->top_p,
                           .min_p = a->min_p, .repeat_penalty = a->repeat_penalty,
                           .repeat_last_n = a->repeat_last_n < 0 ? info->n_ctx : a->repeat_last_n, .seed = seed};
}

int infc_stop_code(void) { return infc_stop_signal != 0 ? 128 + (int)infc_stop_signal : INFC_EXIT_OK; }
