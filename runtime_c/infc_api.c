// infc_api.c: open, close, sequences and the step. All memory is reserved by infc_open; nothing is allocated afterwards.
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "infc_cpu.h"
#include "infc_error.h"
#include "infc_model.h"

int infc_abi_version(void) { return INFC_ABI_VERSION; }

// ---- open ------------------------------------------------------------------------------------------------------------------

// Options of an older, shorter or a newer, longer infc_options; what a newer caller asks for and we do not know must be zero.
static int read_options(const infc_options *given, infc_options *out) {
    *out = (infc_options){.size = sizeof *out};
    if (given) {
        if (given->size < offsetof(infc_options, weights_path)) return infc_fail(INFC_EINPUT, "options.size is %u; set it to sizeof(infc_options)", given->size);
        for (uint32_t i = sizeof *out; i < given->size; i++)
            if (((const char *)given)[i]) return infc_fail(INFC_EINPUT, "the options are newer than this program; it was built with ABI version %d", INFC_ABI_VERSION);
        memcpy(out, given, given->size < sizeof *out ? given->size : sizeof *out);
    }
    const int32_t max_rows = infc_the_program.max_rows;
    if (out->threads < 0 || out->threads > 4096) return infc_fail(INFC_EINPUT, "threads is %d; 0 (automatic) to 4096 are possible", out->threads);
    if (out->ubatch < 0 || out->ubatch > max_rows) return infc_fail(INFC_EINPUT, "ubatch is %d; this program takes 1 to %d rows a chunk", out->ubatch, max_rows);
    if (out->flags & ~(uint32_t)(INFC_OPEN_PIN | INFC_OPEN_NO_POPULATE)) return infc_fail(INFC_EINPUT, "options.flags has unknown bits: 0x%x", out->flags);
    return INFC_OK;
}

static void list_backends(char *out, size_t cap) {
    const infc_program *p = &infc_the_program;
    out[0] = 0;
    for (int32_t i = 0; i < p->n_backends; i++) {
        const size_t n = strlen(out);
        if (n + strlen(p->backends[i].isa) + 2 > cap) return;
        if (n) strcat(out, ",");
        strcat(out, p->backends[i].isa);
    }
}

static int refuse_host(const infc_cpu_regs *cpu, const infc_backend *b) {
    const char *target = infc_cpu_target(cpu);
    return infc_fail(INFC_EHOST, "this CPU lacks %s, which this program was compiled for (%s); compile with --target %s or a fat target such as %s",
                     infc_cpu_missing(cpu, b->requires_cpu), b->isa, target, strcmp(target, "scalar") ? "avx2,avx512" : "scalar,avx2,avx512");
}

static int choose_backend(const char *isa, const infc_backend **out, uint32_t *features) {
    const infc_program *p = &infc_the_program;
    infc_cpu_regs cpu = infc_cpu_read();
    *features = infc_cpu_features(&cpu);
    atomic_store_explicit(&infc_cpu_drops, infc_cpu_drops_prefetches(&cpu), memory_order_relaxed);
    if (p->n_backends < 1) return infc_fail(INFC_EINTERNAL, "this program has no backend");
    for (int32_t i = p->n_backends - 1; i >= 0; i--) {
        const infc_backend *b = &p->backends[i];
        if (isa && strcmp(isa, b->isa)) continue;
        if (b->requires_cpu & INFC_CPU_AMX) infc_cpu_request_tiles(&cpu);
        if (!infc_cpu_missing(&cpu, b->requires_cpu)) {
            *out = b;
            return INFC_OK;
        }
        if (isa) return refuse_host(&cpu, b);
    }
    if (!isa) return refuse_host(&cpu, &p->backends[0]);  // the least demanding one
    char list[128];
    list_backends(list, sizeof list);
    return infc_fail(INFC_EINPUT, "isa \"%s\" is not compiled into this program, which has %s", isa, list);
}

