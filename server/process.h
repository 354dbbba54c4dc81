/* process.h: what the kernel says of this process. */
#ifndef BACKPROPD_PROCESS_H
#define BACKPROPD_PROCESS_H

struct process_info {
    double cpu_seconds; /* of all threads, user and system */
    double start_time;  /* Unix time, seconds */
    double resident_bytes, virtual_bytes;
    double threads;
    double open_fds, max_fds;
};

/* What cannot be read is NaN. Any thread may call. */
void process_info_get(struct process_info *p);

#endif
