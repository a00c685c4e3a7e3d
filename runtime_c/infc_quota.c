// infc_quota.c: affinity, cgroup quota, topology. No allocation; every read is bounded.
#define _GNU_SOURCE
#include "infc_quota.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "infc_threads.h"

int infc_mask_get(infc_cpu_mask *out) {
    memset(out, 0, sizeof *out);
    if (sched_getaffinity(0, sizeof out->word, (cpu_set_t *)out->word)) {
        const long n = sysconf(_SC_NPROCESSORS_ONLN);
        for (int i = 0; i < n && i < 8192; i++) out->word[(unsigned)i / INFC_WORD_BITS] |= 1ul << ((unsigned)i % INFC_WORD_BITS);
    }
    int n = 0;
    for (int i = 0; i < INFC_CPU_WORDS; i++) n += __builtin_popcountl(out->word[i]);
    if (n > 0) return n;
    out->word[0] = 1;
    return 1;
}

// Reads a small text file into a NUL-terminated buffer; returns its length, -1 if it cannot be read.
static int read_text(char *out, size_t cap, const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    size_t n = 0;
    for (ssize_t got; n < cap - 1 && (got = read(fd, out + n, cap - 1 - n)) > 0;) n += (size_t)got;
    close(fd);
    out[n] = 0;
    return (int)n;
}

// CPUs of "quota period" in microseconds, rounded up; 0 if there is no limit ("max", -1) or the text makes no sense.
static int quota_of(const char *quota, const char *period) {
    char *end;
    const long long q = strtoll(quota, &end, 10);
    if (end == quota || q <= 0) return 0;
    const long long p = strtoll(period, &end, 10);
    if (end == period || p <= 0) return 0;
    const long long cpus = q / p + (q % p != 0);
    return cpus > INT_MAX ? 0 : (int)cpus;
}

static int quota_v2(const char *folder) {
    char path[PATH_MAX + 32], text[128];
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (read_text(text, sizeof text, path) <= 0) return 0;
    const char *period = strchr(text, ' ');
    return period ? quota_of(text, period) : 0;
}

static int quota_v1(const char *folder) {
    char path[PATH_MAX + 32], quota[64], period[64];
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (read_text(quota, sizeof quota, path) <= 0) return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (read_text(period, sizeof period, path) <= 0) return 0;
    return quota_of(quota, period);
}

static int tighter(int a, int b) { return a == 0 ? b : b == 0 ? a : a < b ? a : b; }

// The tightest quota from the group up to the mount. In a container the group's path is often the host's and missing under the
// mount; its parents then are missing too, down to the mount itself, which is the container's own group.
static int walk(const char *mount, const char *group, int (*quota)(const char *folder)) {
    char folder[PATH_MAX];
    if (strstr(group, "..")) group = "";
    const int n = snprintf(folder, sizeof folder, "%s%s", mount, group);
    if (n < 0 || (size_t)n >= sizeof folder) return 0;
    int best = 0;
    for (const size_t base = strlen(mount);;) {
        best = tighter(best, quota(folder));
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < base) return best;
        *slash = 0;
    }
}

static int has_cpu_controller(const char *list, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && list[end] != ',') end++;
        if (end - i == 3 && !memcmp(list + i, "cpu", 3)) return 1;
        i = end + 1;
    }
    return 0;
}

int infc_quota_cpus(const char *root) {
    char text[16384], path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (read_text(text, sizeof text, path) <= 0) return 0;
    int best = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {  // "hierarchy:controllers:/group"
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        controllers++;
        const size_t n = (size_t)(group++ - controllers);
        if (n == 0) {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup", root);
            best = tighter(best, walk(path, group, quota_v2));
        } else if (has_cpu_controller(controllers, n)) {
            // Mounted under the controllers' joint name, with a link "cpu" on most systems.
            snprintf(path, sizeof path, "%s/sys/fs/cgroup/%.*s", root, (int)(n < 256 ? n : 256), controllers);
            best = tighter(best, walk(path, group, quota_v1));
            snprintf(path, sizeof path, "%s/sys/fs/cgroup/cpu", root);
            best = tighter(best, walk(path, group, quota_v1));
        }
    }
    return best;
}

int infc_physical_cores(const char *root, const infc_cpu_mask *mask) {
    infc_cpu_mask cores = {{0}};
    const int n_cpus = INFC_CPU_WORDS * (int)INFC_WORD_BITS;
    for (int cpu = 0; cpu < n_cpus; cpu++) {
        if (!infc_mask_has(mask, cpu)) continue;
        char path[PATH_MAX], text[256];
        snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", root, cpu);
        long first = cpu;  // a core is named by its lowest hardware thread: "0,4" or "0-1"
        if (read_text(text, sizeof text, path) > 0) {
            char *end;
            const long value = strtol(text, &end, 10);
            if (end != text && value >= 0 && value < n_cpus) first = value;
        }
        cores.word[(unsigned long)first / INFC_WORD_BITS] |= 1ul << ((unsigned long)first % INFC_WORD_BITS);
    }
    int n = 0;
    for (int i = 0; i < INFC_CPU_WORDS; i++) n += __builtin_popcountl(cores.word[i]);
    return n > 0 ? n : 1;
}

int infc_default_threads(void) {
    infc_cpu_mask mask;
    infc_mask_get(&mask);
    const int cores = infc_physical_cores("", &mask), quota = infc_quota_cpus("");
    return quota && quota < cores ? quota : cores;
}
