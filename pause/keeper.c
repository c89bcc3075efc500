/*
 * The keeper program: holds listening sockets open while the agent that serves them is away.
 *
 * A listening socket goes on accepting into its queue as long as any process has it open. The agent's own
 * processes end with the agent, in a container all of them, so this one lives in a container of its own. It
 * never accepts or reads anything from the sockets that it holds: it keeps them, and gives them back.
 *
 * keeper SECONDS VERSION
 *
 * It listens on /keep/socket (SOCK_SEQPACKET) and talks to processes of its own user only. A request is one
 * packet: a letter, then perhaps a name. An answer is one packet with the same letter.
 *
 *   H        who is there: the answer has VERSION behind the letter
 *   K name   keep the socket that comes along (SCM_RIGHTS), instead of an earlier one of that name
 *   F name   forget it, if there is one of that name
 *   R        give all back: a packet "S name" with the socket for each, and then the answer
 *   E        end
 *
 * Whoever asks for anything else is hung up on. It ends when nobody has been connected for SECONDS: then
 * what waits in the queues is refused, instead of waiting for an agent that does not come back.
 *
 * A newer keeper takes the path over by renaming its own socket onto it. So nothing is removed at the end.
 *
 * There is no C library, as in pause.c.
 */

#define EINTR 4
#define EAGAIN 11
#define SIGINT 2
#define SIGTERM 15
#define SIG_BLOCK 0
#define AF_UNIX 1
#define SOCK_SEQPACKET 5
#define SOCK_NONBLOCK 04000
#define SOCK_CLOEXEC 02000000
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define SO_PEERCRED 17
#define MSG_CTRUNC 0x08
#define MSG_TRUNC 0x20
#define MSG_DONTWAIT 0x40
#define MSG_NOSIGNAL 0x4000
#define MSG_CMSG_CLOEXEC 0x40000000
#define POLLIN 1
#define CLOCK_MONOTONIC 1
#define AT_FDCWD (-100)

#define MOST_SOCKETS 16
#define MOST_CLIENTS 4
#define LONGEST_NAME 128
#define LONGEST_WAIT 86400

#define PATH "/keep/socket"
#define ASIDE "/keep/socket.new"

typedef unsigned long signal_set;
#define BIT(signal) (1UL << ((signal) - 1))

#if defined(__x86_64__)

#define NR_CLOSE 3
#define NR_RT_SIGPROCMASK 14
#define NR_SOCKET 41
#define NR_SENDMSG 46
#define NR_RECVMSG 47
#define NR_BIND 49
#define NR_LISTEN 50
#define NR_GETSOCKOPT 55
#define NR_GETUID 102
#define NR_CLOCK_GETTIME 228
#define NR_EXIT_GROUP 231
#define NR_UNLINKAT 263
#define NR_PPOLL 271
#define NR_ACCEPT4 288
#define NR_SIGNALFD4 289
#define NR_RENAMEAT2 316

static long call(long number, long a, long b, long c, long d, long e)
{
    long result;
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return result;
}

__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");

#elif defined(__aarch64__)

#define NR_UNLINKAT 35
#define NR_CLOSE 57
#define NR_PPOLL 73
#define NR_SIGNALFD4 74
#define NR_EXIT_GROUP 94
#define NR_CLOCK_GETTIME 113
#define NR_RT_SIGPROCMASK 135
#define NR_GETUID 174
#define NR_SOCKET 198
#define NR_BIND 200
#define NR_LISTEN 201
#define NR_GETSOCKOPT 209
#define NR_SENDMSG 211
#define NR_RECVMSG 212
#define NR_ACCEPT4 242
#define NR_RENAMEAT2 276

static long call(long number, long a, long b, long c, long d, long e)
{
    register long which __asm__("x8") = number;
    register long first __asm__("x0") = a;
    register long second __asm__("x1") = b;
    register long third __asm__("x2") = c;
    register long fourth __asm__("x3") = d;
    register long fifth __asm__("x4") = e;
    __asm__ volatile("svc 0"
                     : "+r"(first)
                     : "r"(which), "r"(second), "r"(third), "r"(fourth), "r"(fifth)
                     : "memory");
    return first;
}

__asm__(".globl _start\n_start:\n mov x0, sp\n mov x29, xzr\n b begin\n");

#else
#error "keeper is written for x86-64 and aarch64"
#endif

