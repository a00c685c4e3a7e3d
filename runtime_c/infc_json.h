// infc_json.h: writes JSON to an infc_out, and finds one number in a JSON object. Commas and escapes are handled here.
#ifndef INFC_JSON_H
#define INFC_JSON_H
#include "infc_output.h"

typedef struct infc_json {
    infc_out *out;
    int depth;
    uint64_t has_item;  // bit d: depth d already holds an item
    int after_key;
} infc_json;

// Opens or closes an object or array: bracket is one of { } [ ].
void infc_json_bracket(infc_json *j, char bracket);
void infc_json_key(infc_json *j, const char *key);
// Bytes as a string; what is not UTF-8 becomes U+FFFD, one per byte.
void infc_json_string(infc_json *j, const char *text, size_t size);
void infc_json_int(infc_json *j, int64_t value);
// A number with up to 9 significant digits; NaN and infinities become null.
void infc_json_real(infc_json *j, double value);
void infc_json_bool(infc_json *j, int value);
// A value that is JSON already.
void infc_json_raw(infc_json *j, const char *json, size_t size);
void infc_json_ids(infc_json *j, const int32_t *ids, size_t n);

// Key and value in one call.
void infc_json_put_int(infc_json *j, const char *key, int64_t value);
void infc_json_put_real(infc_json *j, const char *key, double value);
void infc_json_put_text(infc_json *j, const char *key, const char *text);

// The non-negative integer at the top level of a JSON object under key; -1 if it is not there.
int64_t infc_json_find_int(const char *json, size_t size, const char *key);
// Bytes of the UTF-8 character at p (1..4), 0 if it is malformed or cut at size.
size_t infc_utf8_length(const char *p, size_t size);

#endif
