// infc_bandwidth.h: how fast this machine reads memory, so that a speed stands beside its limit.
#ifndef INFC_BANDWIDTH_H
#define INFC_BANDWIDTH_H
#include <stddef.h>

typedef struct infc_bandwidth {
    unsigned char *data;
    size_t size;   // bytes of one pass, a multiple of 4096 * threads
    int threads;
    int kernel;    // the fastest of the readers on this machine
} infc_bandwidth;

// Reserves and fills `size` bytes and finds the reader that is fastest with this many threads. 0 or -1 (no memory, no threads).
int infc_bandwidth_open(infc_bandwidth *b, size_t size, int threads);
// Reads the buffer for at least `seconds` on all threads. Bytes per second, or -1.
double infc_bandwidth_measure(const infc_bandwidth *b, double seconds);
void infc_bandwidth_close(infc_bandwidth *b);

#endif
