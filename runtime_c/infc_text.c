// infc_text.c: the text functions of infc.h over the tokenizer and chat tables of the blob.
#include "infc_error.h"
#include "infc_model.h"

int infc_text_open(infc_model *m) { (void)m; return INFC_OK; }
void infc_text_close(infc_model *m) { (void)m; }
void infc_text_info(const infc_model *m, infc_info *out) {
    (void)m;
    out->bos_id = out->eos_id = -1;
}
