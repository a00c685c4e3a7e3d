// infc_tokenizer.h: text to tokens and back over the TOKENIZER section of the blob (compiler/tokenizer/section.py).
//
// Kinds: byte-level byte-pair encoding of words that automata cut; SentencePiece's, which merges from characters; BERT's WordPiece;
// and SentencePiece's unigram model.
// Text is any bytes, NUL and invalid UTF-8 included; tokens decode to exactly those bytes. Exceptions: a byte that a byte-level
// vocabulary has no token for (SmolLM2 lacks 21 that never occur in common text) is dropped, as HF `tokenizers` does; to SentencePiece
// the mark U+2581 is a space; white space after a token that swallows it (Phi-3's) is gone; WordPiece and unigram models give back
// what they made of a text.
// An infc_tokenizer is pointers into the section, which must outlive it; it is never written after open, so threads may share it.
#ifndef INFC_TOKENIZER_H
#define INFC_TOKENIZER_H
#include <stddef.h>
#include <stdint.h>

#include "infc.h"
#include "infc_characters.h"
#include "infc_pretok.h"
#include "infc_scan.h"
#include "infc_trie.h"
#include "infc_words.h"

enum { INFC_TOKEN_NONE = -1, INFC_TOKEN_SPECIAL = 1, INFC_TOKEN_EOG = 2, INFC_TOKEN_RSTRIP = 4, INFC_TOKEN_USER = 8 };
enum { INFC_TOK_BPE, INFC_TOK_SPM, INFC_TOK_WORDPIECE, INFC_TOK_UNIGRAM };

// Added tokens, found in raw text by an automaton over bytes (compiler/tokenizer/added.py).
typedef struct infc_added {
    uint32_t n_states, n_classes;  // 0 states: no such tokens
    const uint8_t *classes;        // (256)
    const uint32_t *out;           // (n_states) the token that ends on entering a state, or ~0
    const uint16_t *next;          // (n_states, n_classes) 0 dead, 1 start
    int first;                     // the one byte that begins a token, or -1 if there are several
    uint8_t begins[256];           // 1 for bytes that begin a token
} infc_added;

typedef struct infc_tokenizer {
    uint32_t vocab_size, n_merges, n_merge_slots, word_homes, n_word_slots, longest_word;
    int32_t bos, eos, eot;  // INFC_TOKEN_NONE if the model has none
    uint32_t kind;          // INFC_TOK_*
    int add_bos;
    int32_t sep;  // ends a text where add_sep, or INFC_TOKEN_NONE
    int add_sep;
    uint32_t unknown;     // WORDPIECE, UNIGRAM: the token of what none spell
    uint64_t word_begin;  // WORDPIECE: the node of the trie where words begin; 0: none does, and each is unknown
    int space_prefix;  // a space is put before text at the start and after an added token, and dropped there by detokenizing
    uint32_t n_token_bytes;
    const uint32_t *token_offsets;  // (vocab_size + 1) into token_bytes
    const uint8_t *token_bytes;
    const uint8_t *token_flags;   // (vocab_size) INFC_TOKEN_SPECIAL, _EOG: ends a generation, _RSTRIP: swallows white space after it, _USER: added
    const uint32_t *byte_ids;     // (256) or ~0; UNIGRAM: NULL where what is unknown has no bytes
    const uint32_t *char_ids;     // SPM: (128) tokens of ASCII characters or ~0
    const uint32_t *priorities;   // SPM: (n_merges) order of a rank's merge; NULL: the ranks themselves
    const uint64_t *merge_slots;  // (n_merge_slots) left << 44 | right << 24 | rank
    const uint32_t *merge_ids;    // (n_merges) what a merge makes
    const uint32_t *word_slots;   // (n_word_slots) tokens of over 12 bytes by hash of their bytes
    const uint8_t *joins;         // (256, 32) bit b & 7 of [a, b >> 3]: a merge may join a word's bytes a and b
    infc_words words;             // tokens of up to 12 bytes; UNIGRAM: words that are one token
    infc_pretok pretok;
    infc_characters characters;
    infc_trie trie;
    const uint32_t *map_units;  // UNIGRAM: (n_map_units) what is replaced, see infc_unigram.c
    const uint8_t *map_text;    // (n_map_text) by what
    const uint8_t *map_classes;  // UNIGRAM: (128) what becomes of an ASCII character before another
    uint32_t n_map_units, n_map_text;
    const double *scores;  // UNIGRAM: (vocab_size + 1), the last one that of what is unknown
    int merge_spaces;      // UNIGRAM: runs of spaces are one, those at the ends of a text go
    int keep_end;          // with merge_spaces: but at the end one stays
    int split_spaces;      // UNIGRAM: no token has a space but at its beginning, and a sum begins anew before each
    int words_apart;       // UNIGRAM: what is before a space decides nothing of what is from there on
    int float_sums;        // UNIGRAM: sums are rounded to floats, as SentencePiece's are
    int prefix_once;       // with space_prefix: not before a text that begins with a space
    int prefix_first;      // with space_prefix: not after an added token
    infc_scan scan;
    infc_scan_isa isa;  // which twins of infc_scan.h run; scalar after open
    infc_added added_all, added_user;
} infc_tokenizer;

