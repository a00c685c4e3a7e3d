// infc_kv.c: page pool, page tables, reference counts.
#include "infc_kv.h"

#include <stdlib.h>
#include <string.h>

#include "infc.h"
#include "infc_error.h"

#if defined(__SANITIZE_ADDRESS__)
#define INFC_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define INFC_ASAN 1
#endif
#endif
#ifdef INFC_ASAN
#include <sanitizer/asan_interface.h>
#else  // a free page is unreadable under AddressSanitizer only
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

static uint8_t *page_data(const infc_kv *kv, int32_t page) { return kv->pool.data + (uint64_t)page * kv->page_bytes; }
static int32_t *table_of(infc_kv *kv, int32_t seq) { return kv->table + (int64_t)seq * kv->table_len; }
static int32_t pages_for(const infc_kv *kv, int32_t length) { return (int32_t)(((int64_t)length + kv->page_size - 1) / kv->page_size); }

static int32_t take_page(infc_kv *kv) {
    const int32_t page = kv->free_page[--kv->n_free];
    kv->refs[page] = 1;
    // Attention jumps from page to page, and with small pages half of its time goes to finding where they are.
    infc_region_make_huge(&kv->pool, ((uint64_t)page + 1) * kv->page_bytes, &kv->huge_bytes);
    ASAN_UNPOISON_MEMORY_REGION(page_data(kv, page), kv->page_bytes);
#ifdef INFC_POISON_PAGES  // test builds: positions nobody wrote are NaN in f32, f16 and bf16, so reading one shows
    memset(page_data(kv, page), 0xff, kv->page_bytes);
#endif
    return page;
}

static void drop_page(infc_kv *kv, int32_t page) {
    if (--kv->refs[page]) return;
    kv->free_page[kv->n_free++] = page;
    ASAN_POISON_MEMORY_REGION(page_data(kv, page), kv->page_bytes);
}

int infc_kv_open(infc_kv *kv, const infc_program *p) {
    *kv = (infc_kv){.page_size = p->page_size, .n_pages = p->n_pages, .n_ctx = p->n_ctx, .max_seqs = p->max_seqs, .page_bytes = p->kv_page_bytes};
    kv->table_len = pages_for(kv, p->n_ctx);
    const uint64_t n_seq = (uint64_t)kv->max_seqs, n_page = (uint64_t)kv->n_pages, n_table = n_seq * (uint64_t)kv->table_len;
    kv->block = calloc((size_t)(2 * n_page + n_table + 4 * n_seq), sizeof(int32_t));
    if (!kv->block) return infc_fail(INFC_ENOMEM, "no memory for the page tables");
    if (n_page && kv->page_bytes > UINT64_MAX / n_page) {
        infc_kv_close(kv);
        return infc_fail(INFC_ENOMEM, "the KV cache does not fit the address space");
    }
    const int rc = infc_region_open(&kv->pool, n_page * kv->page_bytes, INFC_REGION_NORESERVE, "the KV cache");
    if (rc) {
        infc_kv_close(kv);
        return rc;
    }
    int32_t **const array[] = {&kv->free_page, &kv->refs, &kv->table, &kv->length, &kv->pending, &kv->touched, &kv->replaced};
    const uint64_t count[] = {n_page, n_page, n_table, n_seq, n_seq, n_seq, n_seq};
    int32_t *next = kv->block;
    for (int i = 0; i < 7; i++) {
        *array[i] = next;
        next += count[i];
    }
    for (int32_t i = 0; i < kv->n_pages; i++) kv->free_page[i] = kv->n_pages - 1 - i;
    kv->n_free = kv->n_pages;
    for (uint64_t i = 0; i < n_table; i++) kv->table[i] = -1;
    for (int32_t s = 0; s < kv->max_seqs; s++) kv->length[s] = kv->replaced[s] = -1;
    ASAN_POISON_MEMORY_REGION(kv->pool.data, n_page * kv->page_bytes);
    return INFC_OK;
}

void infc_kv_close(infc_kv *kv) {
    if (kv->pool.map) ASAN_UNPOISON_MEMORY_REGION(kv->pool.data, (uint64_t)kv->n_pages * kv->page_bytes);
    infc_region_close(&kv->pool);
    free(kv->block);
    *kv = (infc_kv){0};
}

// ---- sequences -------------------------------------------------------------------------------------------------------------

static int check_seq(const infc_kv *kv, int32_t seq) {
    if (seq < 0 || seq >= kv->max_seqs || kv->length[seq] < 0) return infc_fail(INFC_EINPUT, "sequence %d is not open", seq);
    return INFC_OK;
}

static int check_length(const infc_kv *kv, int32_t seq, int32_t length) {
    const int rc = check_seq(kv, seq);
    if (rc) return rc;
    if (length < 0 || length > kv->length[seq])
        return infc_fail(INFC_EINPUT, "sequence %d holds %d positions, not %d", seq, kv->length[seq], length);
    return INFC_OK;
}

