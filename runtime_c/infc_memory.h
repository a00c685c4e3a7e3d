// infc_memory.h: page-granular memory with inaccessible pages before and after it, reserved once at open.
#ifndef INFC_MEMORY_H
#define INFC_MEMORY_H
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ  // C libraries before 2.35 do not name it
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_COLLAPSE  // before 2.37
#define MADV_COLLAPSE 25
#endif

typedef struct infc_region {
    uint8_t *map;      // whole mapping, guards included; NULL: none
    size_t map_bytes;
    uint8_t *data;     // first usable byte
} infc_region;

enum { INFC_HUGE_PAGE = 2 << 20 };  // one entry of a page directory where pages have 4096 bytes

enum {
    INFC_REGION_FLUSH_END = 1,  // data ends at the guard (64-byte aligned) rather than starting at a page: a one-byte overrun faults
    INFC_REGION_NORESERVE = 2   // memory is committed when touched; data starts at a multiple of INFC_HUGE_PAGE if a huge page fits in
};
// `bytes` of zeros at out->data. Returns 0 or INFC_ENOMEM. bytes == 0 gives a region of guards only.
int infc_region_open(infc_region *out, uint64_t bytes, unsigned flags, const char *what);
void infc_region_close(infc_region *r);

// Backs what lies in whole huge pages of bytes 0 .. used - 1 of a NORESERVE region with huge pages, and nothing past them, so that what is
// resident stays within `used` but for a page. *done: bytes seen to by the calls before, 0 at first. Where the kernel will not, small
// pages stay.
void infc_region_make_huge(const infc_region *r, uint64_t used, uint64_t *done);

#endif
