#include "infc_tokenizer.h"

#include <limits.h>
#include <string.h>

#include "infc_merge.h"
#include "infc_pieces.h"
#include "infc_program.h"

// The layout of compiler/tokenizer/section.py.
enum { VERSION = 3, N_HEADER = 12, PREFIX = 16, FLAG_ADD_BOS = 1, FLAG_SPACE_PREFIX = 4 };
enum { H_VOCAB_SIZE, H_N_MERGES, H_FLAGS, H_BOS, H_EOS, H_EOT, H_N_CLASSES, H_N_STAGES, H_KIND, H_WORD_HOMES,
       H_SHORT_HOMES, H_LONGEST_WORD };
enum {
    T_TOKEN_OFFSETS, T_TOKEN_BYTES, T_TOKEN_FLAGS, T_BYTE_IDS, T_MERGE_SLOTS, T_MERGE_IDS, T_WORD_SLOTS, T_CLASS_STAGE1,
    T_CLASS_STAGE2, T_SPLIT_STATES, T_SPLIT_ROWS, T_ADDED_ALL, T_ADDED_USER,
    T_SHORT_SLOTS, T_JOINS, T_CHAR_IDS, T_PRIORITIES, T_SCAN, N_TABLES
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

// Tables that both kinds of merging have.
static int open_merges(infc_tokenizer *t, const uint32_t *h, const table *s) {
    const size_t merge_slots = s[T_MERGE_SLOTS].size / 8, short_slots = s[T_SHORT_SLOTS].size / SLOT;
    if (s[T_BYTE_IDS].size != 1024 || s[T_MERGE_IDS].size != (size_t)h[H_N_MERGES] * 4 || s[T_MERGE_SLOTS].size % 8 || merge_slots == 0 ||
        merge_slots >= NONE || short_slots * SLOT != s[T_SHORT_SLOTS].size || short_slots >= NONE || h[H_SHORT_HOMES] >= short_slots ||
        s[T_JOINS].size != 256 * 32)
        return INFC_EFILE;
    t->n_merges = h[H_N_MERGES];
    t->n_merge_slots = (uint32_t)merge_slots;
    t->byte_ids = (const uint32_t *)(const void *)s[T_BYTE_IDS].at;
    t->merge_slots = (const uint64_t *)(const void *)s[T_MERGE_SLOTS].at;
    t->merge_ids = (const uint32_t *)(const void *)s[T_MERGE_IDS].at;
    t->words.slots = (const infc_word_slot *)(const void *)s[T_SHORT_SLOTS].at;
    t->words.n_homes = h[H_SHORT_HOMES];
    t->joins = s[T_JOINS].at;
    // The search walks forward until an empty slot.
    if (t->words.slots[short_slots - 1].high >> 32 != 0) return INFC_EFILE;
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
        s[T_TOKEN_BYTES].size >= NONE || h[H_KIND] > INFC_TOK_SPM)
        return INFC_EFILE;
    for (int i = H_BOS; i <= H_EOT; i++)
        if (h[i] != NONE && h[i] >= n) return INFC_EFILE;
    t->vocab_size = n;
    t->kind = h[H_KIND];
    t->bos = id_or_none(h[H_BOS]);
    t->eos = id_or_none(h[H_EOS]);
    t->eot = id_or_none(h[H_EOT]);
    t->add_bos = (h[H_FLAGS] & FLAG_ADD_BOS) != 0;
    t->space_prefix = (h[H_FLAGS] & FLAG_SPACE_PREFIX) != 0;
    t->n_token_bytes = (uint32_t)s[T_TOKEN_BYTES].size;
    t->token_offsets = (const uint32_t *)(const void *)s[T_TOKEN_OFFSETS].at;
    t->token_bytes = s[T_TOKEN_BYTES].at;
    t->token_flags = s[T_TOKEN_FLAGS].at;
    if (open_added(&t->added_all, s[T_ADDED_ALL], n) || open_added(&t->added_user, s[T_ADDED_USER], n) || open_merges(t, h, s)) return INFC_EFILE;
    return t->kind == INFC_TOK_SPM ? open_spm(t, h, s) : open_bpe(t, h, s);
}

