// infc_json.c: JSON writing for --json output.
#define _GNU_SOURCE
#include "infc_json.h"

#include <math.h>
#include <string.h>

size_t infc_utf8_length(const char *p, size_t size) {
    const unsigned char *s = (const unsigned char *)p;
    if (size == 0) return 0;
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
    size_t n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (n > size) return 0;
    // The second byte's range excludes overlong forms, surrogates and what lies past U+10FFFF (Unicode 15, table 3-7).
    unsigned low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    unsigned high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xbf) return 0;
    return n;
}

static void separate(infc_json *j) {
    if (j->after_key) {
        j->after_key = 0;
        return;
    }
    uint64_t bit = UINT64_C(1) << j->depth;
    if (j->has_item & bit) infc_out_text(j->out, ", ");
    j->has_item |= bit;
}

void infc_json_bracket(infc_json *j, char bracket) {
    if (bracket == '{' || bracket == '[') {
        separate(j);
        j->depth++;
        j->has_item &= ~(UINT64_C(1) << j->depth);
    } else {
        j->depth--;
    }
    infc_out_bytes(j->out, &bracket, 1);
}

static void quote(infc_out *o, const char *text, size_t size) {
    infc_out_bytes(o, "\"", 1);
    for (size_t i = 0; i < size;) {
        unsigned char c = (unsigned char)text[i];
        size_t n = infc_utf8_length(text + i, size - i);
        if (n == 0) {
            infc_out_text(o, "\\ufffd");
            n = 1;
        } else if (c == '"' || c == '\\') {
            char pair[2] = {'\\', (char)c};
            infc_out_bytes(o, pair, 2);
        } else if (c == '\n') {
            infc_out_text(o, "\\n");
        } else if (c < 0x20 || c == 0x7f) {
            infc_out_format(o, "\\u%04x", c);
        } else {
            infc_out_bytes(o, text + i, n);
        }
        i += n;
    }
    infc_out_bytes(o, "\"", 1);
}

void infc_json_key(infc_json *j, const char *key) {
    separate(j);
    quote(j->out, key, strlen(key));
    infc_out_text(j->out, ": ");
    j->after_key = 1;
}

void infc_json_string(infc_json *j, const char *text, size_t size) {
    separate(j);
    quote(j->out, text, size);
}

void infc_json_int(infc_json *j, int64_t value) {
    separate(j);
    infc_out_format(j->out, "%lld", (long long)value);
}

void infc_json_real(infc_json *j, double value) {
    separate(j);
    if (isfinite(value)) infc_out_format(j->out, "%.9g", value);
    else infc_out_text(j->out, "null");
}

void infc_json_bool(infc_json *j, int value) {
    separate(j);
    infc_out_text(j->out, value ? "true" : "false");
}

void infc_json_raw(infc_json *j, const char *json, size_t size) {
    separate(j);
    infc_out_bytes(j->out, json, size);
}

void infc_json_ids(infc_json *j, const int32_t *ids, size_t n) {
    infc_json_bracket(j, '[');
    for (size_t i = 0; i < n; i++) infc_json_int(j, ids[i]);
    infc_json_bracket(j, ']');
}

void infc_json_put_int(infc_json *j, const char *key, int64_t value) {
    infc_json_key(j, key);
    infc_json_int(j, value);
}

void infc_json_put_real(infc_json *j, const char *key, double value) {
    infc_json_key(j, key);
    infc_json_real(j, value);
}

void infc_json_put_text(infc_json *j, const char *key, const char *text) {
    infc_json_key(j, key);
    infc_json_string(j, text, strlen(text));
}

static size_t skip_space(const char *json, size_t size, size_t i) {
    while (i < size && (json[i] == ' ' || json[i] == '\n' || json[i] == '\t' || json[i] == '\r')) i++;
    return i;
}

int64_t infc_json_find_int(const char *json, size_t size, const char *key) {
    size_t key_size = strlen(key);
    int depth = 0;
    for (size_t i = 0; i < size; i++) {
        if (json[i] == '{' || json[i] == '[') depth++;
        if (json[i] == '}' || json[i] == ']') depth--;
        if (json[i] != '"') continue;
        size_t start = ++i;  // walk over the string, so that its text is never taken for structure
        while (i < size && json[i] != '"') i += json[i] == '\\' ? 2 : 1;
        if (i >= size || depth != 1 || i - start != key_size || memcmp(json + start, key, key_size) != 0) continue;
        size_t at = skip_space(json, size, i + 1);
        if (at >= size || json[at] != ':') continue;
        at = skip_space(json, size, at + 1);
        int64_t value = 0;
        size_t digits = 0;
        for (; at < size && json[at] >= '0' && json[at] <= '9' && digits < 18; at++, digits++) value = value * 10 + (json[at] - '0');
        return digits > 0 ? value : -1;
    }
    return -1;
}
