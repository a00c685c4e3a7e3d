#include "infc_unigram.h"

#include <stdlib.h>
#include <string.h>

// LONGEST_ENTRY: bytes that the map replaces at once; Unicode's own have fewer than 20. A damaged map cannot lead farther.
enum { ON_STACK = 512, SOME_MARKS = 64, CHARACTER = 4, LONGEST_ENTRY = 64, LONGEST_REPLACEMENT = 255 };
// KEPT: bytes of a word from which on it is not kept; so it has no more tokens than INFC_CACHE_WORD, a mark that is three of bytes included.
enum { KEPT = INFC_CACHE_WORD - 2 };
// What becomes of an ASCII character that ASCII or nothing follows (map_classes): itself, one space, or something else.
enum { OTHER, PLAIN, SPACE };
#define UNREACHED UINT32_MAX

// The text after normalization, a few bytes at a time. Marks (U+2581) and spaces are one: a space.
typedef struct stream {
    const infc_tokenizer *t;
    const uint8_t *text;
    size_t size, at;
    const uint8_t *piece;  // what a few bytes at `at` became, not yet handed on
    size_t left;
    size_t waiting, ready;  // spaces that come if anything follows them; spaces that come now
    int prefix, some;       // a space comes now if what follows is none; something of the text came
    int after_space, leading;  // the piece before ended in a space; so these at the beginning of this one are too many
    int ended;
} stream;

// The best way to come to a position of the window: the last token, and where it begins.
typedef struct step {
    double score;
    uint32_t begin, token, next;
} step;

// Text that is not settled yet, (n) bytes, and the ways through it, (n + 1). Grows from the stack into memory.
typedef struct window {
    uint8_t *bytes;
    step *steps;
    size_t n, cap;
    void *owned[2];
} window;

static const uint8_t REPLACEMENT[3] = {0xEF, 0xBF, 0xBD};

static int is_mark(const uint8_t *text, size_t size) { return size >= 3 && text[0] == 0xE2 && text[1] == 0x96 && text[2] == 0x81; }

static uint32_t map_offset(uint32_t unit) { return unit >> 10 << ((unit & 512) >> 6); }

// The longest entry of the map that text begins with, a double array as Darts has it: from a place the way by byte c leads to the unit at
// place ^ c, if that has c for a label, and on to that place ^ its offset, where its value lies if its bit 8 is set. Returns the entry's
// bytes, 0 if there is none; *value: where in map_text what it becomes begins.
static size_t find_entry(const infc_tokenizer *t, const uint8_t *text, size_t size, uint32_t *value) {
    size_t length = 0;
    if (!t->n_map_units) return 0;
    uint32_t place = map_offset(t->map_units[0]);
    for (size_t i = 0; i < size && i < LONGEST_ENTRY && text[i]; i++) {
        place ^= text[i];
        if (place >= t->n_map_units) break;
        const uint32_t unit = t->map_units[place];
        if ((unit & 0x800000FF) != text[i]) break;
        place ^= map_offset(unit);
        if (!(unit & 256) || place >= t->n_map_units) continue;
        const uint32_t found = t->map_units[place] & 0x7FFFFFFF;
        if (found >= t->n_map_text) continue;
        *value = found;
        length = i + 1;
    }
    return length;
}

// What the longest entry of the map, or else a character, at s->at becomes.
static void next_piece(stream *s) {
    const infc_tokenizer *t = s->t;
    const uint8_t *text = s->text + s->at;
    uint32_t value = 0, code;
    size_t length = find_entry(t, text, s->size - s->at, &value);
    s->leading = s->after_space;
    if (length) {
        s->piece = t->map_text + value;
        for (s->left = 0; s->left < LONGEST_REPLACEMENT && value + s->left < t->n_map_text && s->piece[s->left]; s->left++) {}
    } else {
        length = infc_utf8_decode(text, s->size - s->at, &code);
        const int invalid = length == 1 && text[0] >= 0x80;
        s->piece = invalid ? REPLACEMENT : text;
        s->left = invalid ? sizeof REPLACEMENT : length;
    }
    s->at += length;
}

static int grow(window *w) {
    if (w->cap > UINT32_MAX / 8) return INFC_ELIMIT;
    const size_t cap = w->cap * 4;
    uint8_t *bytes = malloc(cap);
    step *steps = malloc((cap + 1) * sizeof *steps);
    if (!bytes || !steps) {
        free(bytes);
        free(steps);
        return INFC_ENOMEM;
    }
    memcpy(bytes, w->bytes, w->n);
    memcpy(steps, w->steps, (w->n + 1) * sizeof *steps);
    free(w->owned[0]);
    free(w->owned[1]);
    *w = (window){bytes, steps, w->n, cap, {bytes, steps}};
    return 0;
}

