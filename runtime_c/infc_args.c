// infc_args.c: one table of options drives parsing and help.
#define _GNU_SOURCE
#include "infc_args.h"
#include "infc_output.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum kind { FLAG, INT, SEED, REAL, TEXT, INTS, FORMAT } kind;

// Which commands take an option.
enum {
    GEN = 1 << INFC_GENERATE, CHAT = 1 << INFC_CHAT, BENCH = 1 << INFC_BENCH, INFO = 1 << INFC_INFO, VERIFY = 1 << INFC_VERIFY,
    TOK = 1 << INFC_TOKENIZE, PPL = 1 << INFC_PERPLEXITY, ALL = (1 << INFC_N_COMMANDS) - 1
};

typedef struct option {
    const char *short_name, *long_name, *other_name;
    int commands;
    kind kind;
    size_t field;
    double min, max;
    const char *metavar, *help;
} option;

#define AT(field) offsetof(infc_args, field)
static const option options[] = {
    {"-p", "--prompt", NULL, GEN, TEXT, AT(prompt), 0, 0, "TEXT", "continue this text"},
    {"-f", "--file", NULL, GEN | TOK, TEXT, AT(file), 0, 0, "FILE", "read the text from FILE (- is stdin)"},
    {NULL, "--tokens", NULL, GEN, INTS, AT(tokens), 0, INT32_MAX, "1,2,3", "continue these token ids"},
    {"-sys", "--system-prompt", NULL, CHAT, TEXT, AT(system), 0, 0, "TEXT", "the system message"},
    {NULL, "--date", NULL, CHAT, TEXT, AT(date), 0, 0, "YYYY-MM-DD", "the date that the chat template writes, if it writes one (today's)"},
    {"-n", "--predict", "--n-predict", GEN | CHAT, INT, AT(n_predict), -1, INT32_MAX, "N",
     "tokens to generate; -1: until the text ends or the context is full; 0: only evaluate the prompt"},
    {"-p", "--n-prompt", NULL, BENCH, INTS, AT(bench_prompts), 0, INT32_MAX, "N,..", "prompt lengths to time (512); 0: none"},
    {"-n", "--n-gen", NULL, BENCH, INTS, AT(bench_gens), 0, INT32_MAX, "N,..", "tokens to decode (128); 0: none"},
    {"-b", "--batch", NULL, BENCH, INTS, AT(bench_batches), 0, 4096, "N,..", "sequences decoded together (1,2,4,8,16); 0: none"},
    {"-d", "--n-depth", NULL, BENCH, INTS, AT(bench_depths), 0, INT32_MAX, "N,..",
     "positions the context holds before a prompt or decode test starts (0)"},
    {"-t", "--threads", NULL, BENCH, INTS, AT(bench_threads), 1, 1024, "N,..", "thread counts (1)"},
    {"-r", "--repetitions", NULL, BENCH, INT, AT(reps), 1, 1000, "N", "runs of each test (5); the median is reported"},
    {NULL, "--no-process", NULL, BENCH, FLAG, AT(no_process), 0, 0, NULL, "leave start-up time and peak memory out"},
    {"-o", "--output", NULL, BENCH, FORMAT, AT(format), 0, 0, "md|json", "format of the table"},
    {"-c", "--ctx-size", NULL, PPL, INT, AT(n_ctx), 4, INT32_MAX, "N", "tokens a window has (512, or the context if that is less)"},
    {"-t", "--threads", NULL, GEN | CHAT | PPL, INT, AT(threads), 0, 1024, "N", "threads; 0: what affinity, quota and cores allow"},
    {"-ub", "--ubatch-size", NULL, GEN | CHAT | PPL | BENCH, INT, AT(ubatch), 0, 65536, "CHUNK", "rows a forward pass takes at once"},
    {NULL, "--temp", NULL, GEN | CHAT, REAL, AT(temperature), 0, 1e6, "T", "temperature (0.8); 0: always the most likely token"},
    {NULL, "--top-k", NULL, GEN | CHAT, INT, AT(top_k), 0, INT32_MAX, "K", "sample from the K most likely tokens (40); 0: all"},
    {NULL, "--top-p", NULL, GEN | CHAT, REAL, AT(top_p), 0, 1, "P", "sample from the most likely tokens that sum to P (0.95); 1: all"},
    {NULL, "--min-p", NULL, GEN | CHAT, REAL, AT(min_p), 0, 1, "P", "drop tokens less likely than P times the best (0.05); 0: none"},
    {NULL, "--repeat-penalty", NULL, GEN | CHAT, REAL, AT(repeat_penalty), 1e-6, 1e6, "R", "make recent tokens less likely (1: off)"},
    {NULL, "--repeat-last-n", NULL, GEN | CHAT, INT, AT(repeat_last_n), -1, INT32_MAX, "N", "tokens the penalty looks back (64); -1: all"},
    {"-s", "--seed", NULL, GEN | CHAT, SEED, AT(seed), 0, 0, "S", "same seed, same text; -1: random"},
    {NULL, "--ignore-eos", NULL, GEN, FLAG, AT(ignore_eos), 0, 0, NULL, "never choose a token that ends the text"},
    {NULL, "--print-ids", NULL, GEN, FLAG, AT(print_ids), 0, 0, NULL, "print token ids, not text"},
    {NULL, "--logits-out", NULL, GEN, TEXT, AT(logits_out), 0, 0, "FILE", "write the prompt's logits: little-endian f32 (n_tokens, vocab)"},
    {NULL, "--logits-hash", NULL, GEN, FLAG, AT(logits_hash), 0, 0, NULL, "print FNV-1a 64 of the prompt's logits"},
    {NULL, "--no-bos", NULL, GEN | TOK, FLAG, AT(no_bos), 0, 0, NULL, "add no begin-of-text token (tokenize: and none at the end)"},
    {NULL, "--no-parse-special", NULL, GEN | TOK, FLAG, AT(no_special), 0, 0, NULL, "read special tokens' names as plain text"},
    {NULL, "--json", NULL, GEN | INFO | TOK | PPL, FLAG, AT(json), 0, 0, NULL, "one JSON object on stdout"},
    {NULL, "--isa", NULL, GEN | CHAT | BENCH | PPL | INFO, TEXT, AT(isa), 0, 0, "ISA", "use this instruction set of those compiled in"},
    {NULL, "--pin", NULL, GEN | CHAT | BENCH | PPL, FLAG, AT(pin), 0, 0, NULL, "bind every thread to a CPU"},
    {"-h", "--help", NULL, ALL, FLAG, AT(help), 0, 0, NULL, "this text"},
    {NULL, "--version", NULL, GEN, FLAG, AT(version), 0, 0, NULL, "print the version"},
};
enum { N_OPTIONS = (int)(sizeof options / sizeof options[0]) };

