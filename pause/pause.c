/*
 * The pause program: the process that keeps a task's namespaces alive.
 *
 * It does two things only. It waits for a signal and ends with 0 at SIGTERM or SIGINT, and it reaps
 * children, because it is process 1 for a task whose containers share its process namespace.
 *
 * There is no C library: three system calls are all it needs, and the whole program stays below one
 * page of memory. There is no signal handler either. The signals are blocked and then fetched one
 * by one, so that none can fall between "look" and "sleep". Blocking also makes the kernel keep
 * SIGTERM and SIGINT for process 1, which otherwise never receives a signal with no handler.
 */

#define EINTR 4
#define SIGINT 2
#define SIGTERM 15
#define SIGCHLD 17
#define SIG_BLOCK 0
#define WNOHANG 1
#define ANY_CHILD (-1)

/* The kernel's signal set: bit n - 1 stands for signal n. Its size is an argument of each call. */
typedef unsigned long signal_set;
#define BIT(signal) (1UL << ((signal) - 1))

#if defined(__x86_64__)

#define NR_RT_SIGPROCMASK 14
#define NR_WAIT4 61
#define NR_RT_SIGTIMEDWAIT 128
#define NR_EXIT_GROUP 231

static long call(long number, long a, long b, long c, long d)
{
    long result;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

#define NR_EXIT_GROUP 94
#define NR_RT_SIGPROCMASK 135
#define NR_RT_SIGTIMEDWAIT 137
#define NR_WAIT4 260

static long call(long number, long a, long b, long c, long d)
{
    register long which __asm__("x8") = number;
    register long first __asm__("x0") = a;
    register long second __asm__("x1") = b;
    register long third __asm__("x2") = c;
    register long fourth __asm__("x3") = d;
    __asm__ volatile("svc 0"
                     : "+r"(first)
                     : "r"(which), "r"(second), "r"(third), "r"(fourth)
                     : "memory");
    return first;
}

#else
#error "pause is written for x86-64 and aarch64"
#endif

static void leave(int status)
{
    for (;;)
        call(NR_EXIT_GROUP, status, 0, 0, 0);
}

/* One SIGCHLD may stand for many children, so take all that are there. */
static void reap(void)
{
    while (call(NR_WAIT4, ANY_CHILD, 0, WNOHANG, 0) > 0)
        ;
}

__attribute__((noreturn)) void _start(void)
{
    const signal_set wanted = BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGCHLD);

    if (call(NR_RT_SIGPROCMASK, SIG_BLOCK, (long)&wanted, 0, sizeof wanted) < 0)
        leave(1);
    reap(); /* children that ended before the signals were blocked */

    for (;;) {
        long signal = call(NR_RT_SIGTIMEDWAIT, (long)&wanted, 0, 0, sizeof wanted);

        if (signal == SIGCHLD)
            reap();
        else if (signal == SIGTERM || signal == SIGINT)
            leave(0);
        else if (signal != -EINTR)
            leave(1); /* cannot wait: ending is better than spinning */
    }
}
