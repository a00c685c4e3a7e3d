// infc_error.c: one buffer per thread; no allocation, so a failure to allocate can be reported too.
#include "infc_error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "infc.h"

static _Thread_local char last_error[INFC_ERROR_BYTES + 1];

// Bytes of the UTF-8 character at s when it is well formed and no control character, else 0. s is NUL-terminated.
static size_t printable(const unsigned char *s) {
    if (s[0] < 0x20 || s[0] == 0x7f) return 0;
    if (s[0] < 0x80) return 1;
    const size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xc2 && s[1] < 0xa0) return 0;                                            // C1 controls
    if (s[0] == 0xe2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9)) return 0;         // line and paragraph separators
    if (s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0xaa && s[2] <= 0xae) return 0;           // bidi embeddings
    if (s[0] == 0xe2 && s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9) return 0;           // bidi isolates
    return n;
}

int infc_fail(int code, const char *format, ...) {
    static const char hex[] = "0123456789abcdef";
    char raw[1024];
    va_list args;
    va_start(args, format);
    if (vsnprintf(raw, sizeof raw, format, args) < 0) raw[0] = 0;
    va_end(args);
    size_t out = 0;
    for (const unsigned char *s = (const unsigned char *)raw; *s;) {
        const size_t n = printable(s);
        if (out + (n ? n : 4) > INFC_ERROR_BYTES) break;
        if (n) {
            memcpy(last_error + out, s, n);
            out += n;
            s += n;
        } else {
            last_error[out++] = '\\';
            last_error[out++] = 'x';
            last_error[out++] = hex[*s >> 4];
            last_error[out++] = hex[*s & 15];
            s++;
        }
    }
    last_error[out] = 0;
    return code;
}

const char *infc_last_error(void) { return last_error; }
