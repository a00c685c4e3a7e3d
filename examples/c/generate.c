// generate.c: continues a text with a compiled model, through the library's C interface.
//
//   make ARTIFACT=../../build/SmolLM2-135M-Instruct-avx2 && ./generate "Once upon a time"
//
// The model is in the library: no file is named here. NAME.h documents every function; this program is the usual order of calls.
#include MODEL_HEADER  // "NAME.h" of the artifact, set by the Makefile

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NEW_TOKENS = 48, PIECE_BYTES = 65536 + 8 };

// Every function that fails returns a negative number and leaves a sentence behind.
static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, infc_last_error());
    return 1;
}

// Prints the continuation of ids[0..n), greedy. logits: (vocab_size). Returns 0, or 1 after a message.
static int generate(infc_model *model, const infc_info *info, infc_sampler *sampler, const int32_t *ids, int32_t n, float *logits) {
    static char piece[PIECE_BYTES];
    infc_decoder decoder = {0};
    int seq = infc_seq_open(model);
    if (seq < 0) return failed("sequence");

    // The prompt is one call: a row a token, and logits for the last row only.
    infc_row *rows = malloc((size_t)n * sizeof *rows);
    if (rows == NULL) return 1;
    for (int32_t i = 0; i < n; i++) rows[i] = (infc_row){.seq = seq, .pos = i, .token = ids[i], .flags = i == n - 1 ? INFC_ROW_LOGITS : 0};
    int rc = infc_step(model, rows, n, logits, NULL);
    free(rows);
    if (rc < 0) return failed("prompt");

    for (int32_t pos = n, made = 0; made < MAX_NEW_TOKENS && pos < info->n_ctx; made++, pos++) {
        infc_choice choice;
        if (infc_sample(sampler, logits, &choice) < 0) return failed("sample");
        if (infc_is_eog(model, choice.id) == 1) break;
        int size = infc_decode(model, &decoder, choice.id, 0, piece, sizeof piece);  // complete characters only
        if (size < 0) return failed("decode");
        fwrite(piece, 1, (size_t)size, stdout);
        fflush(stdout);
        infc_row row = {.seq = seq, .pos = pos, .token = choice.id, .flags = INFC_ROW_LOGITS};
        if (infc_step(model, &row, 1, logits, NULL) < 0) return failed("step");
    }
    int size = infc_decode(model, &decoder, -1, 0, piece, sizeof piece);  // what is left of a character
    if (size > 0) fwrite(piece, 1, (size_t)size, stdout);
    putchar('\n');
    return infc_seq_close(model, seq) < 0 ? failed("close") : 0;
}

int main(int argc, char **argv) {
    const char *text = argc > 1 ? argv[1] : "Once upon a time";
    infc_model *model = NULL;
    infc_sampler *sampler = NULL;
    infc_info info;
    if (infc_abi_version() != INFC_ABI_VERSION) {
        fprintf(stderr, "the header and the library are of different versions\n");
        return 1;
    }
    infc_options options = {.size = sizeof options, .threads = 1};
    if (infc_open(&options, &model) < 0) return failed("open");
    if (infc_get_info(model, &info) < 0) return failed("info");

    infc_sampling greedy = {.size = sizeof greedy, .temperature = 0, .top_p = 1, .repeat_penalty = 1};
    if (infc_sampler_open(model, &greedy, &sampler) < 0) return failed("sampler");

    int32_t *ids = malloc((size_t)info.n_ctx * sizeof *ids);
    float *logits = malloc((size_t)info.vocab_size * sizeof *logits);
    if (ids == NULL || logits == NULL) return 1;
    int n = infc_tokenize(model, text, strlen(text), INFC_TOKENIZE_BOS, ids, (size_t)info.n_ctx);
    int code = 1;
    if (n < 0) failed("tokenize");
    else if (n == 0 || n > info.n_ctx) fprintf(stderr, "the prompt has %d tokens: 1 to %d are possible\n", n, info.n_ctx);
    else code = generate(model, &info, sampler, ids, n, logits);

    free(ids);
    free(logits);
    infc_sampler_close(sampler);
    infc_close(model);
    return code;
}
