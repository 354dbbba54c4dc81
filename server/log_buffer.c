/* log_buffer.c: lines of the log on their way to the file, so that a request does not pay for a
 * write(2). Lines gather for GATHER_MS, then a thread writes them in one call while others gather
 * in a second block; it sleeps while there are none. When the block is full, or a line is urgent,
 * the thread that has the line writes. Nobody writes while another does, and what gathered first is
 * written first, so lines keep their order; a slow reader of the log slows requests down, as it
 * would without a buffer, and costs no memory. */
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 128 << 10, GATHER_MS = 5 };

struct log_buffer {
    pthread_mutex_t mutex;
    pthread_cond_t filled;  /* the first line is there, or stop */
    pthread_cond_t written; /* `writing` is over */
    pthread_t thread;
    int fd;
    bool stop;
    bool writing; /* the thread writes the other block, without the mutex */
    size_t size;  /* bytes that gathered in blocks[now] */
    int now;
    char blocks[2][CAPACITY];
};

void log_write_all(int fd, const char *text, size_t size)
{
    while (size) {
        ssize_t n = write(fd, text, size);
        if (n < 0 && errno != EINTR)
            return; /* there is nowhere to say so */
        size -= n > 0 ? (size_t)n : 0;
        text += n > 0 ? n : 0;
    }
}

/* With the mutex held, and held on to. */
static void flush(struct log_buffer *b)
{
    while (b->writing)
        pthread_cond_wait(&b->written, &b->mutex);
    log_write_all(b->fd, b->blocks[b->now], b->size);
    b->size = 0;
}

/* With the mutex held, but not while it writes. */
static void flush_aside(struct log_buffer *b)
{
    const char *text = b->blocks[b->now];
    size_t size = b->size;
    b->now ^= 1;
    b->size = 0;
    b->writing = true;
    pthread_mutex_unlock(&b->mutex);
    log_write_all(b->fd, text, size);
    pthread_mutex_lock(&b->mutex);
    b->writing = false;
    pthread_cond_broadcast(&b->written);
}

static void *writer(void *arg)
{
    struct log_buffer *b = arg;
    const struct timespec gather = {.tv_nsec = GATHER_MS * 1000000L};
    pthread_mutex_lock(&b->mutex);
    while (!b->stop) {
        if (!b->size) {
            pthread_cond_wait(&b->filled, &b->mutex);
            continue;
        }
        pthread_mutex_unlock(&b->mutex);
        nanosleep(&gather, NULL);
        pthread_mutex_lock(&b->mutex);
        flush_aside(b);
    }
    flush(b);
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

static void buffer_free(struct log_buffer *b)
{
    pthread_cond_destroy(&b->written);
    pthread_cond_destroy(&b->filled);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

struct log_buffer *log_buffer_create(int fd)
{
    struct log_buffer *b = malloc(sizeof *b);
    if (!b)
        return NULL;
    b->fd = fd;
    b->stop = b->writing = false;
    b->size = 0;
    b->now = 0;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->filled, NULL);
    pthread_cond_init(&b->written, NULL);
    if (!pthread_create(&b->thread, NULL, writer, b))
        return b;
    buffer_free(b);
    return NULL;
}

void log_buffer_destroy(struct log_buffer **buffer)
{
    struct log_buffer *b = *buffer;
    if (!b)
        return;
    *buffer = NULL;
    pthread_mutex_lock(&b->mutex);
    b->stop = true;
    pthread_cond_signal(&b->filled);
    pthread_mutex_unlock(&b->mutex);
    pthread_join(b->thread, NULL);
    buffer_free(b);
}

void log_buffer_put(struct log_buffer *b, const char *line, size_t size, bool urgent)
{
    pthread_mutex_lock(&b->mutex);
    if (urgent || size > CAPACITY - b->size)
        flush(b);
    if (urgent || size > CAPACITY) {
        log_write_all(b->fd, line, size);
    } else {
        memcpy(b->blocks[b->now] + b->size, line, size);
        if (!b->size)
            pthread_cond_signal(&b->filled);
        b->size += size;
    }
    pthread_mutex_unlock(&b->mutex);
}
