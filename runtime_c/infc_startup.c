// infc_startup.c: start-up time and peak memory of a child that runs this executable.
#define _GNU_SOURCE
#include "infc_startup.h"
#include "infc_output.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int spawn(char *const argv[], int out_fd, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) return -1;
    int rc = posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    if (rc == 0) rc = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (rc == 0) rc = posix_spawn(pid, "/proc/self/exe", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return rc == 0 ? 0 : -1;
}

int infc_startup_measure(char *const argv[], infc_startup *out) {
    int fds[2];
    pid_t pid;
    if (pipe2(fds, O_CLOEXEC) != 0) return -1;
    double start = infc_now();
    if (spawn(argv, fds[1], &pid) != 0) {
        close(fds[0]);
        close(fds[1]);
        return -1;
    }
    close(fds[1]);
    char buf[4096];
    double first = -1;
    for (;;) {
        ssize_t n = read(fds[0], buf, sizeof buf);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        if (first < 0) first = infc_now() - start;
    }
    close(fds[0]);
    int status = -1;
    struct rusage usage = {0};
    while (wait4(pid, &status, 0, &usage) < 0)
        if (errno != EINTR) return -1;
    out->first_byte_s = first;
    out->peak_rss = (uint64_t)usage.ru_maxrss * 1024;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 && first >= 0 ? 0 : -1;
}
