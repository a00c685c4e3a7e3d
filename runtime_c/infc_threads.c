// infc_threads.c: a team of persistent threads; barrier and parking over futexes.
//
// Everything waits on a `signal`: a counter that one thread raises and others wait to reach. A waiter spins a bounded time, then
// sleeps in the kernel; the raiser makes a system call only when somebody sleeps. The barrier is flat for few threads (each raises
// its own signal and waits for all the others': two cache lines cross at once, no read-modify-write is shared) and goes through
// thread 0 for many.
//
// fork(): the child has no workers, and a run there would wait for ever. infc_step refuses in a child (see infc_api.c).
#define _GNU_SOURCE
#include "infc_threads.h"

#include <errno.h>
#include <linux/futex.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "infc.h"
#include "infc_error.h"
#include "infc_fp.h"
#include "infc_memory.h"
#include "infc_quota.h"

enum {
    LINE = 128,             // two cache lines: the adjacent-line prefetcher pairs them
    FLAT_MAX = 6,           // threads up to which everybody watches everybody
    SPIN_NS = 40000,        // about the time two futex calls and a wake-up cost
    IDLE_SPIN = 4,          // times longer between runs: sampling and printing a token takes about 100 us
    SPIN_CROWDED = 20,      // pauses, when there are more threads than CPUs: spinning only delays the one waited for
    STACK_BYTES = 1 << 20   // touched as needed; holds static TLS too, of which the sanitizers have 900 KB
};

typedef struct signal_line {
    _Alignas(LINE) atomic_uint value;
    atomic_uint sleepers;
} signal_line;

typedef struct worker {
    signal_line arrived;  // barrier epoch of this thread
    signal_line done;     // run epoch it has finished
    infc_team *team;
    int index;
    int cpu;              // to bind to; -1: anywhere
    pthread_t thread;
    infc_region stack;
} worker;

struct infc_team {
    signal_line start;    // run epoch
    infc_team_fn fn;      // NULL: leave
    void *arg;
    int n, n_started;     // threads, workers that must be joined
    int spins;            // pauses before sleeping
    int pinned;           // the opening thread's mask was changed
    pid_t pinned_tid;
    infc_cpu_mask callers_mask;
    worker worker[];      // (n), 0 is the caller
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __asm__ volatile("pause" : : : "memory");
#elif defined(__aarch64__)
    __asm__ volatile("isb" : : : "memory");
#endif
}

static void futex_wait(atomic_uint *address, unsigned expected) {
    syscall(SYS_futex, address, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);  // spurious returns are fine: the caller looks again
}

static void futex_wake_all(atomic_uint *address) { syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

// Sequentially consistent on both sides: either the raiser sees the sleeper, or the sleeper's kernel check sees the new value.
static void raise_to(signal_line *s, unsigned value) {
    atomic_store_explicit(&s->value, value, memory_order_seq_cst);
    if (atomic_load_explicit(&s->sleepers, memory_order_seq_cst)) futex_wake_all(&s->value);
}

static void wait_for(signal_line *s, unsigned value, int spins) {
    // Differences, not order: the counters wrap after 2^32 barriers.
    for (int i = 0; i < spins; i++) {
        if ((int)(atomic_load_explicit(&s->value, memory_order_acquire) - value) >= 0) return;
        pause_cpu();
    }
    unsigned seen = atomic_load_explicit(&s->value, memory_order_acquire);
    if ((int)(seen - value) >= 0) return;
    atomic_fetch_add_explicit(&s->sleepers, 1, memory_order_seq_cst);
    while ((int)((seen = atomic_load_explicit(&s->value, memory_order_seq_cst)) - value) < 0) futex_wait(&s->value, seen);
    atomic_fetch_sub_explicit(&s->sleepers, 1, memory_order_seq_cst);
}

void infc_barrier(infc_team *team, int thread) {
    if (team->n == 1) return;
    worker *w = team->worker;
    const unsigned epoch = atomic_load_explicit(&w[thread].arrived.value, memory_order_relaxed) + 1;
    if (team->n <= FLAT_MAX) {
        raise_to(&w[thread].arrived, epoch);
        for (int i = 0; i < team->n; i++)
            if (i != thread) wait_for(&w[i].arrived, epoch, team->spins);
    } else if (thread == 0) {
        for (int i = 1; i < team->n; i++) wait_for(&w[i].arrived, epoch, team->spins);
        raise_to(&w[0].arrived, epoch);
    } else {
        raise_to(&w[thread].arrived, epoch);
        wait_for(&w[0].arrived, epoch, team->spins);
    }
}

static void bind_to(int cpu) {
    infc_cpu_mask one = {{0}};
    one.word[(unsigned)cpu / INFC_WORD_BITS] = 1ul << ((unsigned)cpu % INFC_WORD_BITS);
    sched_setaffinity(0, sizeof one.word, (const cpu_set_t *)one.word);  // refused in some sandboxes; then it runs unbound
}

static void *worker_main(void *arg) {
    worker *self = arg;
    infc_team *team = self->team;
    if (self->cpu >= 0) bind_to(self->cpu);
    for (unsigned epoch = 1;; epoch++) {
        wait_for(&team->start, epoch, IDLE_SPIN * team->spins);
        if (!team->fn) return NULL;
        const uint64_t fp = infc_fp_enter();
        team->fn(team->arg, self->index, team->n);
        infc_fp_leave(fp);
        raise_to(&self->done, epoch);
    }
}

void infc_team_run(infc_team *team, infc_team_fn fn, void *arg) {
    const unsigned epoch = atomic_load_explicit(&team->start.value, memory_order_relaxed) + 1;
    if (team->n > 1) {
        team->fn = fn;
        team->arg = arg;
        raise_to(&team->start, epoch);
    }
    const uint64_t fp = infc_fp_enter();
    fn(arg, 0, team->n);
    infc_fp_leave(fp);
    for (int i = 1; i < team->n; i++) wait_for(&team->worker[i].done, epoch, team->spins);
}

// Pauses that fill SPIN_NS: a pause takes 5 ns on some CPUs and 50 on others. The best of five, so an interruption cannot shorten it.
static int calibrate_spins(void) {
    enum { PAUSES = 50 };
    int64_t best = INT64_MAX;
    for (int k = 0; k < 5; k++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int i = 0; i < PAUSES; i++) pause_cpu();
        clock_gettime(CLOCK_MONOTONIC, &b);
        const int64_t ns = (b.tv_sec - a.tv_sec) * INT64_C(1000000000) + (b.tv_nsec - a.tv_nsec);
        if (ns < best) best = ns;
    }
    if (best < 100) best = 100;
    return (int)((int64_t)SPIN_NS * PAUSES / best);
}

