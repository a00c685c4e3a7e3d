// infc_unigram.h: SentencePiece's unigram model: text made alike by a map of characters, then cut into the tokens whose scores have the
// greatest sum. Text is settled as soon as no token reaches over what comes: memory beyond the stack only for runs that hold together.
#ifndef INFC_UNIGRAM_H
#define INFC_UNIGRAM_H
#include "infc_merge.h"
#include "infc_tokenizer.h"

// Appends the tokens of text without added tokens. prefix: a space comes first that is not in the text. 0, INFC_ENOMEM, INFC_ELIMIT. Time:
// the text's length times that of the longest token.
int infc_unigram_encode(const infc_tokenizer *t, const uint8_t *text, size_t size, int prefix, infc_merge_cache *cache, infc_ids *out);
#endif
