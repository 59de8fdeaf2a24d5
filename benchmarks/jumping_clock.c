/* The time of day for every process of a namespace, moved by the seconds in a file: /etc/ld.so.preload names this.

   libfaketime takes its settings from variables, and none reaches a training. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *moved;

__attribute__((constructor)) static void open_clock(void)
{
    int file = open(CLOCK, O_RDONLY | O_CLOEXEC);
    void *found = file < 0 ? MAP_FAILED : mmap(0, sizeof *moved, PROT_READ, MAP_SHARED, file, 0);
    moved = found == MAP_FAILED ? 0 : found;
    if (file >= 0)
        close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && moved && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        now->tv_sec += *moved;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone)
{
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed && moved && now)
        now->tv_sec += *moved;
    return failed;
}

time_t time(time_t *given)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (given)
        *given = now.tv_sec;
    return now.tv_sec;
}
