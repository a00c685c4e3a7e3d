// infc_kv.h: the paged KV cache: a pool of pages, reference counts, a page table per sequence. Bookkeeping only: what a page holds
// is the backend's business. Nothing here locks; the model's mutex does.
//
// A page may belong to several sequences (fork). Rows are only ever appended, so a shared page is written only by an append that
// falls inside it; that append copies the page first (copy on write).
#ifndef INFC_KV_H
#define INFC_KV_H
#include <stdint.h>

#include "infc_memory.h"
#include "infc_program.h"

typedef struct infc_kv {
    int32_t page_size, n_pages, n_ctx, max_seqs;
    int32_t table_len;      // pages a full sequence has
    uint64_t page_bytes;
    infc_region pool;       // page p at pool.data + p * page_bytes
    uint64_t huge_bytes;    // of the pool, from its start: backed by huge pages as far as the kernel grants them
    int32_t *block;         // the one allocation behind the arrays below
    int32_t *free_page;     // (n_pages) stack: the page freed last is used first, so few pages are ever touched, in ascending order
    int32_t n_free;
    int32_t *refs;          // (n_pages) sequences that hold the page; 0: free
    int32_t *table;         // (max_seqs, table_len) page ids; -1 past the last
    int32_t *length;        // (max_seqs) positions; -1: closed
    // The append in progress: rows are counted first, then pages are assigned all or none.
    int32_t *pending;       // (max_seqs) rows to append
    int32_t *touched;       // (max_seqs) sequences with pending rows
    int32_t *replaced;      // (max_seqs) page that copy on write took out of the sequence; -1: none
    int32_t n_touched;
} infc_kv;

// Reserves everything: 0 or INFC_ENOMEM. The pool's memory is committed as pages are first used.
int infc_kv_open(infc_kv *kv, const infc_program *p);
void infc_kv_close(infc_kv *kv);

int infc_kv_seq_open(infc_kv *kv);                                  // id, or INFC_ELIMIT
int infc_kv_seq_close(infc_kv *kv, int32_t seq);
int infc_kv_length(const infc_kv *kv, int32_t seq);                 // >= 0, or INFC_EINPUT
int infc_kv_truncate(infc_kv *kv, int32_t seq, int32_t length);
int infc_kv_fork(infc_kv *kv, int32_t seq, int32_t length);         // id; takes no page

// One row at the end of seq, counting the rows added before it. On failure call infc_kv_cancel.
int infc_kv_add_row(infc_kv *kv, int32_t seq, int32_t pos);
// Assigns pages to all rows added: 0, or INFC_ELIMIT with everything as before (then call infc_kv_cancel).
int infc_kv_assign(infc_kv *kv);
void infc_kv_commit(infc_kv *kv);  // the rows were computed: lengths grow
void infc_kv_cancel(infc_kv *kv);  // forgets rows that have no pages yet

static inline const int32_t *infc_kv_table(const infc_kv *kv, int32_t seq) { return kv->table + (int64_t)seq * kv->table_len; }

#endif
