// infc_merge.c: byte-pair merging. A word is looked up whole, then cut where no merge can join its bytes, then merged part by part.
#include "infc_merge.h"

#include <stdlib.h>
#include <string.h>

#include "infc_pieces.h"

#define NONE UINT32_MAX
#define NO_MERGE UINT32_MAX
#define FIBONACCI UINT64_C(0x9E3779B97F4A7C15)
#define SECOND UINT64_C(0xD6E8FEB86659FD93)
#define FNV_BASIS UINT64_C(0xCBF29CE484222325)
#define FNV_PRIME UINT64_C(0x100000001B3)

enum { RANK_BITS = 24, ID_BITS = 20 };
// A part of up to SHORT bytes is merged by scanning for the best pair, a longer one with a heap; up to MIDDLE it is on the stack.
// A word of up to UNCACHED bytes is merged in less time than the cache takes to look and keep.
enum { UNCACHED = 2, SHORT = 64, RATE_BITS = 7, MIDDLE = 512 };
// A symbol beyond every token: no pair with it is in the table.
#define NO_SYMBOL (UINT64_C(1) << 43)

// Rank of the merge of two tokens, NO_MERGE if there is none. Two loads and no branch: which pairs can merge is hard to predict.
static inline uint32_t rank_of(const infc_tokenizer *t, uint64_t left, uint64_t right) {
    const uint64_t key = left << ID_BITS | right;
    const uint64_t one = t->merge_slots[((key * FIBONACCI >> 32) * t->n_merge_slots) >> 32];
    const uint64_t two = t->merge_slots[((key * SECOND >> 32) * t->n_merge_slots) >> 32];
    const uint64_t is_one = -(uint64_t)(one >> RANK_BITS == key), is_two = -(uint64_t)(two >> RANK_BITS == key);
    // All ones where neither is: no rank, for there are fewer merges.
    const uint64_t rank = ((one & is_one) | (two & is_two) | ~(is_one | is_two)) & ((1u << RANK_BITS) - 1);
    return rank < t->n_merges ? (uint32_t)rank : NO_MERGE;
}

// The token that a merge makes; in a damaged section any.
static inline uint32_t made_by(const infc_tokenizer *t, uint32_t rank) {
    return t->merge_ids[rank] < t->vocab_size ? t->merge_ids[rank] : 0;
}

