// infc_tokenizer_open.c: the TOKENIZER section, checked and pointed into.
#include <string.h>

#include "infc_characters.h"
#include "infc_tokenizer.h"

// The layout of compiler/tokenizer/section.py.
enum { VERSION = 6, N_HEADER = 14, PREFIX = 16 };
enum {
    FLAG_ADD_BOS = 1, FLAG_SPACE_PREFIX = 4, FLAG_ADD_SEP = 8, FLAG_MERGE_SPACES = 16, FLAG_KEEP_END = 32, FLAG_SPLIT_SPACES = 64,
    FLAG_PREFIX_ONCE = 128, FLAG_PREFIX_FIRST = 256, FLAG_WORDS_APART = 512, FLAG_FLOAT_SUMS = 1024
};
enum { H_VOCAB_SIZE, H_N_MERGES, H_FLAGS, H_BOS, H_EOS, H_EOT, H_N_CLASSES, H_N_STAGES, H_KIND, H_WORD_HOMES,
       H_SHORT_HOMES, H_LONGEST_WORD, H_SEP, H_UNKNOWN };
enum {
    T_TOKEN_OFFSETS, T_TOKEN_BYTES, T_TOKEN_FLAGS, T_BYTE_IDS, T_MERGE_SLOTS, T_MERGE_IDS, T_WORD_SLOTS, T_CLASS_STAGE1,
    T_CLASS_STAGE2, T_SPLIT_STATES, T_SPLIT_ROWS, T_ADDED_ALL, T_ADDED_USER,
    T_SHORT_SLOTS, T_JOINS, T_CHAR_IDS, T_PRIORITIES, T_SCAN,
    T_CHAR_STAGE1, T_CHAR_STAGE2, T_CHAR_OFFSETS, T_CHAR_ITEMS, T_TRIE,
    T_MAP_UNITS, T_MAP_TEXT, T_SCORES, T_MAP_CLASSES, N_TABLES
};

#define NONE UINT32_MAX

enum { MAX_VOCAB = 1 << 20, SLOT = sizeof(infc_word_slot) };

typedef struct table {
    const uint8_t *at;
    size_t size;
} table;

static int32_t id_or_none(uint32_t id) { return id == NONE ? INFC_TOKEN_NONE : (int32_t)id; }

static int open_added(infc_added *a, table s, uint32_t vocab_size) {
    memset(a, 0, sizeof *a);
    if (s.size == 0) return 0;
    uint32_t head[4];
    if (s.size < sizeof head + 256) return INFC_EFILE;
    memcpy(head, s.at, sizeof head);
    uint64_t n_states = head[0], n_classes = head[1];
    if (n_states < 2 || n_states > 0x10000 || n_classes == 0 || n_classes > 256 ||
        s.size != sizeof head + 256 + n_states * 4 + n_states * n_classes * 2)
        return INFC_EFILE;
    a->n_states = head[0];
    a->n_classes = head[1];
    a->classes = s.at + sizeof head;
    a->out = (const uint32_t *)(const void *)(a->classes + 256);
    a->next = (const uint16_t *)(const void *)(a->out + n_states);
    for (uint64_t i = 0; i < n_states; i++)
        if (a->out[i] != NONE && a->out[i] >= vocab_size) return INFC_EFILE;
    for (uint64_t i = 0; i < n_states * n_classes; i++)
        if (a->next[i] >= n_states) return INFC_EFILE;
    int n = 0;
    for (int b = 0; b < 256; b++) {
        if (a->classes[b] >= n_classes) return INFC_EFILE;
        a->begins[b] = a->next[a->n_classes + a->classes[b]] != 1;
        if (a->begins[b] && n++ == 0) a->first = b;
    }
    if (n != 1) a->first = -1;
    return 0;
}

static int ids_ok(const uint32_t *ids, size_t n, uint32_t vocab_size, int may_lack) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= vocab_size && !(may_lack && ids[i] == NONE)) return 0;
    return 1;
}

static int open_words(infc_words *w, uint32_t n_homes, table s) {
    const size_t n = s.size / SLOT;
    if (n * SLOT != s.size || n >= NONE || n_homes >= n) return INFC_EFILE;
    w->slots = (const infc_word_slot *)(const void *)s.at;
    w->n_homes = n_homes;
    // The search walks forward until an empty slot.
    return w->slots[n - 1].high >> 32 == 0 ? 0 : INFC_EFILE;
}

