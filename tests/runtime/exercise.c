// exercise.c: the runtime and the fake program under the sanitizers.
//   exercise BLOB_FILE SCRATCH_FILE    prints "ok"; needs the linker's --wrap for the calls named below
// 1. every allocation of infc_open and infc_sampler_open fails once; 2. random sequence operations, by one thread and by three at a time;
// 3. damaged blobs; 4. samplers over hostile logits.
#define _GNU_SOURCE
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "infc.h"

enum { VOCAB = 101, N_CTX = 40, MAX_SEQS = 6 };
int fake_check_pages(const infc_model *m);

#define CHECK(x) do { if (!(x)) { printf("exercise.c:%d: %s (%s)\n", __LINE__, #x, infc_last_error()); exit(1); } } while (0)

// ---- failing allocations -----------------------------------------------------------------------------------------------------

static long fail_at, calls;  // the fail_at-th wrapped call fails; 0: none
static int fails(void) { return ++calls == fail_at; }

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) { return fails() ? NULL : __real_aligned_alloc(alignment, size); }
void *__real_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    return fails() ? MAP_FAILED : __real_mmap(at, n, protection, flags, fd, offset);
}
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg) {
    return fails() ? 11 : __real_pthread_create(t, a, f, arg);
}

static int open_files(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static infc_model *open_model(const char *path, int threads) {
    const infc_options o = {.size = sizeof o, .threads = threads, .weights_path = path};
    infc_model *m;
    CHECK(infc_open(&o, &m) == 0);
    return m;
}

static void failing_allocations(const char *path) {
    const infc_options o = {.size = sizeof o, .threads = 3, .weights_path = path};
    const infc_sampling p = {.size = sizeof p, .temperature = 1, .top_p = 0.9f, .repeat_penalty = 1.1f, .repeat_last_n = 8};
    const int files = open_files();
    int failures = 0;
    for (long n = 1;; n++) {
        infc_model *m = (infc_model *)1;
        calls = 0;
        fail_at = n;
        const int rc = infc_open(&o, &m);
        fail_at = 0;
        if (rc == 0) {
            infc_close(m);
            break;
        }
        failures++;
        CHECK(rc == INFC_ENOMEM && !m && infc_last_error()[0]);
        CHECK(open_files() == files);
    }
    CHECK(failures >= 10);
    infc_model *m = open_model(path, 1);
    for (failures = 0;; failures++) {
        infc_sampler *s = (infc_sampler *)1;
        calls = 0;
        fail_at = failures + 1;
        const int rc = infc_sampler_open(m, &p, &s);
        fail_at = 0;
        if (rc == 0) {
            infc_sampler_close(s);
            break;
        }
        CHECK(rc == INFC_ENOMEM && !s);
    }
    CHECK(failures == 2);
    // The step allocates nothing: it works when every allocation fails.
    float logits[VOCAB];
    const infc_row row = {infc_seq_open(m), 0, 5, INFC_ROW_LOGITS};
    calls = 0;
    CHECK(infc_step(m, &row, 1, logits, NULL) == 0 && calls == 0);
    infc_close(m);
}

// ---- random operations -------------------------------------------------------------------------------------------------------

static uint32_t next_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

typedef struct job {
    infc_model *m;
    uint64_t random;
    int alone;  // nobody else uses the model: bookkeeping may be looked at
} job;

static void *random_operations(void *arg) {
    job *j = arg;
    int mine[MAX_SEQS], n_mine = 0;
    float logits[12 * VOCAB], hidden[12 * 4];
    infc_row rows[12];
    for (int turn = 0; turn < 1500; turn++) {
        const uint32_t r = next_random(&j->random);
        const int k = n_mine ? (int)(r >> 8) % n_mine : 0;
        if (n_mine == 0 || r % 16 == 0) {
            const int s = n_mine == MAX_SEQS ? -1 : infc_seq_open(j->m);
            if (s >= 0) mine[n_mine++] = s;
        } else if (r % 16 == 1) {
            const int s = n_mine == MAX_SEQS ? -1 : infc_seq_fork(j->m, mine[k], (int)(r >> 16) % (infc_seq_length(j->m, mine[k]) + 1));
            if (s >= 0) mine[n_mine++] = s;
        } else if (r % 16 == 2) {
            CHECK(infc_seq_close(j->m, mine[k]) == 0);
            mine[k] = mine[--n_mine];
        } else if (r % 16 < 5) {
            CHECK(infc_seq_truncate(j->m, mine[k], (int)(r >> 16) % (infc_seq_length(j->m, mine[k]) + 1)) == 0);
        } else {
            const int n = 1 + (int)(r >> 16) % 12, start = infc_seq_length(j->m, mine[k]);
            for (int i = 0; i < n; i++) rows[i] = (infc_row){mine[k], start + i, (int)(next_random(&j->random) % VOCAB), r >> 20 & 3};
            const int rc = infc_step(j->m, rows, n, logits, hidden);
            CHECK(rc == 0 || rc == INFC_ELIMIT);
            CHECK(infc_seq_length(j->m, mine[k]) == start + (rc ? 0 : n));
        }
        if (j->alone) CHECK(fake_check_pages(j->m) == 0);
    }
    while (n_mine) CHECK(infc_seq_close(j->m, mine[--n_mine]) == 0);
    return NULL;
}

static void operations(const char *path) {
    infc_model *m = open_model(path, 2);
    random_operations(&(job){m, 1, 1});
    pthread_t t[3];
    job jobs[3] = {{m, 2, 0}, {m, 3, 0}, {m, 4, 0}};
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&t[i], NULL, random_operations, &jobs[i]) == 0);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    CHECK(fake_check_pages(m) == 0);
    infc_close(m);
}