static int open_weights(infc_model *m, const infc_options *options) {
    char own[PATH_MAX];
    const char *path = options->weights_path;
    int rc = path ? INFC_OK : infc_blob_own_path(own, sizeof own);
    if (!rc) rc = infc_blob_open(&m->blob, path ? path : own);
    if (rc) return rc;
    const infc_section *weights = &m->blob.section[INFC_SECTION_WEIGHTS];
    if (!weights->data || weights->size != m->program->weights_bytes)
        return infc_fail(INFC_EFILE, "%s: it holds %llu bytes of weights and this program needs %llu; they belong to another compile", path ? path : own,
                         (unsigned long long)weights->size, (unsigned long long)m->program->weights_bytes);
    m->batch.weights = weights->data;
    return INFC_OK;
}

static int open_rows(infc_model *m) {
    const size_t n = (size_t)m->ubatch, n_threads = (size_t)m->n_threads;
    char *block = calloc(1, n * (3 * sizeof(void *) + 3 * sizeof(int32_t)) + n_threads * sizeof(uint8_t *));
    if (!block) return infc_fail(INFC_ENOMEM, "no memory for %zu rows", n);
    m->rows = block;
    m->pages = (const int32_t **)(void *)block;  // pointers first: they need the wider alignment
    m->logits = (float **)(void *)(m->pages + n);
    m->hidden = m->logits + n;
    m->scratch = (uint8_t **)(void *)(m->hidden + n);
    m->token = (int32_t *)(void *)(m->scratch + n_threads);
    m->pos = m->token + n;
    m->out_row = m->pos + n;
    return INFC_OK;
}

static int open_memory(infc_model *m) {
    const int n_threads = m->n_threads;
    int rc = infc_kv_open(&m->kv, m->program);
    if (!rc) rc = infc_region_open(&m->arena, m->backend->arena_bytes, INFC_REGION_FLUSH_END, "the arena");
    if (!rc) rc = open_rows(m);
    if (!rc && !(m->thread_region = calloc((size_t)n_threads, sizeof *m->thread_region))) rc = infc_fail(INFC_ENOMEM, "no memory for the threads");
    for (int i = 0; i < n_threads && !rc; i++) {
        rc = infc_region_open(&m->thread_region[i], m->backend->thread_bytes, INFC_REGION_FLUSH_END, "a thread's scratch memory");
        m->scratch[i] = m->thread_region[i].data;
    }
    if (!rc) rc = infc_region_open(&m->fork_mark, 1, 0, "the fork mark");
    if (rc) return rc;
    m->fork_mark.data[0] = 1;
#ifdef MADV_WIPEONFORK  // best effort: kernels before 4.14 do not know it
    madvise(m->fork_mark.map, m->fork_mark.map_bytes, MADV_WIPEONFORK);
#endif
    infc_batch *b = &m->batch;
    b->token = m->token;
    b->pos = m->pos;
    b->pages = m->pages;
    b->out_row = m->out_row;
    b->logits = m->logits;
    b->hidden = m->hidden;
    b->kv = m->kv.pool.data;
    b->arena = m->arena.data;
    b->scratch = m->scratch;
    return INFC_OK;
}

static void populate(void *arg, int thread, int n_threads) {
    const infc_model *m = arg;
    infc_blob_populate(&m->blob, thread, n_threads);
}

static int open_model(infc_model *m, const infc_options *options) {
    int rc = choose_backend(options->isa, &m->backend, &m->cpu_features);  // first of all: no wide instruction may run before it
    if (rc) return rc;
    m->n_threads = options->threads ? options->threads : infc_default_threads();
    m->ubatch = options->ubatch ? options->ubatch : m->program->max_rows;
    rc = open_weights(m, options);
    if (!rc) rc = infc_text_open(m);
    if (!rc) rc = open_memory(m);
    if (!rc) rc = infc_team_open(m->n_threads, (options->flags & INFC_OPEN_PIN) != 0, &m->team);
    if (rc || options->flags & INFC_OPEN_NO_POPULATE) return rc;
    infc_team_run(m->team, populate, m);
    infc_huge_open(&m->huge, &m->blob);
    return rc;
}