const uint8_t *infc_tok_bytes(const infc_tokenizer *t, int32_t id, size_t *size) {
    *size = 0;
    if (id < 0 || (uint32_t)id >= t->vocab_size) return NULL;
    uint32_t begin = t->token_offsets[id], end = t->token_offsets[id + 1];
    if (begin > end || end > t->n_token_bytes) return t->token_bytes;  // a damaged section: an empty token
    *size = end - begin;
    return t->token_bytes + begin;
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

// Text without added tokens. isa is a constant at each call, so that the scan is inlined as its own ISA has it.
__attribute__((always_inline)) static inline int encode_words(infc_scan_isa isa, const infc_tokenizer *t, const uint8_t *text, size_t size,
                                                              infc_merge_cache *cache, infc_ids *out) {
    infc_pretok_cursor c;
    infc_pretok_start(&c, size);
    for (size_t at = 0; at < size; at = c.at) {
        c.at = infc_scan_word(isa, &t->scan, text, at, size);
        if (c.at == at) infc_pretok_next(&t->pretok, &c, text);
        const size_t n = c.at - at, left = size - at;
        if (n <= INFC_WORD_SHORT) {
            const infc_word_slot key = left < INFC_WORD_LOAD ? infc_word_key_at_end(text + at, n) : infc_word_key(text + at, n);
            const uint32_t id = infc_word_find(&t->words, key, 0);
            if (id < t->vocab_size) {
                infc_ids_put(out, id);
                continue;
            }
        }
        const int error = infc_merge_word(t, cache, text + at, n, left, out);
        if (error) return error;
    }
    return 0;
}

#if INFC_SCAN_WIDE
__attribute__((target("avx2"))) static int encode_avx2(const infc_tokenizer *t, const uint8_t *text, size_t size, infc_merge_cache *cache,
                                                       infc_ids *out) {
    return encode_words(INFC_SCAN_AVX2, t, text, size, cache, out);
}

__attribute__((target("avx512f,avx512bw"))) static int encode_avx512(const infc_tokenizer *t, const uint8_t *text, size_t size,
                                                                     infc_merge_cache *cache, infc_ids *out) {
    return encode_words(INFC_SCAN_AVX512, t, text, size, cache, out);
}
#endif

static int encode_plain(const infc_tokenizer *t, const uint8_t *text, size_t size, infc_merge_cache *cache, infc_ids *out) {
#if INFC_SCAN_WIDE
    if (t->isa == INFC_SCAN_AVX512) return encode_avx512(t, text, size, cache, out);
    if (t->isa == INFC_SCAN_AVX2) return encode_avx2(t, text, size, cache, out);
#endif
    return encode_words(INFC_SCAN_SCALAR, t, text, size, cache, out);
}

void infc_tok_use_cpu(infc_tokenizer *t, uint32_t features) {
    t->isa = INFC_SCAN_SCALAR;
    if (!INFC_SCAN_WIDE) return;
    if (features & INFC_CPU_AVX2) t->isa = INFC_SCAN_AVX2;
    if (features & INFC_CPU_AVX512) t->isa = INFC_SCAN_AVX512;
}

static int is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

size_t infc_tok_skip(const infc_tokenizer *t, int32_t id, const uint8_t *text, size_t at, size_t size) {
    if (id < 0 || (uint32_t)id >= t->vocab_size || !(t->token_flags[id] & INFC_TOKEN_RSTRIP)) return at;
    while (at < size && is_space(text[at])) at++;
    return at;
}

int infc_tok_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, uint32_t flags, infc_ids *out) {
    if (flags & INFC_TOKENIZE_BOS && t->add_bos && t->bos != INFC_TOKEN_NONE) infc_ids_put(out, (uint32_t)t->bos);
    size_t at = 0, begin = 0, end = 0;
    int first = 1;           // nothing but added tokens so far, or since the last one
    infc_merge_cache cache;  // on the stack: nothing to share between threads, nothing to free
    cache.ready = 0;
    while (at < size) {
        int32_t id = infc_tok_find_added(t, (flags & INFC_TOKENIZE_SPECIAL) != 0, text, at, size, &begin, &end);
        if (id == INFC_TOKEN_NONE) begin = end = size;
        if (begin > at) {
            int error = t->kind == INFC_TOK_SPM ? infc_pieces_encode(t, text + at, begin - at, t->space_prefix && first, &cache, out)
                                                : encode_plain(t, text + at, begin - at, &cache, out);
            if (error) return error;
            first = 0;
        }
        if (id != INFC_TOKEN_NONE) {
            infc_ids_put(out, (uint32_t)id);
            end = infc_tok_skip(t, id, text, end, size);
            first = 1;
        }
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
    return (t->token_flags[id] & INFC_TOKEN_EOG) != 0;
}

int infc_tok_detokenize(const infc_tokenizer *t, const int32_t *ids, size_t n, int special, uint8_t *out, size_t cap) {
    size_t written = 0;
    int put = t->space_prefix;  // a space was put before the text that comes now
    for (size_t i = 0; i < n; i++) {
        size_t size;
        const uint8_t *bytes = infc_tok_bytes(t, ids[i], &size);
        if (!bytes) return INFC_EINPUT;
        const uint8_t flags = t->token_flags[ids[i]];
        if (flags & INFC_TOKEN_SPECIAL && !special) {
            put = t->space_prefix;
            continue;
        }
        if (flags & (INFC_TOKEN_SPECIAL | INFC_TOKEN_USER)) {
            put = t->space_prefix;
        } else if (put) {
            put = 0;
            if (size && bytes[0] == ' ') bytes++, size--;
        }
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
        if (!special && t->token_flags[id] & INFC_TOKEN_SPECIAL) return 0;
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
