// infc_peak.h: how many multiply-accumulates a second this machine can do with the instructions that one ISA may use.
#ifndef INFC_PEAK_H
#define INFC_PEAK_H

typedef struct infc_peak {
    int threads;
    int best[3];  // the fastest loop of each kind
} infc_peak;

// u8 x s8 into s32, s16 x s16 into s32, and f32 fused multiply-add
enum { INFC_PEAK_INT8, INFC_PEAK_INT16, INFC_PEAK_F32, INFC_PEAK_KINDS };

// Finds the loops that are fastest with this many threads; isa is a backend's ("scalar", "avx2", "avx512", "amx"). 0 or -1 (no threads).
int infc_peak_open(infc_peak *p, const char *isa, int threads);
// Runs the loop of one kind for about `seconds` on all threads. Multiply-accumulates per second, or -1.
double infc_peak_measure(const infc_peak *p, int kind, double seconds);

#endif
