/*
 * The `berth` command of the image.
 *
 * It becomes the Python program. Only as process 1 it stays: it starts the program as its child, passes signals
 * on to it, reaps whatever other processes leave behind, and ends as the child ended. Process 1 gets the orphans
 * of its namespace, and reaping them in Python would compete with asyncio for the exit codes of its own children.
 * With --pid=host, as the agent is run, it is not process 1 and nothing stands between Docker and the agent.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* -I: neither PYTHON* variables nor the working directory choose what is imported. */
#define INTERPRETER "/usr/lib/berth/venv/bin/python3"
#define ISOLATED "-I"
#define PROGRAM "/usr/lib/berth/app/start.py"

enum { RUNNING = -1, CANNOT_RUN = 126, BY_SIGNAL = 128 };

static void become(int count, char **arguments)
{
    char **all = calloc((size_t)count + 3, sizeof *all);
    if (all != NULL) {
        all[0] = INTERPRETER;
        all[1] = ISOLATED;
        all[2] = PROGRAM;
        for (int i = 1; i < count; i++)
            all[i + 2] = arguments[i];
        execv(INTERPRETER, all);
    }
    fprintf(stderr, "berth: cannot run %s: %s\n", INTERPRETER, strerror(errno));
}

/* Reaps every process that has ended. Returns the exit code of the child if it is one of them, or RUNNING. */
static int reap(pid_t child)
{
    int status, code = RUNNING;
    pid_t ended;
    while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
        if (ended == child)
            code = WIFSIGNALED(status) ? BY_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
    }
    return code;
}

int main(int count, char **arguments)
{
    if (getpid() != 1) {
        become(count, arguments);
        return CANNOT_RUN;
    }

    /* Blocked, the signals wait to be fetched one by one, and none falls between "look" and "sleep". */
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);

    pid_t child = fork();
    if (child < 0) {
        fprintf(stderr, "berth: cannot start: %s\n", strerror(errno));
        return CANNOT_RUN;
    }
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        become(count, arguments);
        return CANNOT_RUN;
    }

    for (;;) {
        siginfo_t told;
        int number = sigwaitinfo(&all, &told);
        if (number == SIGCHLD) {
            int code = reap(child);
            if (code != RUNNING)
                return code;
        } else if (number > 0 && told.si_code <= 0) {
            /* Sent by a process. What the kernel sends, such as the terminal's Ctrl-C, the child gets itself. */
            kill(child, number);
        }
    }
}
