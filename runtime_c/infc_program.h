// infc_program.h: what the emitted program.c hands to the runtime. Everything here is decided at compile time.
#ifndef INFC_PROGRAM_H
#define INFC_PROGRAM_H
#include <stddef.h>
#include <stdint.h>

struct infc_team;

// AVX2+FMA+F16C with OS support; AVX-512 F/BW/VL/DQ+VNNI with OS support; AMX-TILE+INT8 with OS support and the kernel's permission
enum { INFC_CPU_AVX2 = 1, INFC_CPU_AVX512 = 2, INFC_CPU_AMX = 4 };

// One chunk of rows, ready to run: at most max_rows rows, pages already assigned.
typedef struct infc_batch {
    int32_t n_rows;
    const int32_t *token;       // (n_rows)
    const int32_t *pos;         // (n_rows)
    const int32_t *const *pages;  // (n_rows) page table of the row's sequence: page id of positions i*page_size..
    int32_t n_out;              // rows wanted by the head, ascending
    const int32_t *out_row;     // (n_out) indices into the rows
    float *const *logits;       // (n_out) destination of vocab_size floats, or NULL
    float *const *hidden;       // (n_out) destination of dim floats, or NULL
    const uint8_t *weights;     // section WEIGHTS
    uint8_t *kv;                // pool: page p at p * kv_page_bytes
    uint8_t *arena;             // arena_bytes, 64-byte aligned, shared by the threads
    uint8_t *const *scratch;    // (n_threads) thread_bytes each, 64-byte aligned
} infc_batch;

typedef struct infc_backend {
    const char *isa;            // "scalar", "avx2", "avx512", "amx"
    uint32_t requires_cpu;      // INFC_CPU_* bits
    uint64_t arena_bytes;       // shared arena for max_rows rows
    uint64_t thread_bytes;      // scratch per thread
    // Called by every thread of the team with the same batch; returns when the whole chunk is done on this thread.
    void (*forward)(const infc_batch *b, struct infc_team *team, int thread, int n_threads);
} infc_backend;

typedef struct infc_program {
    const char *infc_version;
    int32_t dim, n_layers, n_heads, n_kv_heads, head_dim, hidden_dim, vocab_size;
    int32_t n_ctx, page_size, n_pages, max_seqs, max_rows;
    uint64_t kv_page_bytes;     // one page: all layers
    uint64_t weights_bytes;     // size of section WEIGHTS
    int32_t n_backends;         // best last
    const infc_backend *backends;
} infc_program;
extern const infc_program infc_the_program;

#endif
