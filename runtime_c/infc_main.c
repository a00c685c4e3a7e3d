// infc_main.c: the standalone executable. Signals, then one command.
#define _GNU_SOURCE
#include "infc_program.h"
#include "infc_session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

volatile sig_atomic_t infc_stop_signal;
double infc_start_time;

static char bus_line[192];
static size_t bus_line_size;

// The weights are mapped from the executable: if someone truncates it, the next read of a lost page lands here.
static void on_bus_error(int sig) {
    (void)sig;
    ssize_t n = write(STDERR_FILENO, bus_line, bus_line_size);
    (void)n;
    _exit(INFC_EXIT_LIMIT);
}

static void on_stop(int sig) {
    if (infc_stop_signal != 0) _exit(128 + sig);  // asked twice: a long step need not be waited for
    infc_stop_signal = sig;
}

static void catch_signals(void) {
    strcpy(bus_line, "");
    strncat(bus_line, infc_name(), 100);
    strcat(bus_line, ": error: the file of the weights was truncated while in use\n");
    bus_line_size = strlen(bus_line);
    struct sigaction a = {.sa_handler = on_bus_error};
    sigaction(SIGBUS, &a, NULL);
    a.sa_handler = on_stop;  // no SA_RESTART: a read at the prompt must return
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    a.sa_handler = SIG_DFL;  // a closed pipe ends the program quietly, whatever the parent had ignored
    sigaction(SIGPIPE, &a, NULL);
}

static int print_version(void) {
    static infc_out out = {.fd = STDOUT_FILENO};
    infc_out_format(&out, "%.100s: infc %.40s, interface %d,", infc_name(), infc_the_program.infc_version, infc_abi_version());
    for (int i = 0; i < infc_the_program.n_backends; i++) infc_out_format(&out, " %.20s", infc_the_program.backends[i].isa);
    infc_out_text(&out, "\n");
    return infc_out_flush(&out);
}

int main(int argc, char **argv) {
    static int (*const run[INFC_N_COMMANDS])(const infc_args *) = {
        infc_cmd_generate, infc_cmd_chat, infc_cmd_bench, infc_cmd_info, infc_cmd_verify, infc_cmd_tokenize, infc_cmd_perplexity};
    infc_args args;
    infc_start_time = infc_now();
    infc_set_name(argc > 0 ? argv[0] : NULL);
    catch_signals();
    int code = infc_args_parse(argc, argv, &args);
    if (code == INFC_EXIT_OK)
        code = args.help ? infc_args_help(&args) : args.version ? print_version() : run[args.command](&args);
    infc_args_free(&args);
    return code;
}
