// infc_startup.h: starts this executable anew and watches it from outside: the only honest view of start-up time and memory.
#ifndef INFC_STARTUP_H
#define INFC_STARTUP_H
#include <stdint.h>

typedef struct infc_startup {
    double first_byte_s;  // from before the process is created to the first byte on its stdout
    uint64_t peak_rss;    // bytes, as the kernel counts them, mapped weights included
} infc_startup;

// Runs /proc/self/exe with argv (argv[0] included) and reads its stdout to the end. 0, or -1 if it cannot be run or fails.
int infc_startup_measure(char *const argv[], infc_startup *out);

#endif
