// infc_memory.c: guarded regions.
#define _GNU_SOURCE
#include "infc_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "infc.h"
#include "infc_error.h"

int infc_region_open(infc_region *out, uint64_t bytes, unsigned flags, const char *what) {
    *out = (infc_region){0};
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (bytes > PTRDIFF_MAX - 4 * page - INFC_HUGE_PAGE) return infc_fail(INFC_ENOMEM, "%s of %llu bytes do not fit the address space", what, (unsigned long long)bytes);
    const uint64_t used = (bytes + page - 1) / page * page;
    const uint64_t align = flags & INFC_REGION_NORESERVE && used >= INFC_HUGE_PAGE ? INFC_HUGE_PAGE : page;
    const uint64_t total = used + page + align;
    // Reserved whole as PROT_NONE, then opened in the middle: the guards can never be somebody else's mapping.
    const int map_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    uint8_t *map = mmap(NULL, total, PROT_NONE, map_flags, -1, 0);
    if (map == MAP_FAILED) return infc_fail(INFC_ENOMEM, "no memory for %s (%llu bytes): %s", what, (unsigned long long)bytes, strerror(errno));
    uint8_t *const data = map + page + (align - ((uintptr_t)map + page) % align) % align;
    if (used) {
        const int fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | (flags & INFC_REGION_NORESERVE ? MAP_NORESERVE : 0);
        if (mmap(data, used, PROT_READ | PROT_WRITE, fixed, -1, 0) == MAP_FAILED) {
            const int error = errno;
            munmap(map, total);
            return infc_fail(INFC_ENOMEM, "no memory for %s (%llu bytes): %s", what, (unsigned long long)bytes, strerror(error));
        }
    }
    // Exact memory: where huge pages are the default, the first byte of a page of keys would otherwise bring 2 MiB with it.
    if (used && flags & INFC_REGION_NORESERVE) madvise(data, used, MADV_NOHUGEPAGE);
    const uint64_t aligned = (bytes + 63) / 64 * 64;
    *out = (infc_region){map, total, data + (flags & INFC_REGION_FLUSH_END ? used - aligned : 0)};
    return INFC_OK;
}

void infc_region_make_huge(const infc_region *r, uint64_t used, uint64_t *done) {
    const uint64_t end = used / INFC_HUGE_PAGE * INFC_HUGE_PAGE;
    if (end <= *done) return;
    uint8_t *const first = r->data + *done;
    // Small pages that are there already are copied, which needs Linux 6.1; before, only huge pages without any come.
    if (madvise(first, end - *done, MADV_HUGEPAGE) == 0) madvise(first, end - *done, MADV_COLLAPSE);
    *done = end;
}

void infc_region_close(infc_region *r) {
    if (r->map) munmap(r->map, r->map_bytes);
    *r = (infc_region){0};
}