// Tables that both kinds of merging have.
static int open_merges(infc_tokenizer *t, const uint32_t *h, const table *s) {
    const size_t merge_slots = s[T_MERGE_SLOTS].size / 8;
    if (s[T_BYTE_IDS].size != 1024 || s[T_MERGE_IDS].size != (size_t)h[H_N_MERGES] * 4 || s[T_MERGE_SLOTS].size % 8 || merge_slots == 0 ||
        merge_slots >= NONE || open_words(&t->words, h[H_SHORT_HOMES], s[T_SHORT_SLOTS]) || s[T_JOINS].size != 256 * 32)
        return INFC_EFILE;
    t->n_merges = h[H_N_MERGES];
    t->n_merge_slots = (uint32_t)merge_slots;
    t->byte_ids = (const uint32_t *)(const void *)s[T_BYTE_IDS].at;
    t->merge_slots = (const uint64_t *)(const void *)s[T_MERGE_SLOTS].at;
    t->merge_ids = (const uint32_t *)(const void *)s[T_MERGE_IDS].at;
    t->joins = s[T_JOINS].at;
    return ids_ok(t->byte_ids, 256, t->vocab_size, t->kind == INFC_TOK_BPE) ? 0 : INFC_EFILE;
}

static int open_bpe(infc_tokenizer *t, const uint32_t *h, const table *s) {
    const size_t word_slots = s[T_WORD_SLOTS].size / 4;
    if (s[T_WORD_SLOTS].size % 4 || word_slots >= NONE || h[H_WORD_HOMES] >= word_slots) return INFC_EFILE;
    t->word_homes = h[H_WORD_HOMES];
    t->n_word_slots = (uint32_t)word_slots;
    t->word_slots = (const uint32_t *)(const void *)s[T_WORD_SLOTS].at;
    t->longest_word = h[H_LONGEST_WORD];
    if (t->word_slots[word_slots - 1] != NONE || infc_scan_open(&t->scan, s[T_SCAN].at, s[T_SCAN].size)) return INFC_EFILE;
    return infc_pretok_open(&t->pretok, h[H_N_CLASSES], h[H_N_STAGES], (const uint32_t *)(const void *)s[T_SPLIT_STATES].at,
                            s[T_SPLIT_STATES].size, (const uint16_t *)(const void *)s[T_CLASS_STAGE1].at, s[T_CLASS_STAGE1].size,
                            s[T_CLASS_STAGE2].at, s[T_CLASS_STAGE2].size, (const uint16_t *)(const void *)s[T_SPLIT_ROWS].at,
                            s[T_SPLIT_ROWS].size);
}

static int open_spm(infc_tokenizer *t, const uint32_t *h, const table *s) {
    if (s[T_CHAR_IDS].size != 512 || (s[T_PRIORITIES].size && s[T_PRIORITIES].size != (size_t)h[H_N_MERGES] * 4)) return INFC_EFILE;
    t->char_ids = (const uint32_t *)(const void *)s[T_CHAR_IDS].at;
    t->priorities = s[T_PRIORITIES].size ? (const uint32_t *)(const void *)s[T_PRIORITIES].at : NULL;
    return ids_ok(t->char_ids, 128, t->vocab_size, 1) ? 0 : INFC_EFILE;
}

static int open_trie(infc_trie *t, table s) {
    const size_t n = s.size / 8;
    if (n < 2 || n * 8 != s.size || n > 1 << 24) return INFC_EFILE;
    t->n_slots = (uint32_t)n;
    t->slots = (const uint64_t *)(const void *)s.at;
    return 0;
}

static int open_unigram(infc_tokenizer *t, const uint32_t *h, const table *s) {
    const int has_bytes = s[T_BYTE_IDS].size != 0;
    if (s[T_SCORES].size != ((size_t)t->vocab_size + 1) * 8 || (has_bytes && s[T_BYTE_IDS].size != 1024) || s[T_MAP_TEXT].size >= NONE ||
        t->unknown >= t->vocab_size || open_trie(&t->trie, s[T_TRIE]) || s[T_MAP_UNITS].size % 4 ||
        s[T_MAP_UNITS].size >= NONE || s[T_MAP_CLASSES].size != 128 || open_words(&t->words, h[H_SHORT_HOMES], s[T_SHORT_SLOTS]))
        return INFC_EFILE;
    t->byte_ids = has_bytes ? (const uint32_t *)(const void *)s[T_BYTE_IDS].at : NULL;
    t->scores = (const double *)(const void *)s[T_SCORES].at;
    t->map_units = (const uint32_t *)(const void *)s[T_MAP_UNITS].at;
    t->n_map_units = (uint32_t)(s[T_MAP_UNITS].size / 4);
    t->map_text = s[T_MAP_TEXT].at;
    t->n_map_text = (uint32_t)s[T_MAP_TEXT].size;
    t->map_classes = s[T_MAP_CLASSES].at;
    t->merge_spaces = (h[H_FLAGS] & FLAG_MERGE_SPACES) != 0;
    t->keep_end = (h[H_FLAGS] & FLAG_KEEP_END) != 0;
    t->words_apart = (h[H_FLAGS] & FLAG_WORDS_APART) != 0;
    t->float_sums = (h[H_FLAGS] & FLAG_FLOAT_SUMS) != 0;
    t->split_spaces = (h[H_FLAGS] & FLAG_SPLIT_SPACES) != 0;
    return !has_bytes || ids_ok(t->byte_ids, 256, t->vocab_size, 0) ? 0 : INFC_EFILE;
}

