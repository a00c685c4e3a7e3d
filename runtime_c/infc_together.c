// infc_together.c: threads of a measurement. They are not the model's own team: a limit is measured without what it limits.
#define _GNU_SOURCE
#include "infc_together.h"
#include "infc_output.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct job {
    infc_together_fn fn;
    void *arg;
    int thread;
    _Atomic int *waiting;  // threads that are not at the start yet
} job;

static cpu_set_t cpus;
static int cpus_known;

void infc_together_prepare(void) { cpus_known = sched_getaffinity(0, sizeof cpus, &cpus) == 0; }

static int start(pthread_t *id, void *(*run)(void *), job *j) {
    pthread_attr_t attr;
    cpu_set_t own, others = cpus;
    if (pthread_attr_init(&attr) != 0) return -1;
    if (sched_getaffinity(0, sizeof own, &own) == 0 && CPU_COUNT(&own) == 1) CPU_XOR(&others, &others, &own);  // that CPU is taken
    int rc = cpus_known && CPU_COUNT(&others) > 0 ? pthread_attr_setaffinity_np(&attr, sizeof others, &others) : 0;
    if (rc == 0) rc = pthread_create(id, &attr, run, j);
    pthread_attr_destroy(&attr);
    return rc;
}

static void *work(void *arg) {
    job *j = arg;
    atomic_fetch_sub(j->waiting, 1);
    while (atomic_load_explicit(j->waiting, memory_order_acquire) > 0) {
    }
    j->fn(j->arg, j->thread);
    return NULL;
}

double infc_together(int n, infc_together_fn fn, void *arg) {
    _Atomic int waiting = n;
    job *jobs = calloc((size_t)n, sizeof *jobs);
    pthread_t *ids = calloc((size_t)n, sizeof *ids);
    int started = 1;
    double seconds = -1;
    if (jobs != NULL && ids != NULL) {
        for (int i = 0; i < n; i++) jobs[i] = (job){fn, arg, i, &waiting};
        while (started < n && start(&ids[started], work, &jobs[started]) == 0) started++;
        if (started == n) {
            while (atomic_load(&waiting) > 1) {
            }
            double began = infc_now();
            work(&jobs[0]);
            for (int i = 1; i < n; i++) pthread_join(ids[i], NULL);
            seconds = infc_now() - began;
        } else {
            atomic_store(&waiting, 0);  // let those that did start go
            for (int i = 1; i < started; i++) pthread_join(ids[i], NULL);
        }
    }
    free(jobs);
    free(ids);
    return seconds;
}