static int start_worker(worker *w) {
    int rc = infc_region_open(&w->stack, STACK_BYTES, 0, "a thread's stack");
    if (rc) return rc;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes)) return infc_fail(INFC_ENOMEM, "no memory for a thread");
    // Our own stacks: pthread_join then unmaps nothing, which the sandbox of the executable would not allow.
    int error = pthread_attr_setstack(&attributes, w->stack.data, STACK_BYTES);
    if (!error) error = pthread_create(&w->thread, &attributes, worker_main, w);
    pthread_attr_destroy(&attributes);
    return error ? infc_fail(INFC_ENOMEM, "cannot start thread %d: %s; ask for fewer threads", w->index, strerror(error)) : INFC_OK;
}

// The application's signals are for its own threads. Faults stay deliverable, so that its handlers see a fault in a worker.
static void block_signals(sigset_t *old) {
    sigset_t all;
    sigfillset(&all);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, old);
}

static void assign_cpus(infc_team *team) {
    int cpu = -1;
    for (int i = 0; i < team->n; i++) {
        do cpu = (cpu + 1) % (INFC_CPU_WORDS * (int)INFC_WORD_BITS);
        while (!infc_mask_has(&team->callers_mask, cpu));
        team->worker[i].cpu = cpu;
    }
}

int infc_team_open(int n, int pin, infc_team **out) {
    *out = NULL;
    if (n < 1 || n > 4096) return infc_fail(INFC_EINPUT, "%d threads asked for; 1 to 4096 are possible", n);
    const size_t bytes = sizeof(infc_team) + (size_t)n * sizeof(worker);
    infc_team *team = aligned_alloc(LINE, bytes);
    if (!team) return infc_fail(INFC_ENOMEM, "no memory for a team of %d threads", n);
    memset(team, 0, bytes);
    team->n = n;
    int cpus = infc_mask_get(&team->callers_mask);
    const int quota = n == 1 ? 0 : infc_quota_cpus("");  // a dozen small files: nobody alone needs them
    if (quota && quota < cpus) cpus = quota;
    team->spins = n == 1 ? 0 : n <= cpus ? calibrate_spins() : SPIN_CROWDED;
    for (int i = 0; i < n; i++) {
        team->worker[i].team = team;
        team->worker[i].index = i;
        team->worker[i].cpu = -1;
    }
    if (pin) assign_cpus(team);
    sigset_t signals;
    block_signals(&signals);
    int rc = INFC_OK;
    for (int i = 1; i < n && !rc; i++) {
        rc = start_worker(&team->worker[i]);
        if (!rc) team->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
    if (rc) {
        infc_team_close(team);
        return rc;
    }
    if (pin) {
        bind_to(team->worker[0].cpu);
        team->pinned = 1;
        team->pinned_tid = (pid_t)syscall(SYS_gettid);
    }
    *out = team;
    return INFC_OK;
}

void infc_team_close(infc_team *team) {
    if (!team) return;
    if (team->n_started) {
        team->fn = NULL;
        raise_to(&team->start, atomic_load(&team->start.value) + 1);
        for (int i = 1; i <= team->n_started; i++) pthread_join(team->worker[i].thread, NULL);
    }
    for (int i = 1; i < team->n; i++) infc_region_close(&team->worker[i].stack);
    if (team->pinned) sched_setaffinity(team->pinned_tid, sizeof team->callers_mask.word, (const cpu_set_t *)team->callers_mask.word);
    free(team);
}

int infc_team_size(const infc_team *team) { return team->n; }
