/* process.c: reading /proc/self. proc(5) has the fields of its files. */
#include "process.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The fields of /proc/self/stat that follow the name, which may hold anything, in its brackets. */
static int read_stat(struct process_info *p, double *start_ticks_r)
{
    char text[1024];
    unsigned long user, system, pages;
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = 0;
    const char *at = strrchr(text, ')');
    if (!at || sscanf(at + 1,
                      " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %lf "
                      "%*d %lf %lf %lu",
                      &user, &system, &p->threads, start_ticks_r, &p->virtual_bytes, &pages) != 6)
        return -1;
    p->cpu_seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    p->resident_bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
    return 0;
}

/* Unix time of the machine's start; NaN: unknown. */
static double boot_time(void)
{
    char line[256];
    double seconds = NAN;
    FILE *f = fopen("/proc/stat", "re");
    while (f && isnan(seconds) && fgets(line, sizeof line, f))
        if (sscanf(line, "btime %lf", &seconds) != 1)
            seconds = NAN;
    if (f)
        fclose(f);
    return seconds;
}

static double count_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    double n = d ? -1 : NAN; /* without the one that looks */
    for (struct dirent *f; d && (f = readdir(d));)
        n += f->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

void process_info_get(struct process_info *p)
{
    double ticks = NAN;
    struct rlimit limit;
    *p = (struct process_info){NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    if (!read_stat(p, &ticks))
        p->start_time = boot_time() + ticks / (double)sysconf(_SC_CLK_TCK);
    p->open_fds = count_fds();
    if (!getrlimit(RLIMIT_NOFILE, &limit))
        p->max_fds = limit.rlim_cur == RLIM_INFINITY ? INFINITY : (double)limit.rlim_cur;
}
