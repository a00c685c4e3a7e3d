// infc_blob.c: find, check and map the blob.
#define _GNU_SOURCE
#include "infc_blob.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "infc.h"
#include "infc_error.h"
#include "infc_memory.h"
#include "infc_sha256.h"

enum { ALIGN = 4096, TRAILER_BYTES = 64, HEADER_BYTES = 16, ENTRY_BYTES = 24, VERSION = 1 };
#define HUGE_BYTES ((uint64_t)INFC_HUGE_PAGE)
#define MAX_SECTIONS ((ALIGN - HEADER_BYTES) / ENTRY_BYTES)

static uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }
static uint64_t get64(const uint8_t *p) { return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32; }

// ---- own path --------------------------------------------------------------------------------------------------------------

typedef struct own_module {
    uintptr_t address;  // of code of ours
    char *out;
    size_t cap;
    int index;   // modules seen; the main program is the first
    int length;  // of the path; -1: not found
} own_module;

static int find_module(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size;
    own_module *own = arg;
    const int index = own->index++;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const uintptr_t start = (uintptr_t)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
        if (info->dlpi_phdr[i].p_type != PT_LOAD || own->address - start >= info->dlpi_phdr[i].p_memsz) continue;
        // The main program's name is empty or argv[0], which proves nothing; the kernel's link is right even after a rename.
        own->length = snprintf(own->out, own->cap, "%s", index ? info->dlpi_name : "/proc/self/exe");
        return 1;
    }
    return 0;
}

int infc_blob_own_path(char *out, size_t cap) {
    own_module own = {(uintptr_t)&infc_blob_own_path, out, cap, 0, -1};
    dl_iterate_phdr(find_module, &own);
    if (own.length <= 0 || (size_t)own.length >= cap)
        return infc_fail(INFC_EFILE, "cannot tell which file this program was loaded from; give weights_path");
    return INFC_OK;
}

// ---- reading ---------------------------------------------------------------------------------------------------------------

// All of n bytes at offset, or -1.
static int read_at(int fd, void *out, size_t n, uint64_t offset) {
    for (uint8_t *p = out; n;) {
        const ssize_t got = pread(fd, p, n, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return -1;
        p += got;
        n -= (size_t)got;
        offset += (uint64_t)got;
    }
    return 0;
}

static int bad(const char *path, const char *what) {
    return infc_fail(INFC_EFILE, "%s: %s; the file is truncated or changed, or no infc program: compile it again", path, what);
}

static int read_trailer(infc_blob *b, const char *path) {
    uint8_t t[TRAILER_BYTES];
    if (b->file_bytes < TRAILER_BYTES || read_at(b->fd, t, sizeof t, b->file_bytes - TRAILER_BYTES)) return bad(path, "it has no weights trailer");
    if (memcmp(t, "INFCEND1", 8) || get32(t + 8) != VERSION) return bad(path, "it does not end in a weights trailer of version 1");
    b->offset = get64(t + 16);
    b->size = get64(t + 24);
    memcpy(b->sha256, t + 32, 32);
    const uint64_t room = b->file_bytes - TRAILER_BYTES;
    if (b->offset % ALIGN || b->offset > room || b->size > room - b->offset || b->size < ALIGN) return bad(path, "its trailer points outside the file");
    return INFC_OK;
}

static int read_sections(infc_blob *b, const char *path, const uint8_t *base) {
    uint8_t page[ALIGN];
    if (read_at(b->fd, page, sizeof page, b->offset)) return bad(path, "its section table cannot be read");
    if (memcmp(page, "INFCBLB1", 8) || get32(page + 8) != VERSION) return bad(path, "its section table is not of version 1");
    const uint32_t n = get32(page + 12);
    if (n > MAX_SECTIONS) return bad(path, "its section table is too long");
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *entry = page + HEADER_BYTES + i * ENTRY_BYTES;
        const uint32_t id = get32(entry);
        const uint64_t offset = get64(entry + 8), size = get64(entry + 16);
        if (offset % ALIGN || offset < ALIGN || offset > b->size || size > b->size - offset) return bad(path, "a section lies outside the blob");
        if (id == 0 || id >= INFC_N_SECTIONS) continue;  // a later infc may add sections this one does not need
        if (b->section[id].data) return bad(path, "it has a section twice");
        b->section[id] = (infc_section){base + offset, size};
    }
    return INFC_OK;
}

