#include "infc_tokenizer.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

// The layout of compiler/tokenizer/section.py.
enum { VERSION = 1, N_HEADER = 12, PREFIX = 16, FLAG_ADD_BOS = 1, FLAG_IGNORE_MERGES = 2, TOKEN_SPECIAL = 1, TOKEN_EOG = 2 };
enum { H_VOCAB_SIZE, H_N_MERGES, H_FLAGS, H_BOS, H_EOS, H_EOT, H_N_CLASSES, H_N_STAGES, H_MERGE_HOMES, H_WORD_HOMES };
enum {
    T_TOKEN_OFFSETS, T_TOKEN_BYTES, T_TOKEN_FLAGS, T_BYTE_IDS, T_MERGE_SLOTS, T_MERGE_IDS, T_WORD_SLOTS, T_CLASS_STAGE1,
    T_CLASS_STAGE2, T_SPLIT_STATES, T_SPLIT_ROWS, T_ADDED_ALL, T_ADDED_USER, N_TABLES
};

#define NONE UINT32_MAX
#define NO_MERGE UINT32_MAX
#define EMPTY_SLOT UINT64_MAX
#define FIBONACCI UINT64_C(0x9E3779B97F4A7C15)
#define FNV_BASIS UINT64_C(0xCBF29CE484222325)
#define FNV_PRIME UINT64_C(0x100000001B3)

enum { MAX_VOCAB = 1 << 20, RANK_BITS = 24, ID_BITS = 20 };
// A word of up to SHORT symbols is merged by scanning for the best pair, a longer one with a heap.
enum { SHORT = 64 };

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
    size_t merge_slots = s[T_MERGE_SLOTS].size / 8, word_slots = s[T_WORD_SLOTS].size / 4;
    if (n == 0 || n > MAX_VOCAB || s[T_TOKEN_OFFSETS].size != ((size_t)n + 1) * 4 || s[T_TOKEN_FLAGS].size != n ||
        s[T_TOKEN_BYTES].size >= NONE || s[T_BYTE_IDS].size != 1024 || s[T_MERGE_IDS].size != (size_t)h[H_N_MERGES] * 4 ||
        s[T_MERGE_SLOTS].size % 8 || s[T_WORD_SLOTS].size % 4 || h[H_MERGE_HOMES] >= merge_slots || merge_slots >= NONE ||
        word_slots >= NONE || h[H_WORD_HOMES] > word_slots)
        return INFC_EFILE;
    for (int i = H_BOS; i <= H_EOT; i++)
        if (h[i] != NONE && h[i] >= n) return INFC_EFILE;
    t->vocab_size = n;
    t->n_merges = h[H_N_MERGES];
    t->merge_homes = h[H_MERGE_HOMES];
    t->word_homes = h[H_WORD_HOMES];
    t->n_merge_slots = (uint32_t)merge_slots;
    t->n_word_slots = (uint32_t)word_slots;
    t->bos = id_or_none(h[H_BOS]);
    t->eos = id_or_none(h[H_EOS]);
    t->eot = id_or_none(h[H_EOT]);
    t->add_bos = (h[H_FLAGS] & FLAG_ADD_BOS) != 0;
    t->ignore_merges = (h[H_FLAGS] & FLAG_IGNORE_MERGES) != 0;
    t->n_token_bytes = (uint32_t)s[T_TOKEN_BYTES].size;
    t->token_offsets = (const uint32_t *)(const void *)s[T_TOKEN_OFFSETS].at;
    t->token_bytes = s[T_TOKEN_BYTES].at;
    t->token_flags = s[T_TOKEN_FLAGS].at;
    t->byte_ids = (const uint32_t *)(const void *)s[T_BYTE_IDS].at;
    t->merge_slots = (const uint64_t *)(const void *)s[T_MERGE_SLOTS].at;
    t->merge_ids = (const uint32_t *)(const void *)s[T_MERGE_IDS].at;
    t->word_slots = (const uint32_t *)(const void *)s[T_WORD_SLOTS].at;
    // Both searches walk forward until an empty slot.
    if (t->merge_slots[merge_slots - 1] != EMPTY_SLOT) return INFC_EFILE;
    if (t->ignore_merges && (t->word_homes == word_slots || t->word_slots[word_slots - 1] != NONE)) return INFC_EFILE;
    for (int b = 0; b < 256; b++)
        if (t->byte_ids[b] != NONE && t->byte_ids[b] >= n) return INFC_EFILE;
    if (open_added(&t->added_all, s[T_ADDED_ALL], n) || open_added(&t->added_user, s[T_ADDED_USER], n)) return INFC_EFILE;
    return infc_pretok_open(&t->pretok, h[H_N_CLASSES], h[H_N_STAGES], (const uint32_t *)(const void *)s[T_SPLIT_STATES].at,
                            s[T_SPLIT_STATES].size, (const uint16_t *)(const void *)s[T_CLASS_STAGE1].at, s[T_CLASS_STAGE1].size,
                            s[T_CLASS_STAGE2].at, s[T_CLASS_STAGE2].size, (const uint16_t *)(const void *)s[T_SPLIT_ROWS].at,
                            s[T_SPLIT_ROWS].size);
}

