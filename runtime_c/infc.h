// infc.h: the C interface of a compiled model. The same for every model; version INFC_ABI_VERSION.
//
// Every function that can fail returns 0 (or a count, or an id) on success and a negative INFC_E* on failure; infc_last_error()
// then says, for this thread, what went wrong in one sentence. No function exits, aborts or asserts on its input.
// Functions on one infc_model may be called from many threads; steps are serialised inside. A sampler belongs to one thread at a time.
// Threads do not survive fork(): a child opens its own model (infc_step says so).
#ifndef INFC_H
#define INFC_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define INFC_ABI_VERSION 1
#if defined(__GNUC__) && !defined(INFC_NO_EXPORT)
#define INFC_API __attribute__((visibility("default")))
#else
#define INFC_API
#endif

enum {
    INFC_OK = 0,
    INFC_EINPUT = -1,    // bad argument, token, text or sequence
    INFC_ELIMIT = -2,    // context, pages, sequences or a caller's buffer are too small
    INFC_EHOST = -3,     // this CPU or this system lacks something the program needs
    INFC_ENOMEM = -4,    // the system gave no memory
    INFC_EFILE = -5,     // the weights are missing, truncated or changed
    INFC_EINTERNAL = -6  // a bug in infc
};

typedef struct infc_model infc_model;
typedef struct infc_sampler infc_sampler;

typedef struct infc_options {
    uint32_t size;             // sizeof(infc_options), for ABI growth
    int32_t threads;           // 0: min(affinity, cgroup quota, physical cores)
    int32_t ubatch;            // rows per forward chunk, 1..max_rows; 0: max_rows
    const char *weights_path;  // NULL: the file this code was loaded from
    const char *isa;           // NULL: the best the host offers; else "scalar", "avx2", "avx512" as compiled in
    uint32_t flags;            // INFC_OPEN_*
} infc_options;
enum { INFC_OPEN_PIN = 1, INFC_OPEN_NO_POPULATE = 2 };

typedef struct infc_info {
    int32_t dim, n_layers, n_heads, n_kv_heads, head_dim, hidden_dim, vocab_size;
    int32_t n_ctx;        // positions a sequence may have
    int32_t page_size;    // positions a KV page holds
    int32_t n_pages;      // KV pages in the pool
    int32_t max_seqs;     // sequences that may be open at once
    int32_t max_rows;     // rows one forward chunk takes
    int32_t threads;      // threads in use
    int32_t bos_id, eos_id;  // -1: none
    int32_t has_chat;     // 1: infc_chat_tokenize works
    uint64_t weights_bytes, kv_bytes, arena_bytes;
    const char *isa;      // chosen instruction set
} infc_info;

// Version of this interface that the library was built with.
INFC_API int infc_abi_version(void);
// The last failure on this thread, one sentence; "" if none. Valid until the thread's next failing call.
INFC_API const char *infc_last_error(void);
// Checks the CPU, maps the weights, reserves all memory, starts the threads. *out is NULL on failure.
INFC_API int infc_open(const infc_options *options, infc_model **out);
INFC_API void infc_close(infc_model *m);
INFC_API int infc_get_info(const infc_model *m, infc_info *out);
// Description of the model as JSON (UTF-8, not NUL-terminated); *size in bytes.
INFC_API const char *infc_meta(const infc_model *m, size_t *size);
// Reads all weights and compares them with the checksum written at compile time.
INFC_API int infc_verify(const infc_model *m);

// ---- sequences -------------------------------------------------------------------------------------------------------------
// A sequence is a KV cache: positions 0..length-1. Returns an id >= 0.
INFC_API int infc_seq_open(infc_model *m);
INFC_API int infc_seq_close(infc_model *m, int32_t seq);
// Positions held, >= 0.
INFC_API int infc_seq_length(const infc_model *m, int32_t seq);
// Forgets positions >= length.
INFC_API int infc_seq_truncate(infc_model *m, int32_t seq, int32_t length);
// A new sequence that shares the first `length` positions of `seq`. Returns an id. Pages are shared by reference; a page in which one of
// its holders goes on writing is copied then, by the step.
INFC_API int infc_seq_fork(infc_model *m, int32_t seq, int32_t length);

