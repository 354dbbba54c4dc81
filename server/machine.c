/* machine.c: how much memory there is: the machine's, or less when a cgroup says so. Of nested
 * groups each may have a limit, and the lowest holds. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The number in a file; INT64_MAX for "max", no file, or no number. */
static int64_t read_limit(const char *path)
{
    FILE *f = fopen(path, "re");
    char text[64] = "";
    if (!f)
        return INT64_MAX;
    if (!fgets(text, sizeof text, f))
        text[0] = 0;
    fclose(f);
    size_t digits = strspn(text, "0123456789");
    return digits && digits < 19 ? strtoll(text, NULL, 10) : INT64_MAX;
}

static int64_t lower(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Our group as /proc names it, "/user.slice/x"; "" when it cannot be known. */
static void own_group(char *path, size_t size)
{
    char line[512];
    FILE *f = fopen("/proc/self/cgroup", "re");
    path[0] = 0;
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "0::", 3))
            snprintf(path, size, "%s", line + 3);
    }
    if (f)
        fclose(f);
}

/* Of a version 2 group and those around it. */
static int64_t group_limit(void)
{
    char group[512], path[600];
    int64_t limit = INT64_MAX;
    own_group(group, sizeof group);
    for (char *slash = group; slash;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", group);
        limit = lower(limit, read_limit(path));
        slash = strrchr(group, '/');
        if (slash)
            *slash = 0;
    }
    return limit;
}

int64_t config_machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    int64_t memory = (int64_t)pages * page;
    memory = lower(memory, group_limit());
    return lower(memory, read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
}
