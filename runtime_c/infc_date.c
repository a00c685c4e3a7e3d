#define _POSIX_C_SOURCE 200809L
#include "infc_date.h"

#include <string.h>
#include <time.h>

#include "infc.h"

static const char *const MONTHS[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};
static const char *const DAYS[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const int DAYS_BEFORE[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};

static int is_leap(int32_t year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

static int32_t day_of_year(infc_date d) { return DAYS_BEFORE[d.month - 1] + (d.month > 2 && is_leap(d.year)) + d.day; }

// 0: Sunday. 0001-01-01 was a Monday of this calendar.
static int32_t day_of_week(infc_date d) {
    const int32_t before = d.year - 1;
    return (before * 365 + before / 4 - before / 100 + before / 400 + day_of_year(d)) % 7;
}

int infc_date_parse(const char *text, infc_date *out) {
    static const char form[] = "dddd-dd-dd";
    int32_t parts[3] = {0, 0, 0};
    if (!text || strlen(text) != sizeof form - 1) return INFC_EINPUT;
    for (size_t i = 0, part = 0; i < sizeof form - 1; i++) {
        if (form[i] == '-') {
            if (text[i] != '-') return INFC_EINPUT;
            part++;
        } else {
            if (text[i] < '0' || text[i] > '9') return INFC_EINPUT;
            parts[part] = parts[part] * 10 + (text[i] - '0');
        }
    }
    const int32_t month = parts[1];
    if (parts[0] < 1 || month < 1 || month > 12 || parts[2] < 1) return INFC_EINPUT;
    if (parts[2] > DAYS_BEFORE[month] - DAYS_BEFORE[month - 1] + (month == 2 && is_leap(parts[0]))) return INFC_EINPUT;
    *out = (infc_date){parts[0], month, parts[2]};
    return 0;
}

infc_date infc_date_today(void) {
    const time_t now = time(NULL);
    struct tm t;
    // A clock beyond the calendar is no reason to refuse a chat.
    if (!localtime_r(&now, &t) || t.tm_year < -1899 || t.tm_year > 8099) return (infc_date){1970, 1, 1};
    return (infc_date){t.tm_year + 1900, t.tm_mon + 1, t.tm_mday};
}

static size_t put_number(int32_t n, int digits, uint8_t *out) {
    uint8_t reversed[8];
    size_t size = 0;
    for (; n > 0 || (int)size < digits || size == 0; n /= 10) reversed[size++] = (uint8_t)('0' + n % 10);
    for (size_t i = 0; i < size; i++) out[i] = reversed[size - 1 - i];
    return size;
}

static size_t put_text(const char *text, size_t most, uint8_t *out) {
    const size_t n = strlen(text) < most ? strlen(text) : most;
    memcpy(out, text, n);
    return n;
}

// One directive after its %; plain: without leading zeros. Returns its bytes, 0 if there is no such directive.
static size_t put_directive(infc_date d, uint8_t directive, int plain, uint8_t *out) {
    const int two = plain ? 1 : 2;
    switch (directive) {
        case 'Y': return plain ? 0 : put_number(d.year, 4, out);
        case 'y': return put_number(d.year % 100, two, out);
        case 'm': return put_number(d.month, two, out);
        case 'd': return put_number(d.day, two, out);
        case 'j': return put_number(day_of_year(d), plain ? 1 : 3, out);
        case 'B': return plain ? 0 : put_text(MONTHS[d.month - 1], 16, out);
        case 'b': return plain ? 0 : put_text(MONTHS[d.month - 1], 3, out);
        case 'A': return plain ? 0 : put_text(DAYS[day_of_week(d)], 16, out);
        case 'a': return plain ? 0 : put_text(DAYS[day_of_week(d)], 3, out);
        case '%': out[0] = '%'; return plain ? 0 : 1;
        default: return 0;
    }
}

size_t infc_date_format(infc_date date, const uint8_t *format, size_t size, uint8_t *out, int *ok) {
    size_t n = 0;
    *ok = 1;
    for (size_t i = 0; i < size; i++) {
        const int plain = size - i > 2 && format[i + 1] == '-';
        const size_t at = i + 1 + (size_t)plain;
        const size_t written = format[i] == '%' && at < size ? put_directive(date, format[at], plain, out + n) : 0;
        if (written) {
            n += written;
            i = at;
        } else {
            *ok &= format[i] != '%';
            out[n++] = format[i];
        }
    }
    return n;
}