static int open_wordpiece(infc_tokenizer *t, const table *s) {
    infc_characters *c = &t->characters;
    const size_t n_blocks = s[T_CHAR_STAGE2].size / (2 * INFC_CHAR_BLOCK), offsets = s[T_CHAR_OFFSETS].size / 4;
    if (s[T_CHAR_STAGE1].size != INFC_CHAR_STAGE1 * 2 || n_blocks * 2 * INFC_CHAR_BLOCK != s[T_CHAR_STAGE2].size || offsets == 0 ||
        offsets > 0x10000 || offsets * 4 != s[T_CHAR_OFFSETS].size || s[T_CHAR_ITEMS].size >= NONE || t->unknown >= t->vocab_size)
        return INFC_EFILE;
    c->stage1 = (const uint16_t *)(const void *)s[T_CHAR_STAGE1].at;
    c->stage2 = (const uint16_t *)(const void *)s[T_CHAR_STAGE2].at;
    c->offsets = (const uint32_t *)(const void *)s[T_CHAR_OFFSETS].at;
    c->items = s[T_CHAR_ITEMS].at;
    c->n_sequences = (uint32_t)offsets - 1;
    c->n_items = (uint32_t)s[T_CHAR_ITEMS].size;
    for (size_t i = 0; i < INFC_CHAR_STAGE1; i++)
        if (c->stage1[i] >= n_blocks) return INFC_EFILE;
    if (open_trie(&t->trie, s[T_TRIE])) return INFC_EFILE;
    t->word_begin = infc_trie_step(&t->trie, infc_trie_root(&t->trie), ' ');
    return 0;
}

int infc_tokenizer_open(const uint8_t *section, size_t size, infc_tokenizer *t) {
    uint32_t prefix[2], h[N_HEADER];
    uint64_t directory[N_TABLES][2];
    table s[N_TABLES];
    memset(t, 0, sizeof *t);
    if (size < PREFIX + sizeof h + sizeof directory || (uintptr_t)section % 64 || memcmp(section, "INFCTOK1", 8) != 0)
        return INFC_EFILE;
    memcpy(prefix, section + 8, sizeof prefix);
    memcpy(h, section + PREFIX, sizeof h);
    memcpy(directory, section + PREFIX + sizeof h, sizeof directory);
    if (prefix[0] != VERSION || prefix[1] != N_TABLES) return INFC_EFILE;
    for (int i = 0; i < N_TABLES; i++) {
        uint64_t offset = directory[i][0], bytes = directory[i][1];
        if (offset % 64 || offset > size || bytes > size - offset) return INFC_EFILE;
        s[i] = (table){section + offset, (size_t)bytes};
    }
    uint32_t n = h[H_VOCAB_SIZE];
    if (n == 0 || n > MAX_VOCAB || s[T_TOKEN_OFFSETS].size != ((size_t)n + 1) * 4 || s[T_TOKEN_FLAGS].size != n ||
        s[T_TOKEN_BYTES].size >= NONE || h[H_KIND] > INFC_TOK_UNIGRAM || (h[H_SEP] != NONE && h[H_SEP] >= n))
        return INFC_EFILE;
    for (int i = H_BOS; i <= H_EOT; i++)
        if (h[i] != NONE && h[i] >= n) return INFC_EFILE;
    t->vocab_size = n;
    t->kind = h[H_KIND];
    t->bos = id_or_none(h[H_BOS]);
    t->eos = id_or_none(h[H_EOS]);
    t->eot = id_or_none(h[H_EOT]);
    t->sep = id_or_none(h[H_SEP]);
    t->unknown = h[H_UNKNOWN];  // ~0 for kinds that know everything
    t->add_bos = (h[H_FLAGS] & FLAG_ADD_BOS) != 0;
    t->add_sep = (h[H_FLAGS] & FLAG_ADD_SEP) != 0;
    t->space_prefix = (h[H_FLAGS] & FLAG_SPACE_PREFIX) != 0;
    t->prefix_once = (h[H_FLAGS] & FLAG_PREFIX_ONCE) != 0;
    t->prefix_first = (h[H_FLAGS] & FLAG_PREFIX_FIRST) != 0;
    t->n_token_bytes = (uint32_t)s[T_TOKEN_BYTES].size;
    t->token_offsets = (const uint32_t *)(const void *)s[T_TOKEN_OFFSETS].at;
    t->token_bytes = s[T_TOKEN_BYTES].at;
    t->token_flags = s[T_TOKEN_FLAGS].at;
    if (open_added(&t->added_all, s[T_ADDED_ALL], n) || open_added(&t->added_user, s[T_ADDED_USER], n)) return INFC_EFILE;
    if (t->kind == INFC_TOK_WORDPIECE) return open_wordpiece(t, s);
    if (t->kind == INFC_TOK_UNIGRAM) return open_unigram(t, h, s);
    if (open_merges(t, h, s)) return INFC_EFILE;
    return t->kind == INFC_TOK_SPM ? open_spm(t, h, s) : open_bpe(t, h, s);
}
