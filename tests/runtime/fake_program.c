// fake_program.c: a model for tests of the runtime alone. Each position writes one hash of (token, position, weights) into its page; the
// logits of a row hash everything its sequence's pages hold up to the row. So a wrong page, a wrong order, a missed barrier or a
// stale length changes the logits, and python computes the same in a few lines (tests/runtime/harness.py).
#include <stdatomic.h>
#include <stddef.h>

#include "infc_model.h"

enum { VOCAB = 101, DIM = 4, N_CTX = 40, PAGE = 4, N_PAGES = 24, MAX_SEQS = 6, MAX_ROWS = 8, WEIGHTS = 4096 + 12, ENTRY = 16 };

static uint32_t mix(uint32_t h, uint32_t x) {
    h = (h ^ x) * 0x9E3779B1u;
    return h ^ h >> 15;
}

static volatile uint32_t *entry(const infc_batch *b, int32_t row, int32_t pos) {
    return (volatile uint32_t *)(b->kv + (uint64_t)b->pages[row][pos / PAGE] * PAGE * ENTRY + (uint64_t)(pos % PAGE) * ENTRY);
}

static void forward(const infc_batch *b, struct infc_team *team, int thread, int n_threads) {
    uint32_t *shared = (uint32_t *)(void *)b->arena;                    // (MAX_ROWS)
    uint32_t *own = (uint32_t *)(void *)b->scratch[thread];             // (16): the scratch's last bytes are used
    const uint32_t *weights = (const uint32_t *)(const void *)b->weights;
    for (int32_t i = thread; i < b->n_rows; i += n_threads) {
        own[15] = mix((uint32_t)b->token[i], weights[b->token[i]]);
        shared[i] = own[15];
    }
    infc_barrier(team, thread);
    // Another thread than the one that wrote shared[i] copies it into the cache: a barrier that leaks shows.
    for (int32_t i = (thread + 1) % n_threads; i < b->n_rows; i += n_threads) *entry(b, i, b->pos[i]) = mix(shared[i], (uint32_t)b->pos[i]);
    infc_barrier(team, thread);
    for (int32_t o = thread; o < b->n_out; o += n_threads) {
        const int32_t row = b->out_row[o];
        uint32_t h = 0;
        for (int32_t p = 0; p <= b->pos[row]; p++) h = mix(h, *entry(b, row, p));
        for (int32_t v = 0; v < VOCAB && b->logits[o]; v++) b->logits[o][v] = (float)(mix(h, (uint32_t)v) >> 16) / 4096.0f;
        for (int32_t d = 0; d < DIM && b->hidden[o]; d++) b->hidden[o][d] = (float)(mix(~h, (uint32_t)d) >> 16) / 4096.0f;
    }
}

static const infc_backend backends[] = {
    {"scalar", 0, MAX_ROWS * 4, 64, forward},
    {"wide", 0, MAX_ROWS * 4, 64, forward},
    {"future", 1u << 30, MAX_ROWS * 4, 64, forward},  // no CPU has it
};
const infc_program infc_the_program = {
    .infc_version = "test", .dim = DIM, .n_layers = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = DIM, .hidden_dim = 8, .vocab_size = VOCAB,
    .n_ctx = N_CTX, .page_size = PAGE, .n_pages = N_PAGES, .max_seqs = MAX_SEQS, .max_rows = MAX_ROWS, .kv_page_bytes = PAGE * ENTRY,
    .weights_bytes = WEIGHTS,
#ifdef FAKE_ONLY_FUTURE
    .n_backends = 1, .backends = backends + 2,
#else
    .n_backends = 3, .backends = backends,
#endif
};

// 0 if every page is either free once or held exactly `refs` times by open sequences, else the line that noticed.
int fake_check_pages(const infc_model *m);
int fake_check_pages(const infc_model *m) {
    const infc_kv *kv = &m->kv;
    int32_t held[N_PAGES] = {0}, is_free[N_PAGES] = {0};
    for (int32_t s = 0; s < MAX_SEQS; s++) {
        const int32_t *table = infc_kv_table(kv, s), used = kv->length[s] < 0 ? 0 : (kv->length[s] + PAGE - 1) / PAGE;
        for (int32_t i = 0; i < kv->table_len; i++) {
            if ((table[i] >= 0) != (i < used)) return __LINE__;
            if (i < used && table[i] >= N_PAGES) return __LINE__;
            if (i < used) held[table[i]]++;
        }
        if (kv->pending[s] || kv->replaced[s] != -1) return __LINE__;
    }
    for (int32_t i = 0; i < kv->n_free; i++)
        if (is_free[kv->free_page[i]]++) return __LINE__;
    for (int32_t p = 0; p < N_PAGES; p++) {
        if (held[p] != kv->refs[p]) return __LINE__;
        if ((held[p] == 0) != is_free[p]) return __LINE__;
    }
    return kv->n_touched ? __LINE__ : 0;
}

int fake_free_pages(const infc_model *m);
int fake_free_pages(const infc_model *m) { return m->kv.n_free; }