int infc_open(const infc_options *options, infc_model **out) {
    if (!out) return infc_fail(INFC_EINPUT, "out is NULL");
    *out = NULL;
    infc_options checked;
    int rc = read_options(options, &checked);
    if (rc) return rc;
    infc_model *m = calloc(1, sizeof *m);
    if (!m) return infc_fail(INFC_ENOMEM, "no memory for a model");
    m->program = &infc_the_program;
    m->blob.fd = -1;
    m->huge.pagemap = -1;
    pthread_mutex_init(&m->lock, NULL);
    rc = open_model(m, &checked);
    if (rc) infc_close(m);
    else *out = m;
    return rc;
}

void infc_close(infc_model *m) {
    if (!m) return;
    // After fork() the workers do not exist, and joining them would hang; the child's copy of the team is abandoned.
    if (m->team && (m->n_threads == 1 || m->fork_mark.data[0])) infc_team_close(m->team);
    for (int i = 0; m->thread_region && i < m->n_threads; i++) infc_region_close(&m->thread_region[i]);
    free(m->thread_region);
    infc_region_close(&m->fork_mark);
    infc_region_close(&m->arena);
    infc_kv_close(&m->kv);
    infc_huge_close(&m->huge);
    infc_blob_close(&m->blob);
    free(m->rows);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

// ---- what it is ------------------------------------------------------------------------------------------------------------

static int no_model(void) { return infc_fail(INFC_EINPUT, "the model is NULL"); }

int infc_get_info(const infc_model *m, infc_info *out) {
    if (!m) return no_model();
    if (!out) return infc_fail(INFC_EINPUT, "out is NULL");
    const infc_program *p = m->program;
    *out = (infc_info){
        .dim = p->dim, .n_layers = p->n_layers, .n_heads = p->n_heads, .n_kv_heads = p->n_kv_heads, .head_dim = p->head_dim,
        .hidden_dim = p->hidden_dim, .vocab_size = p->vocab_size, .n_ctx = p->n_ctx, .page_size = p->page_size, .n_pages = p->n_pages,
        .max_seqs = p->max_seqs, .max_rows = p->max_rows, .threads = m->n_threads, .weights_bytes = p->weights_bytes,
        .kv_bytes = (uint64_t)p->n_pages * p->kv_page_bytes,
        .arena_bytes = m->backend->arena_bytes + (uint64_t)m->n_threads * m->backend->thread_bytes, .isa = m->backend->isa};
    infc_text_info(m, out);
    return INFC_OK;
}

const char *infc_meta(const infc_model *m, size_t *size) {
    const infc_section meta = m ? m->blob.section[INFC_SECTION_META] : (infc_section){NULL, 0};
    if (size) *size = meta.data ? (size_t)meta.size : 0;
    return meta.data ? (const char *)meta.data : "";
}

int infc_verify(const infc_model *m) { return m ? infc_blob_verify(&m->blob) : no_model(); }

// ---- sequences -------------------------------------------------------------------------------------------------------------

// The lock is no part of a model's value.
static void lock(const infc_model *m) { pthread_mutex_lock((pthread_mutex_t *)(uintptr_t)&m->lock); }
static int unlock(const infc_model *m, int rc) {
    pthread_mutex_unlock((pthread_mutex_t *)(uintptr_t)&m->lock);
    return rc;
}

int infc_seq_open(infc_model *m) {
    if (!m) return no_model();
    lock(m);
    return unlock(m, infc_kv_seq_open(&m->kv));
}

int infc_seq_close(infc_model *m, int32_t seq) {
    if (!m) return no_model();
    lock(m);
    return unlock(m, infc_kv_seq_close(&m->kv, seq));
}

int infc_seq_length(const infc_model *m, int32_t seq) {
    if (!m) return no_model();
    lock(m);
    return unlock(m, infc_kv_length(&m->kv, seq));
}

int infc_seq_truncate(infc_model *m, int32_t seq, int32_t length) {
    if (!m) return no_model();
    lock(m);
    return unlock(m, infc_kv_truncate(&m->kv, seq, length));
}

int infc_seq_fork(infc_model *m, int32_t seq, int32_t length) {
    if (!m) return no_model();
    lock(m);
    return unlock(m, infc_kv_fork(&m->kv, seq, length));
}

// ---- the step --------------------------------------------------------------------------------------------------------------

static int check_rows(infc_model *m, const infc_row *rows, int32_t n_rows, const float *logits, const float *hidden) {
    for (int32_t i = 0; i < n_rows; i++) {
        const infc_row *r = &rows[i];
        if (r->token < 0 || r->token >= m->program->vocab_size)
            return infc_fail(INFC_EINPUT, "row %d: token %d is outside the vocabulary of %d", i, r->token, m->program->vocab_size);
        if (r->flags & ~(uint32_t)(INFC_ROW_LOGITS | INFC_ROW_HIDDEN)) return infc_fail(INFC_EINPUT, "row %d: unknown flags 0x%x", i, r->flags);
        if ((r->flags & INFC_ROW_LOGITS) && !logits) return infc_fail(INFC_EINPUT, "row %d asks for logits and the buffer is NULL", i);
        if ((r->flags & INFC_ROW_HIDDEN) && !hidden) return infc_fail(INFC_EINPUT, "row %d asks for the hidden state and the buffer is NULL", i);
        const int rc = infc_kv_add_row(&m->kv, r->seq, r->pos);
        if (rc) return rc;
    }
    return infc_kv_assign(&m->kv);
}

static void run_forward(void *arg, int thread, int n_threads) {
    infc_model *m = arg;
    m->backend->forward(&m->batch, m->team, thread, n_threads);
}

// n rows from `rows` on; advances the output pointers past what they produced.
static void run_chunk(infc_model *m, const infc_row *rows, int32_t n, float **logits, float **hidden) {
    int32_t n_out = 0;
    for (int32_t i = 0; i < n; i++) {
        m->token[i] = rows[i].token;
        m->pos[i] = rows[i].pos;
        m->pages[i] = infc_kv_table(&m->kv, rows[i].seq);
        if (!(rows[i].flags & (INFC_ROW_LOGITS | INFC_ROW_HIDDEN))) continue;
        const int wants_logits = (rows[i].flags & INFC_ROW_LOGITS) != 0, wants_hidden = (rows[i].flags & INFC_ROW_HIDDEN) != 0;
        m->out_row[n_out] = i;
        m->logits[n_out] = wants_logits ? *logits : NULL;
        m->hidden[n_out] = wants_hidden ? *hidden : NULL;
        if (wants_logits) *logits += m->program->vocab_size;
        if (wants_hidden) *hidden += m->program->dim;
        n_out++;
    }
    m->batch.n_rows = n;
    m->batch.n_out = n_out;
    infc_team_run(m->team, run_forward, m);
}

int infc_step(infc_model *m, const infc_row *rows, int32_t n_rows, float *logits, float *hidden) {
    if (!m) return no_model();
    if (!rows || n_rows < 1) return infc_fail(INFC_EINPUT, "a step needs at least one row");
    if (!m->fork_mark.data[0] && m->n_threads > 1)
        return infc_fail(INFC_EINPUT, "the model was opened before fork() and its threads stayed behind; open it in the child, or with threads = 1");
    lock(m);
    const int rc = check_rows(m, rows, n_rows, logits, hidden);
    if (rc) {
        infc_kv_cancel(&m->kv);
        return unlock(m, rc);
    }
    if (!m->fork_mark.data[0]) infc_huge_close(&m->huge);  // in a child of fork() it would ask about the parent's pages
    infc_huge_step_begin(&m->huge);
    for (int32_t left = n_rows; left > 0; left -= m->ubatch, rows += m->ubatch) run_chunk(m, rows, left < m->ubatch ? left : m->ubatch, &logits, &hidden);
    infc_huge_step_end(&m->huge);
    infc_kv_commit(&m->kv);
    return unlock(m, INFC_OK);
}
