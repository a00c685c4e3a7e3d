// infc_chat.h: a conversation to token ids, over the CHAT section of the blob (compiler/tokenizer/chat.py).
//
// The template is a table of the text between one message's content and the next's. Special tokens are recognised in that text
// only; a content is never read as one. Text between two special tokens is tokenized as a whole, so letters of a content merge
// with those of the template around it exactly as they do when the rendered conversation is tokenized.
#ifndef INFC_CHAT_H
#define INFC_CHAT_H
#include <stddef.h>
#include <stdint.h>

#include "infc.h"
#include "infc_date.h"
#include "infc_tokenizer.h"

enum { INFC_CHAT_ROLES = 3, INFC_CHAT_BEFORE = 4, INFC_CHAT_AFTER = 5, INFC_CHAT_RULES = 24 };

typedef struct infc_glue {
    const uint8_t *text;  // NULL: the template has no such transition
    size_t size;
    int dated;            // it has dates: a format between two bytes 0xFF
} infc_glue;

// What a word in a content of a role does: the content is not supported, or it begins after the word's last occurrence.
typedef struct infc_chat_rule {
    uint32_t role, flags;  // flags: REFUSE, or how what is left of a cut is stripped
    const uint8_t *word;
    size_t size;  // > 0
} infc_chat_rule;

// Pointers into the section, which must outlive it; never written after open.
typedef struct infc_chat {
    uint32_t strip[INFC_CHAT_ROLES];                   // what happens to a content, by role: system, user, assistant
    infc_chat_rule rules[INFC_CHAT_RULES];
    uint32_t n_rules;
    infc_glue glue[INFC_CHAT_BEFORE][INFC_CHAT_AFTER];  // [role before, or the start][role after, the end, a prompt for an answer]
} infc_chat;

// Checks and points into the section; 0, or INFC_EFILE if it is not a chat table.
int infc_chat_open(const uint8_t *section, size_t size, infc_chat *out);

// Appends the tokens of n messages; date: what the template writes for the day. 0; INFC_EINPUT for an unknown role, an order of roles, or a content that the template does
// not have (*bad is then the message's number, n for the end); INFC_ENOMEM; INFC_EFILE. BOS is part of the template, if it writes one.
int infc_chat_encode(const infc_chat *c, const infc_tokenizer *t, const infc_message *messages, int32_t n, int add_generation_prompt,
                     infc_date date, infc_ids *out, int32_t *bad);
#endif