const uint8_t *infc_tok_bytes(const infc_tokenizer *t, int32_t id, size_t *size) {
    *size = 0;
    if (id < 0 || (uint32_t)id >= t->vocab_size) return NULL;
    uint32_t begin = t->token_offsets[id], end = t->token_offsets[id + 1];
    if (begin > end || end > t->n_token_bytes) return t->token_bytes;  // a damaged section: an empty token
    *size = end - begin;
    return t->token_bytes + begin;
}

// ---- merging ---------------------------------------------------------------------------------------------------------------

// Rank of the merge of two tokens, NO_MERGE if there is none.
static inline uint32_t rank_of(const infc_tokenizer *t, uint32_t left, uint32_t right) {
    uint64_t key = (uint64_t)left << ID_BITS | right;
    uint64_t home = ((key * FIBONACCI >> 32) * t->merge_homes) >> 32;
    for (const uint64_t *s = t->merge_slots + home; *s != EMPTY_SLOT; s++) {
        if (*s >> RANK_BITS == key) {
            uint32_t rank = *s & ((1u << RANK_BITS) - 1);
            return rank < t->n_merges && t->merge_ids[rank] < t->vocab_size ? rank : NO_MERGE;
        }
    }
    return NO_MERGE;
}

// The token whose bytes are the whole word, NONE if there is none.
static uint32_t word_token(const infc_tokenizer *t, const uint8_t *word, size_t size) {
    uint64_t hash = FNV_BASIS;
    for (size_t i = 0; i < size; i++) hash = (hash ^ word[i]) * FNV_PRIME;
    uint64_t home = ((hash * FIBONACCI >> 32) * t->word_homes) >> 32;
    for (const uint32_t *s = t->word_slots + home; *s != NONE; s++) {
        size_t n;
        const uint8_t *bytes = *s < t->vocab_size ? infc_tok_bytes(t, (int32_t)*s, &n) : NULL;
        if (bytes && n == size && memcmp(bytes, word, size) == 0) return *s;
    }
    return NONE;
}

static void merge_short(const infc_tokenizer *t, uint32_t *ids, size_t n, infc_ids *out) {
    uint32_t ranks[SHORT];  // of the pair (i, i + 1)
    for (size_t i = 0; i + 1 < n; i++) ranks[i] = rank_of(t, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == NO_MERGE) break;
        ids[best] = t->merge_ids[ranks[best]];
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        if (best + 1 < n) {
            memmove(ranks + best + 1, ranks + best + 2, (n - best - 2) * sizeof *ranks);
            ranks[best] = rank_of(t, ids[best], ids[best + 1]);
        }
        if (best > 0) ranks[best - 1] = rank_of(t, ids[best - 1], ids[best]);
    }
    for (size_t i = 0; i < n; i++) infc_ids_put(out, ids[i]);
}

// Pairs waiting to be merged, rank << 32 | position of the left symbol: the least is the next merge.
typedef struct heap {
    uint64_t *items;
    size_t n;
} heap;

static void heap_push(heap *h, uint64_t item) {
    size_t i = h->n++;
    for (; i > 0 && h->items[(i - 1) / 2] > item; i = (i - 1) / 2) h->items[i] = h->items[(i - 1) / 2];
    h->items[i] = item;
}