// ---- damaged blobs -----------------------------------------------------------------------------------------------------------

static void damaged_blobs(const char *path, const char *scratch) {
    static uint8_t file[1 << 15];
    FILE *f = fopen(path, "rb");
    CHECK(f);
    const size_t n = fread(file, 1, sizeof file, f);
    fclose(f);
    CHECK(n > 8192 && n < sizeof file);
    uint64_t random = 5;
    for (int turn = 0; turn < 400; turn++) {
        uint8_t old[4];
        size_t at[4];
        for (int i = 0; i < 4; i++) {  // in the section table or the trailer
            at[i] = next_random(&random) % 2 ? next_random(&random) % 80 : n - 1 - next_random(&random) % 64;
            old[i] = file[at[i]];
            file[at[i]] = (uint8_t)next_random(&random);
        }
        CHECK((f = fopen(scratch, "wb")));
        CHECK(fwrite(file, 1, n - (turn % 5 == 0 ? next_random(&random) % n : 0), f) > 0);
        fclose(f);
        const infc_options o = {.size = sizeof o, .threads = 1, .weights_path = scratch};
        infc_model *m;
        const int rc = infc_open(&o, &m);
        CHECK(rc == 0 || rc == INFC_EFILE || rc == INFC_ENOMEM);
        if (!rc) {
            size_t size;
            const char *meta = infc_meta(m, &size);
            for (size_t i = 0; i < size; i++) CHECK(meta[i] != 1 || 1);  // every byte is readable
            infc_verify(m);
        }
        infc_close(m);
        for (int i = 3; i >= 0; i--) file[at[i]] = old[i];
    }
}

// ---- samplers ----------------------------------------------------------------------------------------------------------------

static void samplers(const char *path) {
    infc_model *m = open_model(path, 1);
    uint64_t random = 6;
    const float odd[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 1e-40f, 100, -100};
    float *logits = malloc(VOCAB * sizeof *logits);  // exactly as long: an over-read shows
    for (int turn = 0; turn < 1500; turn++) {
        const infc_sampling p = {.size = sizeof p, .temperature = (float[]){0, 1e-45f, 0.5f, 1, 1e30f}[next_random(&random) % 5],
                                 .top_k = (int[]){0, -3, 1, 5, 100, 101, 5000}[next_random(&random) % 7], .top_p = (float[]){0, 1e-9f, 0.5f, 0.999999f, 1, 7}[next_random(&random) % 6],
                                 .min_p = (float[]){0, 1e-45f, 0.1f, 1}[next_random(&random) % 4], .repeat_penalty = (float[]){1, 1.3f, 1e-30f, 1e30f}[next_random(&random) % 4],
                                 .repeat_last_n = (int[]){0, 1, 7, -1}[next_random(&random) % 4], .seed = (uint64_t)turn};
        infc_sampler *s;
        CHECK(infc_sampler_open(m, &p, &s) == 0);
        for (int i = 0; i < 20; i++) {
            const int oddity = (int)(next_random(&random) % 4);  // none, few, many, only odd values
            for (int v = 0; v < VOCAB; v++) {
                const uint32_t r = next_random(&random);
                logits[v] = (int)(r % 4) < oddity ? odd[(r >> 8) % (sizeof odd / sizeof odd[0])] : (float)(r % 1000) / 50;
            }
            infc_choice c = {-1, NAN};
            CHECK(infc_sample(s, logits, &c) == 0);
            CHECK(c.id >= 0 && c.id < VOCAB && c.logprob <= 0.001f);
        }
        infc_sampler_close(s);
    }
    free(logits);
    infc_close(m);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    failing_allocations(argv[1]);
    operations(argv[1]);
    damaged_blobs(argv[1], argv[2]);
    samplers(argv[1]);
    puts("ok");
    return 0;
}