static int append(window *w, const uint8_t *bytes, size_t n) {
    if (n > w->cap - w->n) {
        const int error = grow(w);
        if (error) return error;
    }
    for (size_t i = 0; i < n; i++) {
        w->bytes[w->n++] = bytes[i];
        w->steps[w->n].begin = UNREACHED;
    }
    return 0;
}

// Appends the next bytes of the text, or ends the stream. 0, INFC_ENOMEM, INFC_ELIMIT.
static int more(stream *s, window *w) {
    static const uint8_t spaces[SOME_MARKS] = "                                                                ";
    const int merge = s->t->merge_spaces;
    for (;;) {
        if (s->ready) {
            const size_t n = s->ready < SOME_MARKS ? s->ready : SOME_MARKS;
            s->ready -= n;
            return append(w, spaces, n);
        }
        if (!s->left) {
            if (s->at == s->size) {
                if (s->waiting && s->some && s->t->keep_end) {
                    s->ready = 1;
                    s->waiting = 0;
                    continue;
                }
                s->ended = 1;
                return 0;
            }
            next_piece(s);
            continue;
        }
        const int mark = is_mark(s->piece, s->left), space = *s->piece == ' ';
        if (s->prefix) {
            s->prefix = 0;
            s->ready = !(mark || space);
            continue;
        }
        s->some = 1;
        if (mark || space) {
            s->piece += mark ? 3 : 1;
            s->left -= mark ? 3 : 1;
            if (!merge) return append(w, spaces, 1);
            s->waiting += !(space && s->leading);
            s->after_space = space;
            s->leading &= space;
            continue;
        }
        if (s->waiting) {
            s->ready = s->waiting;
            s->waiting = 0;
            continue;
        }
        uint32_t code;
        const size_t n = infc_utf8_decode(s->piece, s->left, &code);
        const int error = append(w, s->piece, n);
        s->piece += n;
        s->left -= n;
        s->after_space = s->leading = 0;
        return error;
    }
}

// Whether the window has a byte at `at`, once more of the text is there.
static inline int has(stream *s, window *w, size_t at, int *error) {
    while (at >= w->n && !s->ended && !*error) *error = more(s, w);
    return at < w->n && !*error;
}

static void put_unknown(const infc_tokenizer *t, const uint8_t *bytes, size_t n, int *unknown, infc_ids *out) {
    static const uint8_t mark[3] = {0xE2, 0x96, 0x81};
    if (!t->byte_ids) {
        if (!*unknown) infc_ids_put(out, t->unknown);
        *unknown = 1;
        return;
    }
    if (n == 1 && *bytes == ' ') bytes = mark, n = sizeof mark;
    for (size_t i = 0; i < n; i++) infc_ids_put(out, t->byte_ids[bytes[i]]);
}

// Begins the window at `at`.
static void drop(window *w, size_t at) {
    w->n -= at;
    memmove(w->bytes, w->bytes + at, w->n);
    for (size_t p = 1; p <= w->n; p++) w->steps[p].begin = UNREACHED;
}

// Writes the tokens of the best way to `end`.
static void put_way(const infc_tokenizer *t, const uint8_t *bytes, step *s, size_t end, int *unknown, infc_ids *out) {
    for (size_t p = end; p > 0; p = s[p].begin) s[s[p].begin].next = (uint32_t)p;
    for (size_t p = 0, q; p < end; p = q) {
        q = s[p].next;
        if (s[q].token == INFC_TRIE_NONE) {
            put_unknown(t, bytes + p, q - p, unknown, out);
        } else {
            infc_ids_put(out, s[q].token);
            *unknown = 0;
        }
    }
}

// Writes the tokens that lead to `at`, and begins the window there.
static void settle(const infc_tokenizer *t, window *w, size_t at, int *unknown, infc_ids *out) {
    step *s = w->steps;
    put_way(t, w->bytes, s, at, unknown, out);
    const int anew = t->split_spaces && at < w->n && w->bytes[at] == ' ';
    s[0].score = anew ? 0 : s[at].score;
    if (anew) *unknown = 0;
    drop(w, at);
}

