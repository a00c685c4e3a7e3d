// infc_args.h: the command line. llama.cpp's spellings; anything unknown, missing or out of range is refused in one line.
#ifndef INFC_ARGS_H
#define INFC_ARGS_H
#include <stddef.h>
#include <stdint.h>

typedef enum infc_command {
    INFC_GENERATE, INFC_CHAT, INFC_BENCH, INFC_INFO, INFC_VERIFY, INFC_TOKENIZE, INFC_PERPLEXITY, INFC_N_COMMANDS
} infc_command;

typedef struct infc_ints {
    int32_t *data;
    size_t n;
} infc_ints;

typedef struct infc_args {
    infc_command command;
    int help, version;
    // the model
    int32_t threads;  // 0: as many as the system grants
    int32_t ubatch;   // 0: the program's max_rows
    const char *isa;  // NULL: the best
    int pin;
    // input
    const char *prompt, *file, *system, *date;
    infc_ints tokens;
    int no_bos, no_special;
    // generation
    int32_t n_predict;  // -1: until the end of the text or of the context
    int ignore_eos;
    float temperature, top_p, min_p, repeat_penalty;
    int32_t top_k, repeat_last_n;
    int64_t seed;  // -1: random
    // output
    int print_ids, logits_hash, json;
    const char *logits_out;
    // bench and perplexity
    infc_ints bench_prompts, bench_gens, bench_batches, bench_depths, bench_threads;
    int32_t reps, n_ctx;
    int no_process;
    const char *format;  // "md" or "json"
} infc_args;

// Fills *a with the defaults and what argv says. 0, or an exit code after one line on stderr. Lists are allocated and belong to *a.
int infc_args_parse(int argc, char **argv, infc_args *a);
void infc_args_free(infc_args *a);
// The help text of a command on stdout.
int infc_args_help(const infc_args *a);

#endif