static const struct {
    const char *name, *operand, *help;
} commands[INFC_N_COMMANDS] = {
    {"", NULL, "continue a text"},
    {"chat", NULL, "talk with the model: a line is a turn, Ctrl-C stops an answer, end of input ends"},
    {"bench", NULL, "time prompts, decoding and batches beside the machine's read bandwidth"},
    {"info", NULL, "describe the model and the program"},
    {"verify", NULL, "compare the weights with the checksum written at compile time"},
    {"tokenize", "TEXT", "print the token ids of a text"},
    {"perplexity", "FILE", "perplexity of a text file"},
};

static int is_number_text(const char *text, const char *allowed) {
    return text[0] != '\0' && text[strspn(text, allowed)] == '\0';
}

// 0, or -1 when text is no whole number that fits 64 bits.
static int parse_integer(const char *text, int64_t *value) {
    if (!is_number_text(text, "+-0123456789")) return -1;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') return -1;
    *value = v;
    return 0;
}

static int bad_range(const char *name, const char *text, double min, double max) {
    if (max >= INT32_MAX) return infc_complain(INFC_EXIT_INPUT, "option %s: %.60s is out of range: at least %.10g", name, text, min);
    return infc_complain(INFC_EXIT_INPUT, "option %s: %.60s is out of range: %.10g to %.10g", name, text, min, max);
}

static int parse_int(const option *o, const char *name, const char *text, int32_t *out) {
    int64_t value;
    if (parse_integer(text, &value) != 0) return infc_complain(INFC_EXIT_INPUT, "option %s: '%.60s' is not a whole number", name, text);
    if ((double)value < o->min || (double)value > o->max) return bad_range(name, text, o->min, o->max);
    *out = (int32_t)value;
    return INFC_EXIT_OK;
}