// Address and offset are kept congruent modulo a huge page, so that pieces of the page cache that are huge pages map as such. The
// kernel does that by itself on some file systems only.
static int map_blob(infc_blob *b, const char *path) {
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t skip = b->offset % page;  // not 0 where pages are larger than 4096
    if (b->size > SIZE_MAX - skip - HUGE_BYTES) return bad(path, "it does not fit the address space");
    const size_t bytes = (size_t)(b->size + skip), reserved = bytes + HUGE_BYTES;
    const off_t offset = (off_t)(b->offset - skip);
    uint8_t *map = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint8_t *data = map == MAP_FAILED ? map : map + (size_t)(((uint64_t)offset - (uintptr_t)map) % HUGE_BYTES);
    if (map == MAP_FAILED || mmap(data, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, b->fd, offset) == MAP_FAILED) {
        const int error = errno;
        if (map != MAP_FAILED) munmap(map, reserved);
        return infc_fail(INFC_ENOMEM, "%s: cannot map %zu bytes of weights: %s", path, bytes, strerror(error));
    }
    b->map = map;
    b->map_bytes = reserved;
    b->base = data + skip;
    // Best effort: what is not in the page cache yet is then read in huge pieces.
    madvise(data, bytes, MADV_HUGEPAGE);
    return read_sections(b, path, b->base);
}

int infc_blob_open(infc_blob *b, const char *path) {
    *b = (infc_blob){.fd = -1};
    // O_NONBLOCK: a FIFO put in the place of the weights must not hang the open.
    b->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (b->fd < 0) return infc_fail(INFC_EFILE, "cannot open the weights %s: %s", path, strerror(errno));
    struct stat st;
    int rc = INFC_OK;
    if (fstat(b->fd, &st) || !S_ISREG(st.st_mode)) rc = infc_fail(INFC_EFILE, "%s: the weights are not a regular file", path);
    if (!rc) {
        b->file_bytes = (uint64_t)st.st_size;
        rc = read_trailer(b, path);
    }
    if (!rc) rc = map_blob(b, path);
    if (rc) infc_blob_close(b);
    return rc;
}

// Where part `part` of `parts` of the weights begins in the file: on a huge page, or on the page of the first and past the last byte.
static uint64_t part_start(const infc_blob *b, int part, int parts) {
    const infc_section *w = &b->section[INFC_SECTION_WEIGHTS];
    const uint64_t first = b->offset + (uint64_t)(w->data - b->base), page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (part == 0) return first / page * page;
    if (part == parts) return first + w->size;
    return (first + w->size * (uint64_t)part / (uint64_t)parts) / HUGE_BYTES * HUGE_BYTES;
}

void infc_blob_populate(const infc_blob *b, int part, int parts) {
    const uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    const infc_section *w = &b->section[INFC_SECTION_WEIGHTS];
    if (!w->data || w->size > memory / 4 * 3) return;  // memory that cannot hold all would lose the first pages to the last
    uint64_t from = part_start(b, part, parts), to = part_start(b, part + 1, parts);
    if (part && from < part_start(b, 0, 1)) from = part_start(b, 0, 1);  // weights smaller than a huge page a part
    if (from >= to) return;
    uint8_t *at = (uint8_t *)(uintptr_t)b->base + (int64_t)(from - b->offset);
    // What is wrong with a page shows at its first read. Linux before 5.14 knows no populating: it reads ahead, and faults later.
    if (madvise(at, (size_t)(to - from), MADV_POPULATE_READ) && errno == EINVAL) madvise(at, (size_t)(to - from), MADV_WILLNEED);
}

void infc_blob_close(infc_blob *b) {
    if (b->map) munmap(b->map, b->map_bytes);
    if (b->fd >= 0) close(b->fd);
    *b = (infc_blob){.fd = -1};
}

int infc_blob_verify(const infc_blob *b) {
    uint8_t buffer[32768], digest[32], t[TRAILER_BYTES];
    struct stat st;
    if (fstat(b->fd, &st) || (uint64_t)st.st_size != b->file_bytes || read_at(b->fd, t, sizeof t, b->file_bytes - TRAILER_BYTES))
        return infc_fail(INFC_EFILE, "the weights file changed its size after it was opened");
    infc_sha256 hash;
    infc_sha256_start(&hash);
    for (uint64_t done = 0; done < b->size;) {
        const size_t n = b->size - done < sizeof buffer ? (size_t)(b->size - done) : sizeof buffer;
        if (read_at(b->fd, buffer, n, b->offset + done)) return infc_fail(INFC_EFILE, "the weights cannot be read at byte %llu", (unsigned long long)done);
        infc_sha256_add(&hash, buffer, n);
        done += n;
    }
    infc_sha256_finish(&hash, digest);
    if (memcmp(digest, b->sha256, 32) || memcmp(t + 32, b->sha256, 32))
        return infc_fail(INFC_EFILE, "the weights do not match the checksum written at compile time: compile the program again");
    return INFC_OK;
}