// The token whose bytes are the whole word, of more than INFC_WORD_SHORT bytes; NONE if there is none.
static uint32_t long_word(const infc_tokenizer *t, const uint8_t *word, size_t size) {
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

// The order in which the merge of a rank comes. spm is a constant at every call.
static inline uint32_t priority_of(int spm, const infc_tokenizer *t, uint32_t rank) {
    return spm && t->priorities && rank != NO_MERGE ? t->priorities[rank] & ((1u << RANK_BITS) - 1) : rank;
}

// rank << 7 | i of the pair that symbol i begins: the least of these words is the next merge, leftmost of equal ones.
static inline uint32_t rated(uint32_t rank, size_t i) { return rank == NO_MERGE ? NO_MERGE : rank << RATE_BITS | (uint32_t)i; }

// Merges a part of up to SHORT bytes into ids (SHORT); returns how many tokens it makes. Symbols stay where they begin, linked, with
// one that pairs with nothing at each end: where a merge happens cannot be predicted, so nothing branches on it.
__attribute__((always_inline)) static inline size_t merge_short_of(int spm, const infc_tokenizer *t, const uint8_t *part, size_t size,
                                                                   uint32_t *ids) {
    uint64_t symbols[SHORT + 2];
    uint32_t rates[SHORT + 3];  // NO_MERGE also for symbols that are gone
    uint8_t next[SHORT + 2], previous[SHORT + 2];
    size_t n = 0, kept = 0;
    symbols[0] = NO_SYMBOL;
    if (spm) {
        n = infc_pieces_symbols(t, part, size, ids);
        for (size_t i = 0; i < n; i++) symbols[i + 1] = ids[i];
    } else {
        for (size_t i = 0; i < size; i++) {
            symbols[n + 1] = t->byte_ids[part[i]];
            n += symbols[n + 1] != NONE;
        }
    }
    symbols[n + 1] = NO_SYMBOL;
    rates[0] = rates[n + 1] = rates[n + 2] = NO_MERGE;
    for (size_t i = 1; i <= n; i++) {
        rates[i] = rated(priority_of(spm, t, rank_of(t, symbols[i], symbols[i + 1])), i);
        next[i] = (uint8_t)(i + 1);
        previous[i] = (uint8_t)(i - 1);
    }
    for (;;) {
        uint32_t odd = NO_MERGE, even = NO_MERGE;
        for (size_t i = 1; i <= n; i += 2) {
            odd = rates[i] < odd ? rates[i] : odd;
            even = rates[i + 1] < even ? rates[i + 1] : even;
        }
        const uint32_t least = odd < even ? odd : even;
        if (least == NO_MERGE) break;
        const size_t at = least & ((1u << RATE_BITS) - 1), gone = next[at], left = previous[at], right = next[gone];
        const uint32_t rank = spm && t->priorities ? rank_of(t, symbols[at], symbols[gone]) : least >> RATE_BITS;
        symbols[at] = made_by(t, rank);
        next[at] = (uint8_t)right;
        previous[right] = (uint8_t)at;
        rates[gone] = NO_MERGE;
        rates[at] = rated(priority_of(spm, t, rank_of(t, symbols[at], symbols[right])), at);
        rates[left] = rated(priority_of(spm, t, rank_of(t, symbols[left], symbols[at])), left);
    }
    for (size_t i = 1; i <= n; i = next[i]) ids[kept++] = (uint32_t)symbols[i];
    return kept;
}

static size_t merge_short(const infc_tokenizer *t, const uint8_t *part, size_t size, uint32_t *ids) {
    return merge_short_of(0, t, part, size, ids);
}

static size_t merge_short_spm(const infc_tokenizer *t, const uint8_t *part, size_t size, uint32_t *ids) {
    return merge_short_of(1, t, part, size, ids);
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
    if (s[at].rank != NO_MERGE) heap_push(h, (uint64_t)priority_of(1, t, s[at].rank) << 32 | at);
}

static uint32_t add_symbol(symbol *s, uint32_t n, uint32_t id) {
    s[n] = (symbol){id, NO_MERGE, n ? n - 1 : NONE, n + 1};
    return n + 1;
}

// Symbols of a part, with a space before it if lead; returns how many, at most size + lead.
static uint32_t begin_symbols(const infc_tokenizer *t, const uint8_t *part, size_t size, int lead, symbol *s) {
    uint32_t n = 0, ids[INFC_CHAR_IDS];
    if (lead) n = add_symbol(s, n, infc_space_id(t));
    if (t->kind == INFC_TOK_SPM) {
        for (size_t at = 0, some; at < size;) {
            at += infc_char_symbols(t, part + at, size - at, ids, &some);
            for (size_t i = 0; i < some; i++) n = add_symbol(s, n, ids[i]);
        }
        return n;
    }
    for (size_t i = 0; i < size; i++)
        if (t->byte_ids[part[i]] != NONE) n = add_symbol(s, n, t->byte_ids[part[i]]);
    return n;
}

// Room: s (size + lead), h.items (2 * (size + lead)): a merge takes one pair from the heap and adds at most two.
static void merge_in(const infc_tokenizer *t, const uint8_t *part, size_t size, int lead, symbol *s, heap h, infc_ids *out) {
    const uint32_t n = begin_symbols(t, part, size, lead, s);
    if (n) s[n - 1].next = NONE;
    for (uint32_t i = 0; i < n; i++) pair_up(t, s, i, &h);
    while (h.n) {
        uint64_t item = heap_pop(&h);
        uint32_t at = (uint32_t)item, rank = s[at].rank;
        if (rank == NO_MERGE || priority_of(1, t, rank) != item >> 32) continue;  // the pair has changed since
        uint32_t gone = s[at].next;
        s[at].id = made_by(t, rank);
        s[at].next = s[gone].next;
        s[gone].rank = NO_MERGE;
        if (s[at].next != NONE) s[s[at].next].previous = at;
        pair_up(t, s, at, &h);
        if (s[at].previous != NONE) pair_up(t, s, s[at].previous, &h);
    }
    for (uint32_t i = 0; i < n; i = s[i].next) infc_ids_put(out, s[i].id);
}

__attribute__((noinline)) static void merge_middle(const infc_tokenizer *t, const uint8_t *part, size_t size, int lead, infc_ids *out) {
    symbol s[MIDDLE];
    uint64_t items[2 * MIDDLE];
    merge_in(t, part, size, lead, s, (heap){items, 0}, out);
}

static int merge_long(const infc_tokenizer *t, const uint8_t *part, size_t size, int lead, infc_ids *out) {
    if (size >= NONE - 1) return INFC_ELIMIT;
    const size_t room = size + (size_t)lead;
    symbol *s = malloc(room * sizeof *s);
    uint64_t *items = malloc(2 * room * sizeof *items);
    if (s && items) merge_in(t, part, size, lead, s, (heap){items, 0}, out);
    const int error = s && items ? 0 : INFC_ENOMEM;
    free(s);
    free(items);
    return error;
}

// Where the part that begins at `at` ends: before the first byte that no merge joins to the one before it.
static size_t part_end(const infc_tokenizer *t, const uint8_t *word, size_t at, size_t size) {
    for (at++; at < size; at++)
        if (!(t->joins[word[at - 1] * 32 + (word[at] >> 3)] >> (word[at] & 7) & 1)) break;
    return at;
}

// Tokens of a word of up to INFC_CACHE_WORD bytes, or of a part of one, into ids (SHORT); returns how many.
static size_t merge_parts(const infc_tokenizer *t, const uint8_t *word, size_t size, int part, uint32_t *ids) {
    size_t n = 0;
    if (!part && size > INFC_WORD_SHORT && size <= t->longest_word) {
        ids[0] = long_word(t, word, size);
        if (ids[0] != NONE) return 1;
    }
    for (size_t at = 0, end; at < size; at = end) {
        end = part_end(t, word, at, size);
        if (end - at == 1) {
            ids[n] = t->byte_ids[word[at]];
            n += ids[n] != NONE;
            continue;
        }
        if (end - at <= INFC_WORD_SHORT) {
            ids[n] = infc_word_find(&t->words, infc_word_key_at_end(word + at, end - at), 1);
            if (ids[n] < t->vocab_size) {
                n++;
                continue;
            }
        }
        n += merge_short(t, word + at, end - at, ids + n);
    }
    return n;
}

static void put_all(infc_ids *out, const uint32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) infc_ids_put(out, ids[i]);
}