static int parse_real(const option *o, const char *name, const char *text, float *out) {
    char *end = NULL;
    double value = 0;
    int ok = is_number_text(text, "+-.eE0123456789");  // strtod also takes hex, inf and nan
    if (ok) value = strtod(text, &end);
    if (!ok || end == text || *end != '\0' || !isfinite(value))
        return infc_complain(INFC_EXIT_INPUT, "option %s: '%.60s' is not a number", name, text);
    if (value < o->min || value > o->max) return bad_range(name, text, o->min, o->max);
    *out = (float)value;
    return INFC_EXIT_OK;
}

static int parse_ints(const option *o, const char *name, const char *text, infc_ints *out) {
    size_t n = 1;
    for (const char *p = text; *p != '\0'; p++) n += *p == ',';
    int32_t *data = malloc(n * sizeof *data);
    if (data == NULL) return infc_complain(INFC_EXIT_LIMIT, "option %s: out of memory", name);
    for (size_t i = 0; i < n; i++) {
        char item[32];
        size_t size = strcspn(text, ",");
        size_t kept = size < sizeof item ? size : sizeof item - 1;
        memcpy(item, text, kept);
        item[kept] = '\0';
        int code = parse_int(o, name, item, &data[i]);
        if (code != INFC_EXIT_OK) {
            free(data);
            return code;
        }
        text += size + (text[size] == ',');
    }
    free(out->data);
    *out = (infc_ints){data, n};
    return INFC_EXIT_OK;
}

static int store(const option *o, const char *name, const char *text, infc_args *a) {
    char *field = (char *)a + o->field;
    switch (o->kind) {
    case FLAG: *(int *)field = 1; return INFC_EXIT_OK;
    case TEXT: *(const char **)field = text; return INFC_EXIT_OK;
    case INT: return parse_int(o, name, text, (int32_t *)field);
    case REAL: return parse_real(o, name, text, (float *)field);
    case INTS: return parse_ints(o, name, text, (infc_ints *)field);
    case SEED:
        if (parse_integer(text, (int64_t *)field) == 0 && *(int64_t *)field >= -1) return INFC_EXIT_OK;
        return infc_complain(INFC_EXIT_INPUT, "option %s: '%.60s' is not -1 or a whole number below 2^63", name, text);
    case FORMAT:
        if (strcmp(text, "md") != 0 && strcmp(text, "json") != 0)
            return infc_complain(INFC_EXIT_INPUT, "option %s: '%.60s' is neither md nor json", name, text);
        *(const char **)field = text;
        return INFC_EXIT_OK;
    }
    return INFC_EXIT_INTERNAL;
}

static const option *find_option(const char *name, infc_command command) {
    for (int i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        if (!(o->commands & 1 << command)) continue;
        if ((o->short_name && strcmp(name, o->short_name) == 0) || strcmp(name, o->long_name) == 0 ||
            (o->other_name && strcmp(name, o->other_name) == 0))
            return o;
    }
    return NULL;
}

static int set_list(infc_ints *list, const int32_t *values, size_t n) {
    if (list->data != NULL) return INFC_EXIT_OK;
    list->data = malloc(n * sizeof *values);
    if (list->data == NULL) return infc_complain(INFC_EXIT_LIMIT, "out of memory");
    memcpy(list->data, values, n * sizeof *values);
    list->n = n;
    return INFC_EXIT_OK;
}

static int bench_defaults(infc_args *a) {
    static const int32_t prompts[] = {512}, gens[] = {128}, batches[] = {1, 2, 4, 8, 16}, depths[] = {0}, threads[] = {1};
    int code = set_list(&a->bench_prompts, prompts, 1);
    if (code == INFC_EXIT_OK) code = set_list(&a->bench_gens, gens, 1);
    if (code == INFC_EXIT_OK) code = set_list(&a->bench_batches, batches, 5);
    if (code == INFC_EXIT_OK) code = set_list(&a->bench_depths, depths, 1);
    if (code == INFC_EXIT_OK) code = set_list(&a->bench_threads, threads, 1);
    return code;
}

// The operand of tokenize is a text, of perplexity a file.
static int take_operand(infc_args *a, const char *text) {
    const char **slot = a->command == INFC_TOKENIZE ? &a->prompt : a->command == INFC_PERPLEXITY ? &a->file : NULL;
    if (slot == NULL || *slot != NULL)
        return infc_complain(INFC_EXIT_INPUT, "unexpected argument '%.100s'; see %s --help", text, infc_name());
    *slot = text;
    return INFC_EXIT_OK;
}