int infc_kv_seq_open(infc_kv *kv) {
    for (int32_t seq = 0; seq < kv->max_seqs; seq++) {
        if (kv->length[seq] >= 0) continue;
        kv->length[seq] = 0;
        return seq;
    }
    return infc_fail(INFC_ELIMIT, "all %d sequences are open; close one", kv->max_seqs);
}

int infc_kv_length(const infc_kv *kv, int32_t seq) {
    const int rc = check_seq(kv, seq);
    return rc ? rc : kv->length[seq];
}

static void drop_from(infc_kv *kv, int32_t seq, int32_t first_page) {
    int32_t *table = table_of(kv, seq);
    for (int32_t i = first_page; i < kv->table_len && table[i] >= 0; i++) {
        drop_page(kv, table[i]);
        table[i] = -1;
    }
}

int infc_kv_truncate(infc_kv *kv, int32_t seq, int32_t length) {
    const int rc = check_length(kv, seq, length);
    if (rc) return rc;
    drop_from(kv, seq, pages_for(kv, length));
    kv->length[seq] = length;
    return INFC_OK;
}

int infc_kv_seq_close(infc_kv *kv, int32_t seq) {
    const int rc = check_seq(kv, seq);
    if (rc) return rc;
    drop_from(kv, seq, 0);
    kv->length[seq] = -1;
    return INFC_OK;
}

int infc_kv_fork(infc_kv *kv, int32_t seq, int32_t length) {
    const int rc = check_length(kv, seq, length);
    if (rc) return rc;
    const int32_t fork = infc_kv_seq_open(kv);
    if (fork < 0) return fork;
    const int32_t *from = table_of(kv, seq);
    int32_t *to = table_of(kv, fork);
    for (int32_t i = 0; i < pages_for(kv, length); i++) {
        to[i] = from[i];
        kv->refs[to[i]]++;
    }
    kv->length[fork] = length;
    return fork;
}

// ---- appending -------------------------------------------------------------------------------------------------------------

int infc_kv_add_row(infc_kv *kv, int32_t seq, int32_t pos) {
    const int rc = check_seq(kv, seq);
    if (rc) return rc;
    const int32_t next = kv->length[seq] + kv->pending[seq];
    if (pos != next) return infc_fail(INFC_EINPUT, "position %d of sequence %d is not its next, which is %d", pos, seq, next);
    if (pos >= kv->n_ctx) return infc_fail(INFC_ELIMIT, "sequence %d is full: the program was compiled for %d positions; compile with a larger --ctx", seq, kv->n_ctx);
    if (kv->pending[seq]++ == 0) kv->touched[kv->n_touched++] = seq;
    return INFC_OK;
}

// Pages of one sequence up to its new length; 0, or -1 with some assigned.
static int assign_seq(infc_kv *kv, int32_t seq) {
    int32_t *table = table_of(kv, seq);
    const int32_t length = kv->length[seq], last = length / kv->page_size;
    if (length % kv->page_size && kv->refs[table[last]] > 1) {
        if (!kv->n_free) return -1;
        const int32_t copy = take_page(kv);
        memcpy(page_data(kv, copy), page_data(kv, table[last]), kv->page_bytes);
        kv->replaced[seq] = table[last];
        drop_page(kv, table[last]);  // the page's last other holder may now write it in place
        table[last] = copy;
    }
    for (int32_t i = pages_for(kv, length); i < pages_for(kv, length + kv->pending[seq]); i++) {
        if (!kv->n_free) return -1;
        table[i] = take_page(kv);
    }
    return 0;
}

static void unassign_seq(infc_kv *kv, int32_t seq) {
    drop_from(kv, seq, pages_for(kv, kv->length[seq]));
    if (kv->replaced[seq] < 0) return;
    int32_t *page = &table_of(kv, seq)[kv->length[seq] / kv->page_size];
    drop_page(kv, *page);
    *page = kv->replaced[seq];
    kv->refs[*page]++;  // never 0: whoever shared it still does
    kv->replaced[seq] = -1;
}

int infc_kv_assign(infc_kv *kv) {
    for (int32_t i = 0; i < kv->n_touched; i++) {
        if (assign_seq(kv, kv->touched[i]) == 0) continue;
        for (; i >= 0; i--) unassign_seq(kv, kv->touched[i]);
        return infc_fail(INFC_ELIMIT, "the KV cache is full: its %d pages of %d positions are in use; close or truncate a sequence", kv->n_pages, kv->page_size);
    }
    return INFC_OK;
}

void infc_kv_commit(infc_kv *kv) {
    for (int32_t i = 0; i < kv->n_touched; i++) {
        const int32_t seq = kv->touched[i];
        kv->length[seq] += kv->pending[seq];
        kv->replaced[seq] = -1;
    }
    infc_kv_cancel(kv);
}

void infc_kv_cancel(infc_kv *kv) {
    for (int32_t i = 0; i < kv->n_touched; i++) kv->pending[kv->touched[i]] = 0;
    kv->n_touched = 0;
}