static uint64_t heap_pop(heap *h) {
    uint64_t top = h->items[0], item = h->items[--h->n];
    size_t i = 0;
    for (size_t child = 1; child < h->n; child = 2 * i + 1) {
        if (child + 1 < h->n && h->items[child + 1] < h->items[child]) child++;
        if (h->items[child] >= item) break;
        h->items[i] = h->items[child];
        i = child;
    }
    h->items[i] = item;
    return top;
}

typedef struct symbol {
    uint32_t id, rank, previous, next;  // rank of the pair with next; positions, NONE at the ends
} symbol;

static void pair_up(const infc_tokenizer *t, symbol *s, uint32_t at, heap *h) {
    s[at].rank = s[at].next == NONE ? NO_MERGE : rank_of(t, s[at].id, s[s[at].next].id);
    if (s[at].rank != NO_MERGE) heap_push(h, (uint64_t)s[at].rank << 32 | at);
}

static int merge_long(const infc_tokenizer *t, const uint8_t *word, size_t size, infc_ids *out) {
    if (size >= NONE) return INFC_ELIMIT;
    // A merge takes one pair from the heap and adds at most two: never over 2 * size in it.
    symbol *s = malloc(size * sizeof *s);
    heap h = {malloc(2 * size * sizeof *h.items), 0};
    if (!s || !h.items) {
        free(s);
        free(h.items);
        return INFC_ENOMEM;
    }
    uint32_t n = 0;
    for (size_t i = 0; i < size; i++) {
        uint32_t id = t->byte_ids[word[i]];
        if (id == NONE) continue;
        s[n] = (symbol){id, NO_MERGE, n ? n - 1 : NONE, n + 1};
        n++;
    }
    if (n) s[n - 1].next = NONE;
    for (uint32_t i = 0; i < n; i++) pair_up(t, s, i, &h);
    while (h.n) {
        uint64_t item = heap_pop(&h);
        uint32_t at = (uint32_t)item, rank = (uint32_t)(item >> 32);
        if (s[at].rank != rank) continue;  // the pair has changed since
        uint32_t gone = s[at].next;
        s[at].id = t->merge_ids[rank];
        s[at].next = s[gone].next;
        s[gone].rank = NO_MERGE;
        if (s[at].next != NONE) s[s[at].next].previous = at;
        pair_up(t, s, at, &h);
        if (s[at].previous != NONE) pair_up(t, s, s[at].previous, &h);
    }
    for (uint32_t i = 0; i < n; i = s[i].next) infc_ids_put(out, s[i].id);
    free(s);
    free(h.items);
    return 0;
}

static int encode_word(const infc_tokenizer *t, const uint8_t *word, size_t size, infc_ids *out) {
    if (t->ignore_merges) {
        uint32_t id = word_token(t, word, size);
        if (id != NONE) {
            infc_ids_put(out, id);
            return 0;
        }
    }
    if (size > SHORT) return merge_long(t, word, size, out);
    uint32_t ids[SHORT];
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        ids[n] = t->byte_ids[word[i]];
        n += ids[n] != NONE;
    }
    merge_short(t, ids, n, out);
    return 0;
}

// ---- text to tokens --------------------------------------------------------------------------------------------------------

int32_t infc_tok_find_added(const infc_tokenizer *t, int special, const uint8_t *text, size_t from, size_t size, size_t *begin,
                            size_t *end) {
    const infc_added *a = special ? &t->added_all : &t->added_user;
    if (!a->n_states) return INFC_TOKEN_NONE;
    int32_t found = INFC_TOKEN_NONE;
    uint32_t state = 1;
    for (size_t at = from; at < size && state; at++) {
        if (state == 1) {  // skip to a byte that begins a token
            if (a->first >= 0) {
                const uint8_t *hit = memchr(text + at, a->first, size - at);
                if (!hit) break;
                at = (size_t)(hit - text);
            } else {
                while (at < size && !a->begins[text[at]]) at++;
                if (at == size) break;
            }
        }
        state = a->next[(size_t)state * a->n_classes + a->classes[text[at]]];
        if (a->out[state] != NONE) {
            found = (int32_t)a->out[state];
            *end = at + 1;
        }
    }
    if (found == INFC_TOKEN_NONE) return found;
    size_t length;
    infc_tok_bytes(t, found, &length);
    if (length == 0 || length > *end - from) return INFC_TOKEN_NONE;  // a damaged section
    *begin = *end - length;
    return found;
}

