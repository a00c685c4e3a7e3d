// infc_model.h: what infc_model holds. Private to the runtime.
#ifndef INFC_MODEL_H
#define INFC_MODEL_H
#include <pthread.h>
#include <stdint.h>

#include "infc.h"
#include "infc_blob.h"
#include "infc_chat.h"
#include "infc_huge.h"
#include "infc_kv.h"
#include "infc_memory.h"
#include "infc_program.h"
#include "infc_threads.h"
#include "infc_tokenizer.h"

struct infc_model {
    const infc_program *program;
    const infc_backend *backend;
    uint32_t cpu_features;        // INFC_CPU_* bits of this host, whatever the backend uses
    infc_blob blob;
    infc_huge huge;               // of the blob's weights
    infc_team *team;
    infc_kv kv;
    infc_region arena;
    int32_t n_threads;
    infc_region *thread_region;   // (n_threads)
    int32_t ubatch;               // rows per chunk
    pthread_mutex_t lock;         // one step, or one change of a sequence, at a time
    infc_region fork_mark;        // first byte is 1, and 0 in a child of fork()
    infc_batch batch;             // pointers that never change, and the row buffers below
    void *rows;                   // the one allocation behind the row buffers, (ubatch) each
    int32_t *token, *pos, *out_row;
    const int32_t **pages;
    float **logits, **hidden;
    uint8_t **scratch;            // (n_threads)
    int has_tokenizer;            // 0: none in the blob
    infc_tokenizer tokenizer;     // points into the blob
    int has_chat;
    infc_chat chat;               // points into the blob
    infc_date date;               // that chat templates write; year 0: today
};

// Reads sections TOKENIZER and CHAT. Returns 0, INFC_EFILE or INFC_ENOMEM.
int infc_text_open(infc_model *m);
// Fills bos_id, eos_id and has_chat.
void infc_text_info(const infc_model *m, infc_info *out);

#endif