/* The kernel's structures, as they are on both. */
struct timespec { long seconds, nanoseconds; };
struct address { unsigned short family; char path[108]; };
struct watched { int descriptor; short wanted, seen; };
struct part { void *start; unsigned long length; };
struct peer { int process; unsigned user, group; };
struct message {
    void *name; unsigned name_length;
    struct part *parts; unsigned long part_count;
    void *control; unsigned long control_length;
    int flags;
};
/* One control message with one descriptor. Its own length leaves the padding out, so a second cannot fit. */
struct rights { unsigned long length; int level, type, descriptor, padding; };
#define RIGHTS_LENGTH (sizeof(unsigned long) + 3 * sizeof(int))

struct kept { int descriptor; unsigned long length; char name[LONGEST_NAME]; };

/* All that it knows. It is on the stack, so that the program needs no memory that can be written. */
struct keeper {
    struct kept sockets[MOST_SOCKETS];
    unsigned count;
    struct watched watching[2 + MOST_CLIENTS]; /* signals, the listening socket, clients */
    unsigned clients;
    const char *version;
    unsigned own_user;
};

/* The compiler calls these by itself where it copies or clears a structure. */
__attribute__((used, optimize("no-tree-loop-distribute-patterns")))
void *memcpy(void *to, const void *from, unsigned long length)
{
    for (unsigned long i = 0; i < length; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

__attribute__((used, optimize("no-tree-loop-distribute-patterns")))
void *memset(void *place, int value, unsigned long length)
{
    for (unsigned long i = 0; i < length; i++)
        ((char *)place)[i] = (char)value;
    return place;
}

static void leave(int status)
{
    for (;;)
        call(NR_EXIT_GROUP, status, 0, 0, 0, 0);
}

static void close_it(int descriptor)
{
    call(NR_CLOSE, descriptor, 0, 0, 0, 0);
}

static unsigned long length_of(const char *text)
{
    unsigned long length = 0;

    while (text[length])
        length++;
    return length;
}

static long now(void)
{
    struct timespec time;

    call(NR_CLOCK_GETTIME, CLOCK_MONOTONIC, (long)&time, 0, 0, 0);
    return time.seconds;
}

/* Send a letter and a text, with a descriptor unless it is -1. Never wait. */
static int say(int client, char letter, const char *text, unsigned long length, int descriptor)
{
    struct part parts[2] = {{&letter, 1}, {(void *)text, length}};
    struct rights rights = {RIGHTS_LENGTH, SOL_SOCKET, SCM_RIGHTS, descriptor, 0};
    struct message message = {0, 0, parts, 2, 0, 0, 0};

    if (descriptor >= 0) {
        message.control = &rights;
        message.control_length = sizeof rights;
    }
    return call(NR_SENDMSG, client, (long)&message, MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0) >= 0;
}

static int find(const struct keeper *own, const char *name, unsigned long length)
{
    for (unsigned i = 0; i < own->count; i++) {
        unsigned long same = 0;

        while (same < length && own->sockets[i].length == length && own->sockets[i].name[same] == name[same])
            same++;
        if (same == length)
            return (int)i;
    }
    return -1;
}

static int keep(struct keeper *own, const char *name, unsigned long length, int descriptor)
{
    int place = find(own, name, length);

    if (place < 0) {
        if (own->count == MOST_SOCKETS)
            return 0;
        place = (int)own->count++;
        own->sockets[place].length = length;
        for (unsigned long i = 0; i < length; i++)
            own->sockets[place].name[i] = name[i];
    } else {
        close_it(own->sockets[place].descriptor);
    }
    own->sockets[place].descriptor = descriptor;
    return 1;
}

static void forget(struct keeper *own, const char *name, unsigned long length)
{
    int place = find(own, name, length);

    if (place < 0)
        return;
    close_it(own->sockets[place].descriptor);
    own->count--;
    own->sockets[place] = own->sockets[own->count];
}

static int give_back(const struct keeper *own, int client)
{
    for (unsigned i = 0; i < own->count; i++)
        if (!say(client, 'S', own->sockets[i].name, own->sockets[i].length, own->sockets[i].descriptor))
            return 0;
    return say(client, 'R', "", 0, -1);
}

/* Read one request and answer it. 0: this client is done with. */
static int obey(struct keeper *own, int client)
{
    char request[1 + LONGEST_NAME];
    struct rights rights;
    struct part part = {request, sizeof request};
    struct message message = {0, 0, &part, 1, &rights, RIGHTS_LENGTH, 0};
    long length = call(NR_RECVMSG, client, (long)&message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, 0, 0);
    const char *name = request + 1;
    int descriptor = -1;

    if (length == -EINTR || length == -EAGAIN)
        return 1;
    if (length < 1)
        return 0;
    if (message.control_length >= RIGHTS_LENGTH && rights.level == SOL_SOCKET && rights.type == SCM_RIGHTS)
        descriptor = rights.descriptor;
    if (!(message.flags & (MSG_TRUNC | MSG_CTRUNC))) {
        if (request[0] == 'K' && length > 1 && descriptor >= 0) {
            if (keep(own, name, (unsigned long)length - 1, descriptor))
                return say(client, 'K', "", 0, -1);
        } else if (descriptor < 0) {
            switch (request[0]) {
            case 'H':
                return say(client, 'H', own->version, length_of(own->version), -1);
            case 'F':
                forget(own, name, (unsigned long)length - 1);
                return say(client, 'F', "", 0, -1);
            case 'R':
                return give_back(own, client);
            case 'E':
                say(client, 'E', "", 0, -1);
                leave(0);
            }
        }
    }
    if (descriptor >= 0)
        close_it(descriptor);
    return 0;
}

static void welcome(struct keeper *own)
{
    long client = call(NR_ACCEPT4, own->watching[1].descriptor, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct peer peer;
    unsigned length = sizeof peer;

    if (client < 0)
        return;
    if (own->clients == MOST_CLIENTS
        || call(NR_GETSOCKOPT, client, SOL_SOCKET, SO_PEERCRED, (long)&peer, (long)&length) < 0
        || peer.user != own->own_user) {
        close_it((int)client);
        return;
    }
    own->watching[2 + own->clients].descriptor = (int)client;
    own->watching[2 + own->clients].wanted = POLLIN;
    own->watching[2 + own->clients].seen = 0;
    own->clients++;
}

static int open_door(void)
{
    struct address address = {AF_UNIX, ASIDE};
    long door = call(NR_SOCKET, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0, 0);

    call(NR_UNLINKAT, AT_FDCWD, (long)ASIDE, 0, 0, 0);
    if (door < 0 || call(NR_BIND, door, (long)&address, sizeof address, 0, 0) < 0
        || call(NR_LISTEN, door, 16, 0, 0, 0) < 0
        || call(NR_RENAMEAT2, AT_FDCWD, (long)ASIDE, AT_FDCWD, (long)PATH, 0) < 0)
        leave(1);
    return (int)door;
}

static long seconds_in(const char *text)
{
    long seconds = 0;

    for (; *text >= '0' && *text <= '9' && seconds <= LONGEST_WAIT; text++)
        seconds = seconds * 10 + (*text - '0');
    if (*text || seconds < 1 || seconds > LONGEST_WAIT)
        leave(2);
    return seconds;
}

/* `stack` is how the kernel starts a program: the count of arguments, then the arguments. */
__attribute__((noreturn, used)) void begin(long *stack)
{
    const signal_set wanted = BIT(SIGINT) | BIT(SIGTERM);
    struct keeper all = {0};
    struct keeper *own = &all;
    long patience, end;

    if (stack[0] != 3)
        leave(2);
    patience = seconds_in((const char *)stack[2]);
    own->version = (const char *)stack[3];
    own->own_user = (unsigned)call(NR_GETUID, 0, 0, 0, 0, 0);

    if (call(NR_RT_SIGPROCMASK, SIG_BLOCK, (long)&wanted, 0, sizeof wanted, 0) < 0)
        leave(1);
    own->watching[0].descriptor =
        (int)call(NR_SIGNALFD4, -1, (long)&wanted, sizeof wanted, SOCK_CLOEXEC, 0);
    own->watching[0].wanted = POLLIN;
    if (own->watching[0].descriptor < 0)
        leave(1);
    own->watching[1].descriptor = open_door();
    own->watching[1].wanted = POLLIN;

    end = now() + patience;
    for (;;) {
        struct timespec left = {end - now(), 0};
        long seen;

        if (!own->clients && left.seconds <= 0)
            leave(0);
        seen = call(NR_PPOLL, (long)own->watching, 2 + own->clients, own->clients ? 0 : (long)&left, 0, 0);
        if (seen < 0 && seen != -EINTR)
            leave(1); /* cannot wait: ending is better than spinning */
        if (seen <= 0)
            continue;
        if (own->watching[0].seen)
            leave(0);
        for (unsigned i = 0; i < own->clients;) {
            if (!own->watching[2 + i].seen || obey(own, own->watching[2 + i].descriptor)) {
                i++;
                continue;
            }
            close_it(own->watching[2 + i].descriptor);
            own->watching[2 + i] = own->watching[2 + --own->clients];
            end = now() + patience;
        }
        if (own->watching[1].seen)
            welcome(own);
    }
}
