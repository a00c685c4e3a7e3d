#include "infc_tokenizer.h"

#include <limits.h>
#include <string.h>

#include "infc_merge.h"
#include "infc_pieces.h"
#include "infc_program.h"
#include "infc_unigram.h"
#include "infc_wordpiece.h"

#define NONE UINT32_MAX

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

static int begins_with_space(const uint8_t *text, size_t size) { return size && (text[0] == ' ' || infc_is_mark(text, size)); }

// Text without added tokens; first: a space comes first that is not in the text.
static int encode_part(const infc_tokenizer *t, const uint8_t *text, size_t size, int first, infc_merge_cache *cache, infc_ids *out) {
    switch (t->kind) {
        case INFC_TOK_SPM: return infc_pieces_encode(t, text, size, first && !(t->prefix_once && begins_with_space(text, size)), cache, out);
        case INFC_TOK_WORDPIECE: return infc_wordpiece_encode(t, text, size, out);
        case INFC_TOK_UNIGRAM: return infc_unigram_encode(t, text, size, first, cache, out);
        default: return encode_plain(t, text, size, cache, out);
    }
}

int infc_tok_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, uint32_t flags, infc_ids *out) {
    if (flags & INFC_TOKENIZE_BOS && t->add_bos && t->bos != INFC_TOKEN_NONE) infc_ids_put(out, (uint32_t)t->bos);
    size_t at = 0, begin = 0, end = 0;
    int first = !(flags & INFC_TOK_CONTINUES && t->prefix_first);  // nothing but added tokens so far, or since the last one
    infc_merge_cache cache;  // on the stack: nothing to share between threads, nothing to free
    cache.ready = 0;
    while (at < size) {
        int32_t id = infc_tok_find_added(t, (flags & INFC_TOKENIZE_SPECIAL) != 0, text, at, size, &begin, &end);
        if (id == INFC_TOKEN_NONE) begin = end = size;
        if (begin > at) {
            int error = encode_part(t, text + at, begin - at, first && t->space_prefix, &cache, out);
            if (error) return error;
            first = 0;
        }
        if (id != INFC_TOKEN_NONE) {
            infc_ids_put(out, (uint32_t)id);
            end = infc_tok_skip(t, id, text, end, size);
            first = !t->prefix_first;
        }
        at = end;
    }
    if (flags & INFC_TOKENIZE_END && t->add_sep && t->sep != INFC_TOKEN_NONE) infc_ids_put(out, (uint32_t)t->sep);
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
    int put = t->space_prefix || t->merge_spaces;  // a space before the text that comes now is not of the text
    // To SentencePiece text begins anew after an added token; WordPiece's spaces are between words, whatever these are.
    const int again = put && t->kind != INFC_TOK_WORDPIECE && !t->prefix_first;
    for (size_t i = 0; i < n; i++) {
        size_t size;
        const uint8_t *bytes = infc_tok_bytes(t, ids[i], &size);
        if (!bytes) return INFC_EINPUT;
        const uint8_t flags = t->token_flags[ids[i]];
        if (flags & INFC_TOKEN_SPECIAL && !special) {
            if ((uint32_t)ids[i] != t->unknown) put |= again;  // the unknown token stands for text
            continue;
        }
        if (flags & (INFC_TOKEN_SPECIAL | INFC_TOKEN_USER)) {
            put = again;
        } else if (put) {
            if (size && bytes[0] == ' ') bytes++, size--;
            put = t->merge_spaces && written + size == 0;  // of several at the start none is text
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