// As merge_parts, of a part that is merged from characters.
static size_t merge_piece(const infc_tokenizer *t, const uint8_t *part, size_t size, uint32_t *ids) {
    if (size <= INFC_WORD_SHORT) {
        ids[0] = infc_word_find(&t->words, infc_word_key_at_end(part, size), 1);
        if (ids[0] < t->vocab_size) return 1;
    }
    return merge_short_spm(t, part, size, ids);
}

// A word of up to INFC_CACHE_WORD bytes, or a part of one: they are kept apart, for a whole word may be a token that no merge makes.
static void merge_cached(const infc_tokenizer *t, infc_merge_cache *c, const uint8_t *word, size_t size, size_t readable, int part,
                         infc_ids *out) {
    static const uint8_t keep[2 * INFC_CACHE_WORD] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                                      255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    uint64_t key[INFC_CACHE_WORD / 8] = {0}, mask[INFC_CACHE_WORD / 8];
    if (readable < sizeof key) {
        memcpy(key, word, size);
    } else {
        memcpy(key, word, sizeof key);
        memcpy(mask, keep + INFC_CACHE_WORD - size, sizeof mask);
        for (int i = 0; i < INFC_CACHE_WORD / 8; i++) key[i] &= mask[i];
    }
    const uint8_t tag = (uint8_t)(size | (unsigned)part << 7);
    const size_t slot = infc_cache_slot(c, key, tag);
    if (infc_cache_has(c, slot, key, tag)) {
        put_all(out, c->slots[slot].ids, c->counts[slot]);
        return;
    }
    uint32_t ids[SHORT];
    const size_t n = t->kind == INFC_TOK_SPM ? merge_piece(t, word, size, ids) : merge_parts(t, word, size, part, ids);
    put_all(out, ids, n);
    infc_cache_keep(c, slot, key, tag, ids, n);
}

int infc_merge_word(const infc_tokenizer *t, infc_merge_cache *cache, const uint8_t *word, size_t size, size_t readable, infc_ids *out) {
    uint32_t ids[SHORT];
    if (size <= UNCACHED) {
        put_all(out, ids, merge_parts(t, word, size, 0, ids));
        return 0;
    }
    if (size <= INFC_CACHE_WORD) {
        merge_cached(t, cache, word, size, readable, 0, out);
        return 0;
    }
    if (size <= t->longest_word) {
        const uint32_t id = long_word(t, word, size);
        if (id != NONE) {
            infc_ids_put(out, id);
            return 0;
        }
    }
    int error = 0;
    for (size_t at = 0, end; at < size && !error; at = end) {
        end = part_end(t, word, at, size);
        const size_t n = end - at;
        if (n <= UNCACHED) put_all(out, ids, merge_parts(t, word + at, n, 1, ids));
        else if (n <= INFC_CACHE_WORD) merge_cached(t, cache, word + at, n, readable - at, 1, out);
        else if (n <= SHORT) put_all(out, ids, merge_short(t, word + at, n, ids));
        else if (n <= MIDDLE) merge_middle(t, word + at, n, 0, out);
        else error = merge_long(t, word + at, n, 0, out);
    }
    return error;
}

int infc_merge_part(const infc_tokenizer *t, infc_merge_cache *cache, const uint8_t *part, size_t size, size_t readable, int lead,
                    infc_ids *out) {
    uint32_t ids[SHORT];
    uint8_t led[SHORT];
    if (lead && size < SHORT) {
        led[0] = ' ';
        memcpy(led + 1, part, size);
        part = led;
        readable = ++size;
        lead = 0;
    }
    if (lead || size > SHORT) {
        if (size + (size_t)lead > MIDDLE) return merge_long(t, part, size, lead, out);
        merge_middle(t, part, size, lead, out);
    } else if (size <= UNCACHED || size > INFC_CACHE_WORD) {
        put_all(out, ids, merge_piece(t, part, size, ids));
    } else {
        merge_cached(t, cache, part, size, readable, 1, out);
    }
    return 0;
}
