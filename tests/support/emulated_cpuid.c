/* Answers of `cpuid` as asked for by EMULATED_CPU, in a process whose libraries have an illegal opcode in its place.

   emulated_cpu.py writes that opcode (0F 04) into copies of the libraries, and preloads this. Everything else runs as
   it is, at native speed. EMULATED_CPU holds names and numbers: "l1=32 l2=256 l3=8192 cores=4 intel=1 avx512=0", in KiB.
   EMULATED_CPU_LOG names a file that gets a line for each answer: library, leaf, subleaf. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

typedef struct { unsigned a, b, c, d; } answer;

static unsigned l1, l2, l3, cores = 1, intel, avx512 = 1;
static struct sigaction other; /* what the process wants to do at SIGILL */
static int ours, opened = -1;
static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);
static long (*real_sysconf)(int);
static int (*real_affinity)(pid_t, size_t, cpu_set_t *);

static unsigned asked(const char *name, unsigned otherwise)
{
    const char *all = getenv("EMULATED_CPU"), *found = all ? strstr(all, name) : 0;
    return found ? (unsigned)strtoul(found + strlen(name), 0, 10) : otherwise;
}

/* Leaf 4 of Intel's CPUs, and 0x8000001D of AMD's. */
static answer cache(unsigned number)
{
    static const unsigned kinds[] = {0x121, 0x122, 0x143, 0x163};
    if (number > 3)
        return (answer){0, 0, 0, 0};
    unsigned kib = number < 2 ? l1 : number == 2 ? l2 : l3, ways = kib % 12 ? 8 : 12;
    unsigned sharing = number == 3 ? cores : 1;
    unsigned a = kinds[number] | (sharing - 1) << 14 | (intel ? (cores - 1) << 26 : 0);
    return (answer){a, (ways - 1) << 22 | 63, kib * 1024 / ways / 64 - 1, 0};
}

static answer emulated(unsigned leaf, unsigned number)
{
    answer is;
    __cpuid_count(leaf, number, is.a, is.b, is.c, is.d);
    if (leaf == 0 && intel)
        memcpy(&is.b, "Genu", 4), memcpy(&is.d, "ineI", 4), memcpy(&is.c, "ntel", 4);
    if (leaf == 1)
        is.b = (is.b & ~0xff0000u) | cores << 16;
    if (leaf == 2)
        is = intel ? (answer){0x00feff01, 0xf0, 0, 0} : (answer){0, 0, 0, 0}; /* "see leaf 4" */
    if (leaf == 4)
        is = intel ? cache(number) : (answer){0, 0, 0, 0};
    if (leaf == 7 && number == 0 && !avx512)
        is.b &= ~0xdc230000u, is.c &= ~0x5842u, is.d &= ~0x3c0010cu;
    if (leaf == 7 && number == 1 && !avx512)
        is.a &= ~0x30u;
    if (leaf == 0xb && number == 1)
        is.b = cores;
    if (leaf == 0x80000005)
        is.c = intel ? 0 : l1 << 24 | 0x80140, is.d = intel ? 0 : l1 << 24 | 0x80140;
    if (leaf == 0x80000006)
        is.c = l2 << 16 | 0x6140, is.d = intel ? 0 : (l3 / 512) << 18 | 0x9140;
    if (leaf == 0x80000008)
        is.c = (is.c & ~0xffu) | (cores - 1);
    if (leaf == 0x8000001d)
        is = intel ? (answer){0, 0, 0, 0} : cache(number);
    return is;
}

static void note(void *where, unsigned leaf, unsigned number)
{
    Dl_info found = {0};
    char line[512];
    dladdr(where, &found);
    int length = snprintf(line, sizeof line, "%s %x %x\n", found.dli_fname ? found.dli_fname : "?", leaf, number);
    if (write(opened, line, length) != length)
        abort();
}

static void answering(int signal, siginfo_t *info, void *given)
{
    (void)signal, (void)info;
    greg_t *registers = ((ucontext_t *)given)->uc_mcontext.gregs;
    unsigned char *at = (unsigned char *)registers[REG_RIP];
    if (at[0] != 0x0f || at[1] != 0x04) { /* a real one: it comes again, and does what the process wants */
        ours = 0;
        real_sigaction(SIGILL, &other, 0);
        return;
    }
    unsigned leaf = registers[REG_RAX], number = registers[REG_RCX];
    answer is = emulated(leaf, number);
    if (opened >= 0)
        note(at, leaf, number);
    registers[REG_RAX] = is.a, registers[REG_RBX] = is.b, registers[REG_RCX] = is.c, registers[REG_RDX] = is.d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void)
{
    struct sigaction action = {.sa_sigaction = answering, .sa_flags = SA_SIGINFO | SA_NODEFER};
    const char *log = getenv("EMULATED_CPU_LOG");
    l1 = asked("l1=", 32), l2 = asked("l2=", 1024), l3 = asked("l3=", 32768);
    cores = asked("cores=", 1), intel = asked("intel=", 0), avx512 = asked("avx512=", 1);
    if (log)
        opened = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    real_sigaction = dlsym(RTLD_NEXT, "sigaction");
    real_sysconf = dlsym(RTLD_NEXT, "sysconf");
    real_affinity = dlsym(RTLD_NEXT, "sched_getaffinity");
    real_sigaction(SIGILL, &action, &other);
    ours = 1;
}

int sigaction(int signal, const struct sigaction *wanted, struct sigaction *before)
{
    if (signal != SIGILL || !ours)
        return real_sigaction ? real_sigaction(signal, wanted, before) : -1;
    if (before)
        *before = other;
    if (wanted)
        other = *wanted;
    return 0;
}

long sysconf(int name)
{
    switch (name) {
    case _SC_LEVEL1_DCACHE_SIZE:
    case _SC_LEVEL1_ICACHE_SIZE: return l1 * 1024L;
    case _SC_LEVEL2_CACHE_SIZE: return l2 * 1024L;
    case _SC_LEVEL3_CACHE_SIZE: return l3 * 1024L;
    case _SC_NPROCESSORS_CONF:
    case _SC_NPROCESSORS_ONLN: return cores;
    }
    return real_sysconf ? real_sysconf(name) : -1;
}

int sched_getaffinity(pid_t process, size_t size, cpu_set_t *set)
{
    int failed = real_affinity ? real_affinity(process, size, set) : -1;
    if (!failed) {
        CPU_ZERO_S(size, set);
        for (unsigned number = 0; number < cores; number++)
            CPU_SET_S(number, size, set);
    }
    return failed;
}