static inline void offer(const infc_tokenizer *t, window *w, size_t from, size_t to, uint32_t token, double score) {
    step *s = &w->steps[to];
    score += w->steps[from].score;
    if (t->float_sums) score = (float)score;
    if (s->begin == UNREACHED || score > s->score) *s = (step){score, (uint32_t)from, token, 0};
}

// Offers every token that begins at `at`, and the unknown one if none is the character alone. Returns the farthest end; *length: the
// character's.
static size_t offer_all(stream *s, window *w, size_t at, size_t *length, int *error) {
    const infc_tokenizer *t = s->t;
    uint64_t node = infc_trie_root(&t->trie);
    uint32_t code;
    size_t farthest = at;
    int alone = 0;
    has(s, w, at + CHARACTER - 1, error);  // all bytes of the character, or those that there are
    *length = infc_utf8_decode(w->bytes + at, w->n - at, &code);
    for (size_t i = at; has(s, w, i, error) && (node = infc_trie_step(&t->trie, node, w->bytes[i])) != 0; i++) {
        const uint32_t token = infc_trie_token(node);
        if (token >= t->vocab_size) continue;
        farthest = i + 1;
        offer(t, w, at, farthest, token, t->scores[token]);
        alone |= farthest - at == *length;
    }
    if (!alone) {
        offer(t, w, at, at + *length, INFC_TRIE_NONE, t->scores[t->vocab_size]);
        if (farthest < at + *length) farthest = at + *length;
    }
    return farthest;
}

// The tokens of the window's first end bytes, which nothing before or behind them changes.
static int encode_word(stream *s, window *w, size_t end, infc_ids *out) {
    int error = 0, unknown = 0;
    for (size_t at = 0, length; at < end && !error; at += length) offer_all(s, w, at, &length, &error);
    if (!error && end) settle(s->t, w, end, &unknown, out);
    return error;
}

// The same of a word of up to INFC_CACHE_WORD bytes that lies apart: nothing grows, and nothing has to be asked for.
static void spell(const infc_tokenizer *t, const uint8_t *word, size_t n, infc_ids *out) {
    step s[INFC_CACHE_WORD + 1];
    const uint64_t root = infc_trie_root(&t->trie);
    uint32_t code;
    int unknown = 0;
    s[0].score = 0;
    for (size_t i = 1; i <= n; i++) s[i].begin = UNREACHED;
    for (size_t at = 0, length; at < n; at += length) {
        const double before = s[at].score;
        uint64_t node = root;
        int alone = 0;
        length = word[at] < 0x80 ? 1 : infc_utf8_decode(word + at, n - at, &code);
        for (size_t i = at; i < n && (node = infc_trie_step(&t->trie, node, word[i])) != 0; i++) {
            const uint32_t token = infc_trie_token(node);
            if (token >= t->vocab_size) continue;
            const double score = before + t->scores[token];
            alone |= i + 1 - at == length;
            if (s[i + 1].begin == UNREACHED || score > s[i + 1].score) s[i + 1] = (step){score, (uint32_t)at, token, 0};
        }
        if (alone) continue;
        const double score = before + t->scores[t->vocab_size];
        step *to = &s[at + length];
        if (to->begin == UNREACHED || score > to->score) *to = (step){score, (uint32_t)at, INFC_TRIE_NONE, 0};
    }
    put_way(t, word, s, n, &unknown, out);
}

// A word of fewer than KEPT bytes, zeros behind it up to INFC_CACHE_WORD: from the table of words that are one token, or what came of the
// same bytes before, or else spelled.
static void put_word(const infc_tokenizer *t, const uint64_t *key, size_t n, infc_merge_cache *c, infc_ids *out) {
    int32_t ids[INFC_CACHE_WORD];
    infc_ids made = {ids, INFC_CACHE_WORD, 0};
    if (n <= INFC_WORD_SHORT) {
        const uint32_t id = infc_word_find(&t->words, infc_word_key((const uint8_t *)key, n), 0);
        if (id < t->vocab_size) {
            infc_ids_put(out, id);
            return;
        }
    }
    const size_t slot = infc_cache_slot(c, key, (uint8_t)n);
    if (infc_cache_has(c, slot, key, (uint8_t)n)) {
        for (size_t i = 0; i < c->counts[slot]; i++) infc_ids_put(out, c->slots[slot].ids[i]);
        return;
    }
    spell(t, (const uint8_t *)key, n, &made);
    for (size_t i = 0; i < made.n; i++) infc_ids_put(out, (uint32_t)ids[i]);
    infc_cache_keep(c, slot, key, (uint8_t)n, (const uint32_t *)ids, made.n);
}