static int encode_plain(const infc_tokenizer *t, const uint8_t *text, size_t size, infc_ids *out) {
    infc_pretok_cursor c;
    infc_pretok_start(&c, size);
    while (c.at < size) {
        size_t begin = infc_pretok_next(&t->pretok, &c, text);
        int error = encode_word(t, text + begin, c.at - begin, out);
        if (error) return error;
    }
    return 0;
}

int infc_tok_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, uint32_t flags, infc_ids *out) {
    if (flags & INFC_TOKENIZE_BOS && t->add_bos && t->bos != INFC_TOKEN_NONE) infc_ids_put(out, (uint32_t)t->bos);
    size_t at = 0, begin = 0, end = 0;
    while (at < size) {
        int32_t id = infc_tok_find_added(t, (flags & INFC_TOKENIZE_SPECIAL) != 0, text, at, size, &begin, &end);
        if (id == INFC_TOKEN_NONE) begin = end = size;
        int error = encode_plain(t, text + at, begin - at, out);
        if (error) return error;
        if (id != INFC_TOKEN_NONE) infc_ids_put(out, (uint32_t)id);
        at = end;
    }
    return 0;
}

int infc_tok_tokenize(const infc_tokenizer *t, const uint8_t *text, size_t size, uint32_t flags, int32_t *ids, size_t cap) {
    infc_ids out = {ids, cap, 0};
    int error = infc_tok_encode(t, text, size, flags, &out);
    if (error) return error;
    return out.n > INT_MAX ? INFC_ELIMIT : (int)out.n;
}

// ---- tokens to text --------------------------------------------------------------------------------------------------------

int infc_tok_is_eog(const infc_tokenizer *t, int32_t id) {
    if (id < 0 || (uint32_t)id >= t->vocab_size) return INFC_EINPUT;
    return (t->token_flags[id] & TOKEN_EOG) != 0;
}

int infc_tok_detokenize(const infc_tokenizer *t, const int32_t *ids, size_t n, int special, uint8_t *out, size_t cap) {
    size_t written = 0;
    for (size_t i = 0; i < n; i++) {
        size_t size;
        const uint8_t *bytes = infc_tok_bytes(t, ids[i], &size);
        if (!bytes) return INFC_EINPUT;
        if (!special && t->token_flags[ids[i]] & TOKEN_SPECIAL) continue;
        if (written < cap && size) memcpy(out + written, bytes, size < cap - written ? size : cap - written);
        written += size;
    }
    return written > INT_MAX ? INFC_ELIMIT : (int)written;
}

// Bytes at the end of text[0, size) that begin a UTF-8 character and could still become one: 0 to 3.
static size_t unfinished(const uint8_t *text, size_t size) {
    for (size_t n = 1; n <= 3 && n <= size; n++) {
        uint8_t lead = text[size - n];
        if ((lead & 0xC0) == 0x80) continue;
        size_t whole = lead >= 0xF5 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
        if (n >= whole) return 0;
        // The second byte decides whether overlong forms, surrogates and what lies past U+10FFFF are ruled out.
        if (n > 1) {
            uint8_t second = text[size - n + 1];
            if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second >= 0xA0) || (lead == 0xF0 && second < 0x90) ||
                (lead == 0xF4 && second >= 0x90))
                return 0;
        }
        return n;
    }
    return 0;
}

int infc_tok_decode(const infc_tokenizer *t, infc_decoder *d, int32_t id, int special, uint8_t *out, size_t cap) {
    size_t size = 0, held = d->n;
    const uint8_t *bytes = NULL;
    if (held > sizeof d->pending) return INFC_EINPUT;
    if (id >= 0) {
        bytes = infc_tok_bytes(t, id, &size);
        if (!bytes) return INFC_EINPUT;
        if (!special && t->token_flags[id] & TOKEN_SPECIAL) return 0;
    }
    if (held > cap || size > cap - held || held + size > INT_MAX) return INFC_ELIMIT;
    if (held) memcpy(out, d->pending, held);
    if (size) memcpy(out + held, bytes, size);
    size += held;
    held = id < 0 ? 0 : unfinished(out, size);
    size -= held;
    if (held) memcpy(d->pending, out + size, held);
    d->n = (uint32_t)held;
    return (int)size;
}
