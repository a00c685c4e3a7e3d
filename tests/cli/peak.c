// peak.c: prints, for each instruction set named, the loops that infc_peak.c chose and whether both rates are positive.
#define _GNU_SOURCE
#include "infc_output.h"
#include "infc_peak.h"

#include <stdio.h>
#include <time.h>

double infc_now(void) {  // infc_output.c's needs the whole library
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        infc_peak p;
        int rc = infc_peak_open(&p, argv[i], 2);
        int positive = rc == 0;
        for (int kind = 0; rc == 0 && kind < INFC_PEAK_KINDS; kind++) positive &= infc_peak_measure(&p, kind, 0.001) > 0;
        printf("%s %d %d", argv[i], rc, positive);
        for (int kind = 0; kind < INFC_PEAK_KINDS; kind++) printf(" %d", p.best[kind]);
        printf("\n");
    }
    return 0;
}
