// infc_huge.c: the page cache's small pieces of the weights become huge pages.
#define _GNU_SOURCE
#include "infc_huge.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "infc_memory.h"

#define PIECE ((size_t)INFC_HUGE_PAGE)
#define SHARE 16                                  // of the steps' time, one part
#define FIRST_CREDIT_NS ((int64_t)-4000000)       // a piece's worth, so that a short run is left alone
#define MOST_CREDIT_NS ((int64_t)50000000)
#define FIRST_PAUSE_NS ((uint64_t)2000000000)     // four times as long after every pass in vain
#define LOOK_AGAIN_NS ((uint64_t)60000000000)     // after a pass that left nothing small: what was reclaimed meanwhile came back as it could
// Looks: pieces at a time that need nothing, a microsecond each. Refusals: pieces one after another that were read anew and are small again;
// so it is with file systems that know no large pieces.
enum { MOST_VAIN = 3, MOST_LOOKS = 512, MOST_REFUSALS = 8 };

// linux/fs.h of 6.7 has these; headers are often older than the kernel.
typedef struct page_region { uint64_t start, end, categories; } page_region;
typedef struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask, return_mask;
} pm_scan_arg;
#define SCAN_PAGEMAP _IOWR('f', 16, pm_scan_arg)
#define IS_HUGE ((uint64_t)1 << 6)

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// 1 if the piece is mapped as one huge page, 0 if not, -1 if the kernel does not tell.
static int is_huge(int pagemap, const uint8_t *piece) {
    page_region region = {0};
    pm_scan_arg arg = {.size = sizeof arg, .start = (uintptr_t)piece, .end = (uintptr_t)piece + PIECE, .vec = (uintptr_t)&region, .vec_len = 1,
                       .category_mask = IS_HUGE, .return_mask = IS_HUGE};
    const int n = ioctl(pagemap, SCAN_PAGEMAP, &arg);
    if (n < 0) return -1;
    return n == 1 && region.end - region.start == PIECE;
}

void infc_huge_open(infc_huge *h, const infc_blob *b) {
    *h = (infc_huge){.fd = b->fd, .pagemap = -1, .credit_ns = FIRST_CREDIT_NS};
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * page;
    if (b->size < 2 * PIECE || b->size > memory / 4 * 3 || page != 4096) return;
    const size_t skip = (PIECE - (uintptr_t)b->base % PIECE) % PIECE;  // address and offset in the file agree within a piece
    h->first = h->next = (uint8_t *)(uintptr_t)b->base + skip;
    h->end = h->first + (b->size - skip) / PIECE * PIECE;
    h->file_offset = (int64_t)(b->offset + skip);
    h->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (h->pagemap >= 0 && is_huge(h->pagemap, h->first) < 0) infc_huge_close(h);
}

void infc_huge_close(infc_huge *h) {
    if (h->pagemap >= 0) close(h->pagemap);
    h->pagemap = -1;
}

static int is_cached(uint8_t *piece) {
    unsigned char page[PIECE / 4096];
    if (mincore(piece, PIECE, page)) return 1;
    for (size_t i = 0; i < sizeof page; i++)
        if (page[i] & 1) return 1;
    return 0;
}

// Pages that a mapping holds stay in the page cache, so ours goes first. Pages not written back yet stay too, and begin to be written.
// Returns 1 if the piece came from the disk.
static int read_again(const infc_huge *h, uint8_t *piece) {
    madvise(piece, PIECE, MADV_DONTNEED);
    posix_fadvise(h->fd, (off_t)(h->file_offset + (piece - h->first)), (off_t)PIECE, POSIX_FADV_DONTNEED);
    const int dropped = !is_cached(piece);
    madvise(piece, PIECE, MADV_POPULATE_READ);
    return dropped;
}

// Returns 1 if time was spent on the piece.
static int tend(infc_huge *h, uint8_t *piece) {
    if (is_huge(h->pagemap, piece) == 1) return 0;
    // A kernel with CONFIG_READ_ONLY_THP_FOR_FS, or a file in memory, needs no disk.
    const int read = madvise(piece, PIECE, MADV_COLLAPSE) && read_again(h, piece);
    if (is_huge(h->pagemap, piece) == 1) {
        h->gained++;
        h->refusals = 0;
        return 1;
    }
    h->small++;
    h->refusals += read;
    if (h->refusals == MOST_REFUSALS) infc_huge_close(h);
    return 1;
}

static void end_pass(infc_huge *h) {
    h->vain = h->gained || h->small == 0 ? 0 : h->vain + 1;
    if (h->vain == MOST_VAIN) {
        infc_huge_close(h);
        return;
    }
    h->pause_ns = h->small ? FIRST_PAUSE_NS : LOOK_AGAIN_NS;
    for (int32_t i = 0; i < h->vain; i++) h->pause_ns *= 4;
    h->small = h->gained = 0;
    h->next = h->first;
}

void infc_huge_earn(infc_huge *h, uint64_t ns) {
    h->pause_ns -= ns < h->pause_ns ? ns : h->pause_ns;
    h->credit_ns += (int64_t)(ns / SHARE);
    if (h->credit_ns > MOST_CREDIT_NS) h->credit_ns = MOST_CREDIT_NS;
}

void infc_huge_spend(infc_huge *h) {
    while (h->pagemap >= 0 && h->pause_ns == 0 && h->credit_ns > 0) {
        const uint64_t start = now_ns();
        for (int looks = 0, spent = 0; h->next < h->end && looks < MOST_LOOKS && !spent; h->next += PIECE, looks++) spent = tend(h, h->next);
        h->credit_ns -= (int64_t)(now_ns() - start);
        if (h->next == h->end && h->pagemap >= 0) end_pass(h);
    }
}

void infc_huge_step_begin(infc_huge *h) {
    if (h->pagemap < 0) return;
    infc_huge_spend(h);
    h->start_ns = now_ns();
}

void infc_huge_step_end(infc_huge *h) {
    if (h->pagemap >= 0) infc_huge_earn(h, now_ns() - h->start_ns);
}
