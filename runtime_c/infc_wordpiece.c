#include "infc_wordpiece.h"

#include <string.h>

// The word that is being read, as it is looked up: its characters after normalization.
typedef struct word {
    uint32_t n, bytes;
    uint32_t run;    // characters from here on may change places with a combining one that comes
    int too_long;    // more than INFC_WORDPIECE_WORD characters
    uint8_t text[INFC_WORDPIECE_WORD * 4], size[INFC_WORDPIECE_WORD], order[INFC_WORDPIECE_WORD];
} word;

// Appends a character. order: 0, or the class of a combining one, which goes before those of higher classes.
static void add(word *w, const uint8_t *utf8, uint32_t size, uint32_t order) {
    if (w->n == INFC_WORDPIECE_WORD || size == 0 || size > 4) {
        w->too_long |= w->n == INFC_WORDPIECE_WORD;
        return;
    }
    uint32_t at = w->n, byte = w->bytes;
    while (order && at > w->run && w->order[at - 1] > order) byte -= w->size[--at];
    if (at < w->n) {
        memmove(w->text + byte + size, w->text + byte, w->bytes - byte);
        memmove(w->size + at + 1, w->size + at, w->n - at);
        memmove(w->order + at + 1, w->order + at, w->n - at);
    }
    memcpy(w->text + byte, utf8, size);
    w->size[at] = (uint8_t)size;
    w->order[at] = (uint8_t)order;
    w->n++;
    w->bytes += size;
    if (!order) w->run = w->n;
}

// The tokens of the word, and an empty word in its place.
static void finish(word *w, const infc_tokenizer *t, infc_ids *out) {
    const size_t before = out->n;
    uint64_t from = t->word_begin;
    int unknown = w->too_long;
    for (uint32_t at = 0, end = 0; at < w->bytes && !unknown; at = end, from = infc_trie_root(&t->trie)) {
        uint64_t node = from;
        uint32_t found = INFC_TRIE_NONE;
        for (uint32_t i = at; i < w->bytes && (node = infc_trie_step(&t->trie, node, w->text[i])) != 0; i++) {
            if (infc_trie_token(node) >= t->vocab_size) continue;
            found = infc_trie_token(node);
            end = i + 1;
        }
        if (found == INFC_TRIE_NONE) unknown = 1;
        else infc_ids_put(out, found);
    }
    if (unknown) {
        out->n = before;
        infc_ids_put(out, t->unknown);
    }
    w->n = w->bytes = w->run = 0;
    w->too_long = 0;
}

static void add_alone(word *w, const infc_tokenizer *t, const uint8_t *utf8, uint32_t size, infc_ids *out) {
    if (w->n) finish(w, t, out);
    add(w, utf8, size, 0);
    if (w->n) finish(w, t, out);
}

static void add_sequence(word *w, const infc_tokenizer *t, uint32_t sequence, infc_ids *out) {
    const infc_characters *c = &t->characters;
    if (sequence >= c->n_sequences) return;
    uint32_t at = c->offsets[sequence], end = c->offsets[sequence + 1];
    if (end > c->n_items) return;
    while (at < end && end - at >= 2 && c->items[at + 1] <= end - at - 2) {
        const uint32_t kind = c->items[at] & 7, order = c->items[at] >> 3, size = c->items[at + 1];
        if (kind == INFC_CHAR_ALONE) add_alone(w, t, c->items + at + 2, size, out);
        else if (kind == INFC_CHAR_FENCE) w->run = w->n;
        else add(w, c->items + at + 2, size, order);
        at += 2 + size;
    }
}

// A syllable as its two or three letters (Unicode's chapter 3.12).
static void add_hangul(word *w, uint32_t code) {
    enum { SYLLABLES = 0xAC00, LEADING = 0x1100, VOWELS = 0x1161, TRAILING = 0x11A7, N_VOWELS = 21, N_TRAILING = 28 };
    const uint32_t s = code - SYLLABLES, trailing = s % N_TRAILING;
    const uint32_t letters[3] = {LEADING + s / (N_VOWELS * N_TRAILING), VOWELS + s / N_TRAILING % N_VOWELS, TRAILING + trailing};
    for (int i = 0; i < (trailing ? 3 : 2); i++) {
        const uint8_t utf8[3] = {(uint8_t)(0xE0 | letters[i] >> 12), (uint8_t)(0x80 | (letters[i] >> 6 & 63)), (uint8_t)(0x80 | (letters[i] & 63))};
        add(w, utf8, 3, 0);
    }
}

int infc_wordpiece_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, infc_ids *out) {
    word w;
    w.n = w.bytes = w.run = 0;
    w.too_long = 0;
    for (size_t at = 0, bytes; at < size; at += bytes) {
        uint32_t code;
        bytes = infc_utf8_decode(text + at, size - at, &code);
        const uint32_t kind = infc_char_kind(&t->characters, code);
        switch (kind) {
            case INFC_CHAR_DROP: break;
            case INFC_CHAR_LETTER: add(&w, text + at, (uint32_t)bytes, 0); break;
            case INFC_CHAR_ALONE: add_alone(&w, t, text + at, (uint32_t)bytes, out); break;
            case INFC_CHAR_SPACE: if (w.n) finish(&w, t, out); break;
            case INFC_CHAR_FENCE: w.run = w.n; break;
            case INFC_CHAR_HANGUL: add_hangul(&w, code); break;
            default: add_sequence(&w, t, kind - INFC_CHAR_SEQUENCE, out);
        }
    }
    if (w.n) finish(&w, t, out);
    return 0;
}
