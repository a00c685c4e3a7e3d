// infc_output.h: how the executable speaks. Output goes through write(2): stdio's first use may call newfstatat and allocate, which costs
// start-up time and is not allowed in the sandbox. Results go to stdout, everything else to stderr.
#ifndef INFC_OUTPUT_H
#define INFC_OUTPUT_H
#include <stddef.h>
#include <stdint.h>

enum { INFC_EXIT_OK = 0, INFC_EXIT_INPUT = 2, INFC_EXIT_LIMIT = 3, INFC_EXIT_INTERNAL = 70 };

// Buffered bytes on their way to a file descriptor.
typedef struct infc_out {
    int fd;
    int error;  // errno of the first failed write, 0 if none; later writes are dropped
    size_t n;
    char buf[4096];
} infc_out;

// Remembers the name that starts every line on stderr: the last component of argv[0].
void infc_set_name(const char *argv0);
const char *infc_name(void);

void infc_out_bytes(infc_out *o, const void *data, size_t size);
void infc_out_text(infc_out *o, const char *text);
// printf of one short item: at most 255 bytes are written.
void infc_out_format(infc_out *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Writes what is buffered. 0, or the exit code after saying on stderr why stdout cannot be written.
int infc_out_flush(infc_out *o);

// One line on stderr: "NAME: ...", control bytes escaped.
void infc_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
// One line on stderr: "NAME: error: ...", at most 300 bytes, control bytes escaped. Returns exit_code, so that callers can write
// `return infc_complain(...)`.
int infc_complain(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The same with infc_last_error(), and the exit code that goes with the INFC_E* rc.
int infc_complain_api(int rc);

// Seconds of CLOCK_MONOTONIC.
double infc_now(void);

// Growable bytes, for results that must be whole before they are written.
typedef struct infc_text {
    char *data;
    size_t n, cap;
} infc_text;
// 0, or an exit code after saying so on stderr.
int infc_text_append(infc_text *t, const void *data, size_t size);

// FNV-1a, 64 bits, over bytes in order. Start with INFC_HASH_START.
#define INFC_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t infc_hash(uint64_t h, const void *data, size_t size);
// "0x" and 16 hex digits into text, which has 20 bytes.
void infc_format_hash(char *text, uint64_t h);

#endif