// For infc_tok_encode beside INFC_TOKENIZE_*: the text is not the first, an added token came before it.
enum { INFC_TOK_CONTINUES = 1 << 8 };

// Ids written so far; those past cap are counted, not written.
typedef struct infc_ids {
    int32_t *ids;
    size_t cap, n;
} infc_ids;

static inline void infc_ids_put(infc_ids *out, uint32_t id) {
    if (out->n < out->cap) out->ids[out->n] = (int32_t)id;
    out->n++;
}

// Checks the section's header, directory and small tables and points out into it. 0, or INFC_EFILE if it is not a tokenizer.
// The large tables are checked where they are used: no content of the section makes a read out of bounds.
int infc_tokenizer_open(const uint8_t *section, size_t size, infc_tokenizer *out);

// Lets the tokenizer run wide code: features are the INFC_CPU_* bits that this CPU has. The tokens are the same with any.
void infc_tok_use_cpu(infc_tokenizer *t, uint32_t features);

// Appends the tokens of text. flags: INFC_TOKENIZE_SPECIAL, INFC_TOKENIZE_BOS, INFC_TOKENIZE_END; user-defined tokens are always recognised.
// 0, INFC_ENOMEM, or INFC_EFILE for a damaged table. O(n log n) for any text. About 150 KB of stack; memory only for words of which
// over 512 bytes hold together, 32 bytes for each of those, until they are merged.
int infc_tok_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, uint32_t flags, infc_ids *out);

// Where text[at, size) begins for the tokenizer if token id stands before it: after the white space that the token swallows.
size_t infc_tok_skip(const infc_tokenizer *t, int32_t id, const uint8_t *text, size_t at, size_t size);

// The next added token in text[from, size): its id and *begin, *end; INFC_TOKEN_NONE if there is none. special: 1 to look for
// special tokens too, 0 for user-defined ones only.
int32_t infc_tok_find_added(const infc_tokenizer *t, int special, const uint8_t *text, size_t from, size_t size, size_t *begin,
                            size_t *end);

// The bytes of a token, *size of them; NULL if id is no token.
const uint8_t *infc_tok_bytes(const infc_tokenizer *t, int32_t id, size_t *size);

// As infc_tokenize, infc_detokenize, infc_decode, infc_is_eog of infc.h, over a tokenizer; negative INFC_E* on failure. With space_prefix,
// detokenizing drops the space that was put before text; decoding, which may begin in the middle of a text, does not.
int infc_tok_tokenize(const infc_tokenizer *t, const uint8_t *text, size_t size, uint32_t flags, int32_t *ids, size_t cap);
int infc_tok_detokenize(const infc_tokenizer *t, const int32_t *ids, size_t n, int special, uint8_t *out, size_t cap);
int infc_tok_decode(const infc_tokenizer *t, infc_decoder *d, int32_t id, int special, uint8_t *out, size_t cap);
int infc_tok_is_eog(const infc_tokenizer *t, int32_t id);
#endif
