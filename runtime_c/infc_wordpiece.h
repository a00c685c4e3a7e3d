// infc_wordpiece.h: WordPiece, as BERT has it: characters made alike, words cut at white space and punctuation, and each word spelled by
// the longest tokens from its left; a word that none spell is the unknown token. Linear time, no memory beyond the stack.
#ifndef INFC_WORDPIECE_H
#define INFC_WORDPIECE_H
#include "infc_tokenizer.h"

enum { INFC_WORDPIECE_WORD = 100 };  // characters of a word that is looked up; a longer one is unknown

// Appends the tokens of text without added tokens. 0.
int infc_wordpiece_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, infc_ids *out);
#endif
