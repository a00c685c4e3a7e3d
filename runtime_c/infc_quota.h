// infc_quota.h: how many CPUs this process may really use.
#ifndef INFC_QUOTA_H
#define INFC_QUOTA_H
#include <stddef.h>

enum { INFC_CPU_WORDS = 128 };  // affinity masks of up to 8192 CPUs
enum { INFC_WORD_BITS = 8 * sizeof(unsigned long) };

typedef struct infc_cpu_mask { unsigned long word[INFC_CPU_WORDS]; } infc_cpu_mask;

static inline int infc_mask_has(const infc_cpu_mask *m, int cpu) {
    return (int)(m->word[(unsigned)cpu / INFC_WORD_BITS] >> ((unsigned)cpu % INFC_WORD_BITS) & 1);
}

// The calling thread's affinity mask; returns the number of CPUs in it, at least 1.
int infc_mask_get(infc_cpu_mask *out);
// The functions below read ROOT/proc and ROOT/sys; root is "" in a program and a folder in tests.
// CPUs granted by the cgroup (v1 or v2) and all its parents, rounded up; 0: no quota.
int infc_quota_cpus(const char *root);
// Physical cores among the CPUs of the mask: hardware threads of one core count once.
int infc_physical_cores(const char *root, const infc_cpu_mask *mask);

#endif