// ---- the forward pass ------------------------------------------------------------------------------------------------------
typedef struct infc_row {
    int32_t seq, pos, token;  // pos must be the sequence's length, counting earlier rows of the same call
    uint32_t flags;           // INFC_ROW_*
} infc_row;
enum { INFC_ROW_LOGITS = 1, INFC_ROW_HIDDEN = 2 };
// Runs n_rows >= 1 rows (any number: larger batches are cut into chunks). For each row with INFC_ROW_LOGITS, in order, one row of
// vocab_size floats is written to logits; for each with INFC_ROW_HIDDEN one row of dim floats (after the final norm) to hidden.
// Either pointer may be NULL if no row asks. On failure no sequence changes length.
INFC_API int infc_step(infc_model *m, const infc_row *rows, int32_t n_rows, float *logits, float *hidden);

// ---- text ------------------------------------------------------------------------------------------------------------------
// Recognise special tokens in text; add BOS where the model wants it; add the token that ends a text (BERT's [SEP]) where it wants that.
enum { INFC_TOKENIZE_SPECIAL = 1, INFC_TOKENIZE_BOS = 2, INFC_TOKENIZE_END = 4 };
// Writes up to cap ids; returns the number of tokens, which may exceed cap (nothing past cap is written), or a negative error.
INFC_API int infc_tokenize(const infc_model *m, const char *text, size_t size, uint32_t flags, int32_t *ids, size_t cap);
// Bytes of the tokens; returns the number of bytes, which may exceed cap. special != 0 also writes special tokens' text.
INFC_API int infc_detokenize(const infc_model *m, const int32_t *ids, size_t n, int special, char *out, size_t cap);
// Streaming: holds back the bytes of an incomplete UTF-8 character. Zero it to start; it is plain data.
typedef struct infc_decoder { uint32_t n; unsigned char pending[4]; } infc_decoder;
// Appends token id (id < 0: flush what is pending), writes complete characters to out; returns bytes written (cap >= token + 4).
INFC_API int infc_decode(const infc_model *m, infc_decoder *d, int32_t id, int special, char *out, size_t cap);
// 1 if id ends a generation (EOS, end of turn), 0 if not, negative if id is no token.
INFC_API int infc_is_eog(const infc_model *m, int32_t id);

typedef struct infc_message { const char *role; const char *content; size_t size; } infc_message;  // role: "system", "user", "assistant"
// Token ids of a conversation in the model's own template. Content is never read as special tokens. Returns a count like infc_tokenize.
INFC_API int infc_chat_tokenize(const infc_model *m, const infc_message *messages, int32_t n, int add_generation_prompt, int32_t *ids, size_t cap);
// The date that chat templates write, "YYYY-MM-DD"; NULL, and at first: that of the day. Not while another thread tokenizes a conversation.
INFC_API int infc_chat_date(infc_model *m, const char *date);

// ---- sampling --------------------------------------------------------------------------------------------------------------
typedef struct infc_sampling {
    uint32_t size;           // sizeof(infc_sampling)
    float temperature;       // 0: greedy
    int32_t top_k;           // 0: all
    float top_p, min_p;      // 1, 0: off
    float repeat_penalty;    // 1: off
    int32_t repeat_last_n;   // tokens looked back; -1: n_ctx
    uint64_t seed;           // same seed, same text, on every CPU
} infc_sampling;
typedef struct infc_choice { int32_t id; float logprob; } infc_choice;  // logprob: natural log of softmax(logits)[id] before any filter
INFC_API int infc_sampler_open(const infc_model *m, const infc_sampling *s, infc_sampler **out);
INFC_API void infc_sampler_close(infc_sampler *s);
// Tells the sampler about tokens it did not choose (the prompt), for the repeat penalty.
INFC_API int infc_sampler_accept(infc_sampler *s, const int32_t *ids, size_t n);
// Chooses from vocab_size logits (unchanged), accepts the choice.
INFC_API int infc_sample(infc_sampler *s, const float *logits, infc_choice *out);

#ifdef __cplusplus
}
#endif
#endif