static int check_inputs(const infc_args *a) {
    int n = (a->prompt != NULL) + (a->file != NULL) + (a->tokens.data != NULL);
    const char *wants = a->command == INFC_GENERATE ? "-p TEXT, -f FILE or --tokens IDS"
                      : a->command == INFC_TOKENIZE ? "TEXT or -f FILE"
                      : a->command == INFC_PERPLEXITY ? "FILE" : NULL;
    if (wants == NULL || a->help || a->version) return INFC_EXIT_OK;
    if (n == 0) return infc_complain(INFC_EXIT_INPUT, "no input: give %s; see %s --help", wants, infc_name());
    if (n > 1) return infc_complain(INFC_EXIT_INPUT, "more than one input: give one of %s", wants);
    if (a->print_ids && a->json) return infc_complain(INFC_EXIT_INPUT, "--print-ids and --json exclude each other: the JSON has the ids");
    return INFC_EXIT_OK;
}

int infc_args_parse(int argc, char **argv, infc_args *a) {
    *a = (infc_args){.command = INFC_GENERATE, .n_predict = 128, .temperature = 0.8f, .top_p = 0.95f, .min_p = 0.05f,
                     .repeat_penalty = 1.0f, .top_k = 40, .repeat_last_n = 64, .seed = -1, .reps = 5, .format = "md"};
    int at = 1, only_operands = 0;
    if (argc > 1 && argv[1][0] != '-') {
        while (a->command < INFC_N_COMMANDS && strcmp(argv[1], commands[a->command].name) != 0) a->command++;
        if (a->command == INFC_N_COMMANDS || a->command == INFC_GENERATE) {
            a->command = INFC_GENERATE;
            return infc_complain(INFC_EXIT_INPUT, "unknown command '%.100s'; see %s --help", argv[1], infc_name());
        }
        at = 2;
    }
    if (a->command == INFC_CHAT) a->n_predict = -1;
    while (at < argc) {
        const char *name = argv[at++];
        int code;
        if (!only_operands && strcmp(name, "--") == 0) {
            only_operands = 1;
            continue;
        }
        if (only_operands || name[0] != '-' || name[1] == '\0') {
            code = take_operand(a, name);
        } else {
            const option *o = find_option(name, a->command);
            if (o == NULL) return infc_complain(INFC_EXIT_INPUT, "unknown option '%.100s'; see %s --help", name, infc_name());
            if (o->kind != FLAG && at == argc) return infc_complain(INFC_EXIT_INPUT, "option %s needs a value: %s", name, o->metavar);
            code = store(o, name, o->kind == FLAG ? NULL : argv[at++], a);
        }
        if (code != INFC_EXIT_OK) return code;
    }
    if (a->command == INFC_BENCH) {
        int code = bench_defaults(a);
        if (code != INFC_EXIT_OK) return code;
    }
    return check_inputs(a);
}

void infc_args_free(infc_args *a) {
    free(a->tokens.data);
    free(a->bench_prompts.data);
    free(a->bench_gens.data);
    free(a->bench_batches.data);
    free(a->bench_depths.data);
    free(a->bench_threads.data);
}

int infc_args_help(const infc_args *a) {
    static infc_out out;
    out.fd = STDOUT_FILENO;
    const char *name = infc_name();
    infc_out_format(&out, "usage: %.100s %s%s[options]%s%s\n%s\n\n", name, commands[a->command].name,
                    a->command == INFC_GENERATE ? "" : " ", commands[a->command].operand ? " " : "",
                    commands[a->command].operand ? commands[a->command].operand : "", commands[a->command].help);
    for (int i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        if (!(o->commands & 1 << a->command)) continue;
        char left[64] = "";
        size_t n = 0;
        const char *parts[] = {o->short_name, o->short_name ? ", " : NULL, o->long_name, o->metavar ? " " : NULL, o->metavar};
        for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
            if (parts[k] == NULL) continue;
            size_t size = strlen(parts[k]);
            if (n + size >= sizeof left) break;
            memcpy(left + n, parts[k], size);
            n += size;
        }
        left[n] = '\0';
        infc_out_format(&out, "  %-30s %s\n", left, o->help);
    }
    if (a->command == INFC_GENERATE) {
        infc_out_text(&out, "\ncommands (each has --help):\n");
        for (int c = INFC_CHAT; c < INFC_N_COMMANDS; c++) infc_out_format(&out, "  %-30s %s\n", commands[c].name, commands[c].help);
        infc_out_text(&out, "\nexit: 0 ok, 2 bad input, 3 limit reached or host refused, 70 internal error\n");
    }
    return infc_out_flush(&out);
}
