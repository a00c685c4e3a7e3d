// infc_date.h: a day, and the ways that chat templates write it. English names whatever the locale: a model was trained on those.
#ifndef INFC_DATE_H
#define INFC_DATE_H
#include <stddef.h>
#include <stdint.h>

typedef struct infc_date {
    int32_t year, month, day;  // 1 to 9999, from 1, from 1
} infc_date;

// The most that one byte of a format becomes: "%A" is "Wednesday".
enum { INFC_DATE_GROWTH = 5 };

// "YYYY-MM-DD", all of it, and a day of the calendar: 0, else INFC_EINPUT.
int infc_date_parse(const char *text, infc_date *out);

// Today where the program runs.
infc_date infc_date_today(void);

// Writes date by format[0, size), strftime's of a day without time (compiler/tokenizer/dates.py has the list), to out, of which
// INFC_DATE_GROWTH * size bytes are there. Returns the bytes; *ok is 0 if the format has something else, which is written as it stands.
size_t infc_date_format(infc_date date, const uint8_t *format, size_t size, uint8_t *out, int *ok);
#endif
