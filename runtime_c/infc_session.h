// infc_session.h: what the commands share: an open model, the reading of inputs, the feeding of tokens.
#ifndef INFC_SESSION_H
#define INFC_SESSION_H
#include "infc.h"
#include "infc_args.h"
#include "infc_output.h"

#include <signal.h>

// The signal that asked the program to end (SIGINT, SIGTERM), or 0.
extern volatile sig_atomic_t infc_stop_signal;
// CLOCK_MONOTONIC seconds at the start of main.
extern double infc_start_time;

typedef struct infc_session {
    infc_model *model;
    infc_info info;
    int32_t ubatch;   // rows of one forward chunk
    infc_row *rows;   // (ubatch) scratch
} infc_session;

// Functions that return `int` here return 0 or an exit code after one line on stderr, unless they say otherwise.

// Opens the model with the threads, ISA and chunk that the arguments ask for; flags are INFC_OPEN_*.
int infc_session_open(const infc_args *a, int32_t threads, uint32_t flags, infc_session *s);
void infc_session_close(infc_session *s);

// Opens a file for reading; "-" is stdin.
int infc_open_input(const char *path, int *fd);
// Reads to the end of fd, at most 256 MiB, and closes it. *text belongs to the caller.
int infc_read_input(int fd, const char *path, char **text, size_t *size);
// Tokenizes into a new array, which belongs to the caller.
int infc_tokenize_new(const infc_session *s, const char *text, size_t size, uint32_t flags, int32_t **ids, size_t *n);

// Receives the logits of n consecutive positions, (n, vocab_size). Returns 0 or an exit code.
typedef int (*infc_logits_fn)(void *arg, int32_t first_pos, int32_t n, const float *logits);
// Appends ids to a sequence that holds pos positions, ubatch rows at a time. last_logits: vocab_size floats for the last id, or NULL.
// Stops between chunks when infc_stop_signal is set: *fed says how many ids went in.
int infc_feed(infc_session *s, int32_t seq, int32_t pos, const int32_t *ids, int32_t n, float *last_logits, int32_t *fed);
// The same, asking for the logits of every position >= first_wanted; at most cap of them at a time are held in logits (cap, vocab_size).
int infc_feed_all(infc_session *s, int32_t seq, const int32_t *ids, int32_t n, int32_t first_wanted, float *logits, int32_t cap,
                  infc_logits_fn fn, void *arg);
// Rows of logits to hold at once: the chunk if the user chose one, else what fits 32 MiB.
int32_t infc_logits_rows(const infc_session *s, const infc_args *a);

// What a forward step costs, from the model's description; 0 where that does not say.
typedef struct infc_costs {
    uint64_t stream_bytes;  // of weights that one step reads; all weights if the description does not say
    uint64_t head_bytes;    // of these, by the head, to which the last layer from its attention on belongs: steps without logits do not read them
    uint64_t int_macs, f32_macs;            // of one row before the head, attention apart: quantized weights, and others
    uint64_t head_int_macs, head_f32_macs;  // of one row of logits in the head
    uint64_t kv_int16_macs, kv_f32_macs;    // of one row in one layer, for each position that it attends to
    uint64_t kv_window, kv_windowed_layers;  // so many layers attend to no more than that many positions
    uint64_t kv_last_window;                // the last layer's; 0: it attends to all
} infc_costs;
infc_costs infc_costs_of(const infc_session *s);
uint64_t infc_stream_bytes(const infc_session *s);  // the first of them
// Sampling parameters of the arguments; a random seed is drawn where none was given.
infc_sampling infc_sampling_of(const infc_args *a, const infc_info *info);
// 0, or 128 + the signal that asked to end.
int infc_stop_code(void);

// The commands. Each returns the process's exit code.
int infc_cmd_generate(const infc_args *a);
int infc_cmd_chat(const infc_args *a);
int infc_cmd_bench(const infc_args *a);
int infc_cmd_info(const infc_args *a);
int infc_cmd_verify(const infc_args *a);
int infc_cmd_tokenize(const infc_args *a);
int infc_cmd_perplexity(const infc_args *a);

#endif
