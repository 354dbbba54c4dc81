/* power_cut.c: see power_cut.h. A file is two images: what is certainly on the disk, and what the
 * process sees; between two fsyncs the list of what was done to it. */
#include "power_cut.h"

#include "daemon.h"
#include "faults.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, MAX_FILES = 256, MAX_CHANGES = 65536 };

struct change {
    uint32_t kind; /* FAULT_WRITE, FAULT_TRUNCATE */
    uint64_t at, bytes;
    const char *data;
};

struct file {
    char path[512];
    char *data; /* on the disk */
    uint64_t size, capacity;
    struct change *changes; /* since */
    int n, cap;
    bool named, named_on_disk; /* its name is there: as the process sees it, on the disk */
};

struct disk {
    struct file file[MAX_FILES];
    int n;
    unsigned random;
};

static unsigned toss(struct disk *d)
{
    d->random = d->random * 1664525u + 1013904223u;
    return d->random >> 16;
}

static void resize(struct file *f, uint64_t size)
{
    if (size > f->capacity) {
        f->capacity = 2 * size;
        f->data = realloc(f->data, f->capacity);
    }
    if (size > f->size)
        memset(f->data + f->size, 0, size - f->size);
    f->size = size;
}

static void put(struct file *f, uint64_t at, const char *data, uint64_t bytes)
{
    if (at + bytes > f->size)
        resize(f, at + bytes);
    memcpy(f->data + at, data, bytes);
}

static void change_apply(struct file *f, const struct change *c)
{
    if (c->kind == FAULT_TRUNCATE)
        resize(f, c->at);
    else
        put(f, c->at, c->data, c->bytes);
}

/* The file that has this name now; made when there is none. */
static struct file *file_find(struct disk *d, const char *path, uint32_t length)
{
    for (int i = d->n - 1; i >= 0; i--)
        if (d->file[i].named && strlen(d->file[i].path) == length &&
            memcmp(d->file[i].path, path, length) == 0)
            return &d->file[i];
    assert_true(d->n < MAX_FILES && length < sizeof d->file[0].path);
    struct file *f = &d->file[d->n++];
    memcpy(f->path, path, length);
    f->named = true;
    return f;
}

static void change_add(struct file *f, struct change c)
{
    if (f->n == f->cap) {
        f->cap = f->cap ? 2 * f->cap : 64;
        f->changes = realloc(f->changes, (size_t)f->cap * sizeof *f->changes);
    }
    f->changes[f->n++] = c;
}

static void file_sync(struct file *f)
{
    for (int i = 0; i < f->n; i++)
        change_apply(f, &f->changes[i]);
    f->n = 0;
}

static bool is_in(const struct file *f, const char *folder, uint32_t length)
{
    return strncmp(f->path, folder, length) == 0 && f->path[length] == '/' &&
           !strchr(f->path + length + 1, '/');
}

/* A file of that name, or a folder: then the names in it. */
static void sync_path(struct disk *d, const char *path, uint32_t length)
{
    bool folder = false;
    for (int i = 0; i < d->n; i++)
        if (is_in(&d->file[i], path, length)) {
            d->file[i].named_on_disk = d->file[i].named;
            folder = true;
        }
    for (int i = 0; i < d->n && !folder; i++)
        if (d->file[i].named && strlen(d->file[i].path) == length &&
            memcmp(d->file[i].path, path, length) == 0)
            file_sync(&d->file[i]);
}

static void record_apply(struct disk *d, const struct trace_record *r, const char *path,
                         const char *data)
{
    if (r->kind == FAULT_SYNC)
        sync_path(d, path, r->path);
    else if (r->kind == FAULT_UNLINK)
        file_find(d, path, r->path)->named = false;
    else if (r->kind == FAULT_WRITE || r->kind == FAULT_TRUNCATE)
        change_add(file_find(d, path, r->path), (struct change){r->kind, r->at, r->bytes, data});
}

/* Some of its sectors, or all, or none. */
static void change_maybe(struct disk *d, struct file *f, const struct change *c)
{
    unsigned fate = toss(d) % 4;
    if (fate == 0)
        return;
    if (c->kind == FAULT_TRUNCATE || fate > 1) {
        change_apply(f, c);
        return;
    }
    for (uint64_t at = c->at, end; at < c->at + c->bytes; at = end) {
        end = (at / SECTOR + 1) * SECTOR;
        end = end < c->at + c->bytes ? end : c->at + c->bytes;
        if (toss(d) % 2)
            put(f, at, c->data + (at - c->at), end - at);
    }
}

static void make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
}

/* When two files of one name may both have it, the newer one is written last. */
static void file_leave(struct disk *d, struct file *f, const char *from, const char *to)
{
    char path[1024];
    bool there = f->named == f->named_on_disk ? f->named : toss(d) % 2;
    if (strncmp(f->path, from, strlen(from)) != 0)
        return;
    snprintf(path, sizeof path, "%s%s", to, f->path + strlen(from));
    make_folders(path);
    if (!there) {
        return;
    }
    for (int i = 0; i < f->n; i++)
        change_maybe(d, f, &f->changes[i]);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_true(write(fd, f->data, f->size) == (ssize_t)f->size);
    close(fd);
}

static char *trace_read(const char *path, uint64_t size)
{
    char *data = malloc(size);
    int fd = open(path, O_RDONLY);
    assert_true(data && fd >= 0);
    for (uint64_t done = 0; done < size;) {
        ssize_t n = read(fd, data + done, size - done);
        assert_true(n > 0);
        done += (uint64_t)n;
    }
    close(fd);
    return data;
}

void power_cut(const char *trace, uint64_t cut, const char *from, const char *to, unsigned seed)
{
    struct disk *d = calloc(1, sizeof *d);
    char *text = trace_read(trace, cut);
    d->random = seed;
    for (uint64_t at = 0; at + sizeof(struct trace_record) <= cut;) {
        struct trace_record r;
        memcpy(&r, text + at, sizeof r);
        const char *path = text + at + sizeof r;
        at += sizeof r + r.path + r.bytes;
        if (at <= cut)
            record_apply(d, &r, path, path + r.path);
    }
    for (int i = 0; i < d->n; i++) {
        file_leave(d, &d->file[i], from, to);
        free(d->file[i].data);
        free(d->file[i].changes);
    }
    free(text);
    free(d);
}
