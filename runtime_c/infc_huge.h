// infc_huge.h: weights that lie in the page cache in small pieces are read anew as huge pages, a piece between two steps.
//
// A core reads huge pages up to twice as fast as pages of 4 KiB (docs/performance.md), and a file that was copied to its machine lies in
// the page cache as the copying left it. A piece that is not mapped as a huge page is dropped from the page cache and read again under
// MADV_HUGEPAGE, while no step runs. That costs a read of the file, so it is paid out of 1/16 of the time that steps take: a slow disk
// makes it take longer, not the steps. What cannot be had now (no free huge page, a file not written back yet, another process that maps it too)
// is tried again later, a few times; what was done is looked at again once in a minute of steps, since idle pages may be reclaimed.
//
// System calls, for whoever filters them: ioctl (PAGEMAP_SCAN), madvise, fadvise64, mincore, clock_gettime.
#ifndef INFC_HUGE_H
#define INFC_HUGE_H
#include <stdint.h>

#include "infc_blob.h"

typedef struct infc_huge {
    int fd;                // of the weights: the blob's
    int pagemap;           // /proc/self/pagemap, which tells what a piece is mapped as; -1: nothing (more) is done
    uint8_t *first, *end;  // the blob's whole huge pages
    uint8_t *next;         // the piece to look at next
    int64_t file_offset;   // of `first`
    uint64_t start_ns;     // of the step that runs
    int64_t credit_ns;     // time that steps have earned; below 0: spent before it was earned
    uint64_t pause_ns;     // time that steps must take before the next pass
    int32_t small, gained; // of this pass: pieces that stayed small, pieces that became huge
    int32_t vain;          // passes in which none became huge
    int32_t refusals;      // pieces since the last that became huge, which were read anew for nothing
} infc_huge;

// To be called with the weights mapped. Where the kernel does not tell (Linux before 6.7) or pages have another size, nothing is done.
void infc_huge_open(infc_huge *h, const infc_blob *b);
void infc_huge_close(infc_huge *h);
// Around a step, by its thread; between a step's end and the next one's begin nobody may read weights.
void infc_huge_step_begin(infc_huge *h);
void infc_huge_step_end(infc_huge *h);
// What the two do but for the clock: adds the share of `ns` of steps, and spends what there is.
void infc_huge_earn(infc_huge *h, uint64_t ns);
void infc_huge_spend(infc_huge *h);

#endif
