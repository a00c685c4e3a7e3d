// infc_error.h: the per-thread message behind infc_last_error().
#ifndef INFC_ERROR_H
#define INFC_ERROR_H

enum { INFC_ERROR_BYTES = 300 };  // longest message, without its NUL

// Stores the formatted sentence for this thread and returns `code`, so that callers write `return infc_fail(INFC_EINPUT, ...)`.
// Control bytes are escaped, so a message is one line whatever a path or a name holds; it is cut at INFC_ERROR_BYTES.
__attribute__((format(printf, 2, 3))) int infc_fail(int code, const char *format, ...);

#endif
