// infc_together.h: one function on several threads at once, timed from the moment when all are ready.
#ifndef INFC_TOGETHER_H
#define INFC_TOGETHER_H

// Remembers the CPUs that the caller may use now, for the threads to come: they would otherwise inherit what --pin makes of it, and share
// its one CPU.
void infc_together_prepare(void);

typedef void (*infc_together_fn)(void *arg, int thread);

// Runs fn(arg, 0..threads-1), thread 0 on the caller's. Seconds until the last has returned, or -1 if the threads cannot be had.
double infc_together(int threads, infc_together_fn fn, void *arg);

#endif