static int class_of(const infc_tokenizer *t, uint8_t byte) { return byte < 0x80 ? t->map_classes[byte] : OTHER; }

// Whether what stands at `at` is of that class: nothing but ASCII follows, which no entry of the map takes with it.
static int stands_alone(const stream *s, size_t at) { return at + 1 >= s->size || s->text[at + 1] < 0x80; }

// Words of plain ASCII, from raw text, as many as come. Whatever else comes is left to the window, which begins empty or with a space.
static void put_plain_words(stream *s, window *w, infc_merge_cache *c, infc_ids *out) {
    const infc_tokenizer *t = s->t;
    size_t at = s->at, lead = w->n;  // spaces before the word
    if (s->ready || s->prefix || lead > 1 || (lead && (*w->bytes != ' ' || s->waiting))) return;
    if (s->left) {  // a character that the window had to see
        if (s->piece + s->left != s->text + at) return;
        at -= s->left;
        s->left = 0;
    }
    while (at < s->size) {
        const int class = class_of(t, s->text[at]);
        if (class == OTHER || !stands_alone(s, at)) break;
        s->some = 1;
        if (class == SPACE) {
            at++;
            if (t->merge_spaces) {
                s->waiting += !s->after_space;
                s->after_space = 1;
                continue;
            }
            if (lead) {
                const uint64_t key[INFC_CACHE_WORD / 8] = {' '};
                put_word(t, key, 1, c, out);
            }
            lead = 1;
            continue;
        }
        uint64_t key[INFC_CACHE_WORD / 8] = {0};
        size_t n = 1;
        while (n < KEPT - 1 && at + n < s->size && class_of(t, s->text[at + n]) == PLAIN) n++;
        if (n == KEPT - 1 || s->waiting > 1) break;
        if (at + n < s->size && (class_of(t, s->text[at + n]) != SPACE || !stands_alone(s, at + n))) break;
        lead += s->waiting;
        s->waiting = 0;
        *(uint8_t *)key = ' ';
        memcpy((uint8_t *)key + lead, s->text + at, n);
        put_word(t, key, lead + n, c, out);
        s->after_space = 0;
        at += n;
        lead = 0;
    }
    s->at = at;
    w->n = lead;
    *w->bytes = ' ';
    w->steps[1].begin = UNREACHED;
}

// Text whose words are apart: one word after another.
static int encode_words(stream *s, window *w, infc_merge_cache *cache, infc_ids *out) {
    int error = 0;
    for (;;) {
        put_plain_words(s, w, cache, out);
        if (!has(s, w, 0, &error)) return error;
        size_t end = 1;
        while (has(s, w, end, &error) && w->bytes[end] != ' ') end++;
        if (error) return error;
        if (end < KEPT) {
            uint64_t key[INFC_CACHE_WORD / 8] = {0};
            memcpy(key, w->bytes, end);
            put_word(s->t, key, end, cache, out);
            drop(w, end);
        } else if ((error = encode_word(s, w, end, out)) != 0) {
            return error;
        }
        w->steps[0] = (step){0, 0, 0, 0};
    }
}

int infc_unigram_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, int prefix, infc_merge_cache *cache, infc_ids *out) {
    uint8_t bytes[ON_STACK];
    step steps[ON_STACK + 1];
    window w = {bytes, steps, 0, ON_STACK, {NULL, NULL}};
    stream s = {.t = t, .text = text, .size = size, .after_space = t->merge_spaces && (prefix || !t->prefix_first)};
    int error = 0, unknown = 0;  // unknown: the token before was the unknown one: several in a row are one
    if (prefix) *(t->merge_spaces ? &s.waiting : &s.ready) = 1;
    if (prefix && t->prefix_once && !t->merge_spaces) s.ready = 0, s.prefix = 1;
    steps[0] = (step){0, 0, 0, 0};
    if (t->words_apart) error = encode_words(&s, &w, cache, out);
    for (size_t at = 0, reach = 0, length; has(&s, &w, at, &error); at += length) {
        if (at && at >= reach) {
            settle(t, &w, at, &unknown, out);
            at = reach = 0;
        }
        const size_t end = offer_all(&s, &w, at, &length, &error);
        if (error) break;
        if (end > reach) reach = end;
    }
    if (!error && w.n) settle(t, &w, w.n, &unknown, out);
    free(w.owned[0]);
    free(w.owned[1]);
    return error;
}
