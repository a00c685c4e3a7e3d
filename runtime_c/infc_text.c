// infc_text.c: the text functions of infc.h over the tokenizer and chat tables of the blob. The tables' code returns bare error codes;
// the sentences are made here.
#include <limits.h>
#include <stddef.h>

#include "infc_error.h"
#include "infc_model.h"

int infc_text_open(infc_model *m) {
    const infc_section *s = &m->blob.section[INFC_SECTION_TOKENIZER];
    m->has_tokenizer = s->data != NULL;
    if (!m->has_tokenizer) return INFC_OK;  // token ids still work
    const int rc = infc_tokenizer_open(s->data, (size_t)s->size, &m->tokenizer);
    if (rc) return infc_fail(rc, "the tokenizer's tables are damaged: run verify, and compile the program again");
    infc_tok_use_cpu(&m->tokenizer, m->cpu_features);
    if (m->tokenizer.vocab_size > (uint32_t)m->program->vocab_size)
        return infc_fail(INFC_EFILE, "the tokenizer has %u tokens and the program %d; they belong to different compiles", m->tokenizer.vocab_size,
                         m->program->vocab_size);
    const infc_section *chat = &m->blob.section[INFC_SECTION_CHAT];
    m->has_chat = chat->data != NULL;
    const int opened = m->has_chat ? infc_chat_open(chat->data, (size_t)chat->size, &m->chat) : 0;
    if (opened == INFC_ENOMEM) return infc_fail(opened, "no memory for the chat template");
    if (opened)
        return infc_fail(INFC_EFILE, "the chat template's table is damaged: run verify, and compile the program again");
    return INFC_OK;
}

void infc_text_info(const infc_model *m, infc_info *out) {
    out->bos_id = m->has_tokenizer ? m->tokenizer.bos : -1;
    out->eos_id = m->has_tokenizer ? m->tokenizer.eos : -1;
    out->has_chat = m->has_chat;
}

// 0 when the model has a tokenizer and the buffers are there.
static int ready(const infc_model *m, const void *in, size_t n, const void *out, size_t cap) {
    if (!m) return infc_fail(INFC_EINPUT, "the model is NULL");
    if (!m->has_tokenizer) return infc_fail(INFC_EINPUT, "this program holds no tokenizer; give token ids");
    if ((n && !in) || (cap && !out)) return infc_fail(INFC_EINPUT, "a buffer is NULL and its size is not 0");
    if (n > INT_MAX / 4) return infc_fail(INFC_ELIMIT, "%zu bytes or tokens in one call; cut them", n);
    return INFC_OK;
}

// Gives a failure of the tables' code its sentence; a count passes.
static int report(int rc) {
    if (rc >= 0) return rc;
    switch (rc) {
        case INFC_EFILE: return infc_fail(rc, "the tokenizer's tables are damaged: run verify, and compile the program again");
        case INFC_ENOMEM: return infc_fail(rc, "no memory to tokenize a long word");
        case INFC_ELIMIT: return infc_fail(rc, "the text does not fit the buffer, or has more than 2^31 tokens or bytes");
        default: return infc_fail(rc, "the text or tokens were refused");
    }
}

static int check_id(const infc_model *m, int32_t id) {
    if (id >= 0 && (uint32_t)id < m->tokenizer.vocab_size) return INFC_OK;
    return infc_fail(INFC_EINPUT, "%d is no token; the vocabulary has %u", id, m->tokenizer.vocab_size);
}

int infc_tokenize(const infc_model *m, const char *text, size_t size, uint32_t flags, int32_t *ids, size_t cap) {
    const int rc = ready(m, text, size, ids, cap);
    if (rc) return rc;
    if (flags & ~(uint32_t)(INFC_TOKENIZE_SPECIAL | INFC_TOKENIZE_BOS | INFC_TOKENIZE_END)) return infc_fail(INFC_EINPUT, "unknown flags 0x%x", flags);
    return report(infc_tok_tokenize(&m->tokenizer, (const uint8_t *)text, size, flags, ids, cap));
}

int infc_detokenize(const infc_model *m, const int32_t *ids, size_t n, int special, char *out, size_t cap) {
    int rc = ready(m, ids, n, out, cap);
    for (size_t i = 0; i < n && !rc; i++) rc = check_id(m, ids[i]);
    return rc ? rc : report(infc_tok_detokenize(&m->tokenizer, ids, n, special, (uint8_t *)out, cap));
}

int infc_decode(const infc_model *m, infc_decoder *d, int32_t id, int special, char *out, size_t cap) {
    int rc = ready(m, d, 1, out, cap);
    if (!rc && id >= 0) rc = check_id(m, id);
    return rc ? rc : report(infc_tok_decode(&m->tokenizer, d, id, special, (uint8_t *)out, cap));
}

int infc_is_eog(const infc_model *m, int32_t id) {
    int rc = ready(m, NULL, 0, NULL, 0);
    if (!rc) rc = check_id(m, id);
    return rc ? rc : infc_tok_is_eog(&m->tokenizer, id);
}

static int check_messages(const infc_message *messages, int32_t n) {
    size_t bytes = 0;
    for (int32_t i = 0; i < n; i++) {
        if (!messages[i].role) return infc_fail(INFC_EINPUT, "message %d has no role", i);
        if (messages[i].size && !messages[i].content) return infc_fail(INFC_EINPUT, "message %d has no content and its size is not 0", i);
        if (messages[i].size > INT_MAX / 4 - bytes) return infc_fail(INFC_ELIMIT, "the messages are too long");
        bytes += messages[i].size;
    }
    return INFC_OK;
}

static int refuse_message(const infc_message *messages, int32_t n, int32_t bad) {
    if (bad < n && messages[bad].size)
        return infc_fail(INFC_EINPUT, "the chat template has no place for message %d of role \"%s\" there, or treats its words in a way that is not compiled", bad, messages[bad].role);
    if (bad < n) return infc_fail(INFC_EINPUT, "the chat template has no place for the empty message %d of role \"%s\"", bad, messages[bad].role);
    return infc_fail(INFC_EINPUT, "the chat template cannot end after %d messages", n);
}

int infc_chat_date(infc_model *m, const char *date) {
    if (!m) return infc_fail(INFC_EINPUT, "the model is NULL");
    infc_date day = {0, 0, 0};
    if (date && infc_date_parse(date, &day)) return infc_fail(INFC_EINPUT, "\"%.40s\" is no date: give YYYY-MM-DD", date);
    m->date = day;
    return INFC_OK;
}

int infc_chat_tokenize(const infc_model *m, const infc_message *messages, int32_t n, int add_generation_prompt, int32_t *ids, size_t cap) {
    if (n < 0) return infc_fail(INFC_EINPUT, "%d messages", n);
    int rc = ready(m, messages, (size_t)n, ids, cap);
    if (rc) return rc;
    if (!m->has_chat) return infc_fail(INFC_EINPUT, "the model has no chat template that could be compiled");
    if ((rc = check_messages(messages, n))) return rc;
    infc_ids out = {ids, cap, 0};
    int32_t bad = n;
    const infc_date date = m->date.year ? m->date : infc_date_today();
    rc = infc_chat_encode(&m->chat, &m->tokenizer, messages, n, add_generation_prompt, date, &out, &bad);
    if (rc == INFC_EINPUT) return refuse_message(messages, n, bad);
    if (rc) return report(rc);
    return out.n > INT_MAX ? report(INFC_ELIMIT) : (int)out.n;
}
