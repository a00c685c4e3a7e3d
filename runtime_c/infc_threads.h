// infc_threads.h: a team of persistent threads. Thread 0 is the caller of infc_team_run.
#ifndef INFC_THREADS_H
#define INFC_THREADS_H
#include <stdatomic.h>
#include <stdint.h>

typedef struct infc_team infc_team;
typedef void (*infc_team_fn)(void *arg, int thread, int n_threads);

// min(affinity mask, cgroup v1/v2 CPU quota rounded up, physical cores), at least 1.
int infc_default_threads(void);
// Starts n-1 workers, parked. pin != 0: thread i is bound to the i-th CPU of the affinity mask.
int infc_team_open(int n, int pin, infc_team **out);
void infc_team_close(infc_team *team);
int infc_team_size(const infc_team *team);
// Runs fn on all threads and returns when all have returned. Sets the default floating-point state (no FTZ/DAZ, round to nearest) on every thread.
void infc_team_run(infc_team *team, infc_team_fn fn, void *arg);
// Every thread of a running fn calls it equally often; spins briefly, then sleeps on a futex.
void infc_barrier(infc_team *team, int thread);
#endif
