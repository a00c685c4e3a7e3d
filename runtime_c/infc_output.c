// infc_output.c: write(2)-based output, error lines, clock and hash of the executable.
#define _GNU_SOURCE
#include "infc_output.h"
#include "infc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 300, RAW_MAX_BYTES = 1024 };

static const char *program_name = "infc";

void infc_set_name(const char *argv0) {
    if (argv0 == NULL || argv0[0] == '\0') return;
    const char *slash = strrchr(argv0, '/');
    program_name = slash != NULL && slash[1] != '\0' ? slash + 1 : argv0;
}

const char *infc_name(void) { return program_name; }

// 0 or an errno.
static int write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static void drain(infc_out *o) {
    if (o->error == 0 && o->n > 0) o->error = write_all(o->fd, o->buf, o->n);
    o->n = 0;
}

void infc_out_bytes(infc_out *o, const void *data, size_t size) {
    if (size > sizeof o->buf - o->n) drain(o);
    if (size > sizeof o->buf) {
        if (o->error == 0) o->error = write_all(o->fd, data, size);
        return;
    }
    memcpy(o->buf + o->n, data, size);
    o->n += size;
}

void infc_out_text(infc_out *o, const char *text) { infc_out_bytes(o, text, strlen(text)); }

void infc_out_format(infc_out *o, const char *format, ...) {
    char item[256];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(item, sizeof item, format, list);
    va_end(list);
    if (n < 0) return;
    infc_out_bytes(o, item, (size_t)n < sizeof item ? (size_t)n : sizeof item - 1);
}

int infc_out_flush(infc_out *o) {
    drain(o);
    if (o->error == 0) return INFC_EXIT_OK;
    return infc_complain(INFC_EXIT_LIMIT, "cannot write the output: %s", strerror(o->error));
}

// Copies text, escaping what could drive a terminal or break the line. Returns the bytes written, at most cap.
static size_t escape_line(char *out, size_t cap, const char *text) {
    size_t n = 0;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        char item[8];
        size_t size = 1;
        item[0] = (char)c;
        if (c < 0x20 || c >= 0x7f) size = (size_t)snprintf(item, sizeof item, "\\x%02x", c);
        if (n + size > cap) break;
        memcpy(out + n, item, size);
        n += size;
    }
    return n;
}

static void say(const char *kind, size_t limit, const char *format, va_list list) {
    char raw[RAW_MAX_BYTES], line[RAW_MAX_BYTES];
    char head[160];
    snprintf(head, sizeof head, "%.100s: %s", program_name, kind);
    vsnprintf(raw, sizeof raw, format, list);
    size_t n = escape_line(line, limit - 1, head);
    n += escape_line(line + n, limit - 1 - n, raw);
    line[n++] = '\n';
    (void)write_all(STDERR_FILENO, line, n);
}

void infc_note(const char *format, ...) {
    va_list list;
    va_start(list, format);
    say("", RAW_MAX_BYTES, format, list);
    va_end(list);
}

int infc_complain(int exit_code, const char *format, ...) {
    va_list list;
    va_start(list, format);
    say("error: ", LINE_MAX_BYTES, format, list);
    va_end(list);
    return exit_code;
}

int infc_complain_api(int rc) {
    int code = rc == INFC_EINPUT ? INFC_EXIT_INPUT
             : rc == INFC_ELIMIT || rc == INFC_EHOST || rc == INFC_ENOMEM || rc == INFC_EFILE ? INFC_EXIT_LIMIT
             : INFC_EXIT_INTERNAL;
    const char *why = infc_last_error();
    if (why == NULL || why[0] == '\0') why = "no reason given";
    return infc_complain(code, "%s%s", code == INFC_EXIT_INTERNAL ? "internal: " : "", why);
}

double infc_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int infc_text_append(infc_text *t, const void *data, size_t size) {
    if (size > t->cap - t->n) {
        size_t cap = t->cap < 4096 ? 4096 : t->cap;
        while (cap - t->n < size) cap *= 2;
        char *grown = realloc(t->data, cap);
        if (grown == NULL) return infc_complain(INFC_EXIT_LIMIT, "out of memory: %zu bytes for text", cap);
        t->data = grown;
        t->cap = cap;
    }
    memcpy(t->data + t->n, data, size);
    t->n += size;
    return INFC_EXIT_OK;
}

uint64_t infc_hash(uint64_t h, const void *data, size_t size) {
    const unsigned char *p = data;
    for (size_t i = 0; i < size; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

void infc_format_hash(char *text, uint64_t h) { snprintf(text, 20, "0x%016llx", (unsigned long long)h); }
