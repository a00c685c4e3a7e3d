// Exercises the tokenizer's C code under sanitizers: random text through a good section, then through damaged copies of it.
// Usage: tokenizer_fuzz SECTION CHAT ROUNDS FEATURES (INFC_CPU_* bits that may be used). Exit 0: nothing wrong; 1: a wrong result; a sanitizer ends the process itself.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "infc_chat.h"

static uint64_t state = 88172645463325252u;

static uint32_t rnd(uint32_t n) {  // xorshift64
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % n);
}

// A block of exactly this size, so that one byte too far is seen.
static uint8_t *block(size_t size) {
    void *p = NULL;
    if (posix_memalign(&p, 64, size)) exit(2);
    return p;
}

static uint32_t features;

static uint8_t *load(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) exit(2);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = block(*size);
    if (fread(data, 1, *size, f) != *size) exit(2);
    fclose(f);
    return data;
}

static const char *const pieces[] = {"the ", " of", "hello", "'s", "'LL", "  ", "\n", "\r\n", "1", "42", "<|im_start|>", "<|im_", "<tool_call>",
                                     "\xc3\xa9", "\xe4\xb8\x96", "\xf0\x9f\x99\x82", "\xe4\xb8", "\xff", "\xc2\xa0", "\xe3\x80\x80", "!", "..."};

static uint8_t *random_text(size_t *size) {
    uint32_t kind = rnd(4), n = kind == 3 ? rnd(3000) : rnd(60);
    uint8_t *text = block((size_t)n * 12 + 1);
    const char *again = pieces[rnd(sizeof pieces / sizeof *pieces)];
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        const char *p = kind == 3 ? again : pieces[rnd(sizeof pieces / sizeof *pieces)];
        if (kind == 0) text[at++] = (uint8_t)rnd(256);
        else for (; *p; p++) text[at++] = (uint8_t)*p;
    }
    uint8_t *exact = block(at ? at : 1);
    memcpy(exact, text, at);
    free(text);
    *size = at;
    return exact;
}

static int use(infc_tokenizer *t, const infc_chat *chat, int whole) {
    size_t size, length;
    infc_tok_use_cpu(t, features & rnd(4));
    uint8_t *text = random_text(&size);
    uint32_t flags = rnd(8);
    int wrong = 0, n = infc_tok_tokenize(t, text, size, flags, NULL, 0);
    if (n >= 0) {
        size_t cap = rnd(4) ? (size_t)n : rnd((uint32_t)n + 1);
        int32_t *ids = (int32_t *)(void *)block(cap * 4 + 4);
        wrong |= infc_tok_tokenize(t, text, size, flags, ids, cap) != n;
        int bytes = infc_tok_detokenize(t, ids, cap, 1, NULL, 0);
        uint8_t *out = block(bytes > 0 ? (size_t)bytes : 1);
        wrong |= bytes >= 0 && infc_tok_detokenize(t, ids, cap, 1, out, (size_t)bytes) != bytes;
        int bos = (flags & INFC_TOKENIZE_BOS && t->add_bos) || (flags & INFC_TOKENIZE_END && t->add_sep);
        if (whole && cap == (size_t)n && !bos && t->kind < INFC_TOK_WORDPIECE) wrong |= bytes != (int)size || memcmp(out, text, size) != 0;
        infc_decoder d = {0, {0}};
        size_t at = 0;
        for (size_t i = 0; i <= cap && bytes >= 0 && !t->space_prefix; i++) {
            infc_tok_bytes(t, i < cap ? ids[i] : 0, &length);
            uint8_t *piece = block(length + 4);
            int got = infc_tok_decode(t, &d, i < cap ? ids[i] : -1, 1, piece, length + 4);
            wrong |= got < 0 || at + (size_t)got > (size_t)bytes || (got && memcmp(piece, out + at, (size_t)got) != 0);
            at += got > 0 ? (size_t)got : 0;
            free(piece);
        }
        free(out);
        free(ids);
    } else wrong |= whole;
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    infc_message messages[4];
    int32_t n_messages = (int32_t)rnd(5), bad, room[64];
    for (int32_t i = 0; i < n_messages; i++) {
        size_t begin = rnd((uint32_t)size + 1);
        messages[i] = (infc_message){roles[rnd(whole ? 3 : 4)], (const char *)text + begin, size - begin};
    }
    infc_ids ids = {room, rnd(64), 0};
    int error = infc_chat_encode(chat, t, messages, n_messages, (int)rnd(2), (infc_date){2024, 7, 26}, &ids, &bad);
    wrong |= whole && n_messages && error != 0;
    free(text);
    return whole && wrong;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    features = (uint32_t)atoi(argv[4]);
    size_t size, chat_size;
    uint8_t *section = load(argv[1], &size), *chat_section = load(argv[2], &chat_size);
    infc_tokenizer t;
    infc_chat chat;
    if (infc_tokenizer_open(section, size, &t) || infc_chat_open(chat_section, chat_size, &chat)) return 1;
    int rounds = atoi(argv[3]), opened = 0;
    uint32_t first, classes;  // offsets of the first table and of the first that open checks entry by entry
    memcpy(&first, section + 72, 4);
    memcpy(&classes, section + 72 + 16 * 7, 4);
    if (t.kind >= INFC_TOK_WORDPIECE) classes = (uint32_t)size;  // its tables are read as they are
    for (int i = 0; i < rounds; i++)
        if (use(&t, &chat, 1)) return 1;
    for (int i = 0; i < rounds; i++) {
        infc_tokenizer damaged;
        infc_chat damaged_chat;
        size_t s = rnd(20) ? size : rnd((uint32_t)size), c = rnd(5) ? chat_size : rnd((uint32_t)chat_size);
        uint8_t *copy = block(s ? s : 1), *chat_copy = block(c ? c : 1);
        memcpy(copy, section, s);
        memcpy(chat_copy, chat_section, c);
        // Now and then the header; mostly the tables before the classes, which are checked only where they are used.
        for (uint32_t n = rnd(12); n > 0 && s; n--) {
            uint32_t from = 0, to = (uint32_t)s;
            uint32_t kind = rnd(20);
            if (kind == 0) to = to < 300 ? to : 300;
            if (kind > 1 && to > classes) from = first, to = classes;
            copy[from + rnd(to - from)] = (uint8_t)rnd(256);
        }
        for (uint32_t n = rnd(4); n > 0 && c; n--) chat_copy[rnd((uint32_t)c)] = (uint8_t)rnd(256);
        int whole_chat = infc_chat_open(chat_copy, c, &damaged_chat) == 0;
        if (infc_tokenizer_open(copy, s, &damaged) == 0) {
            opened++;
            for (int k = 0; k < 4; k++) use(&damaged, whole_chat ? &damaged_chat : &chat, 0);
        }
        free(copy);
        free(chat_copy);
    }
    free(section);
    free(chat_section);
    printf("%d damaged sections opened\n", opened);
    return 0;
}
