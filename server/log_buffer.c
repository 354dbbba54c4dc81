/* log_buffer.c: lines of the log on their way to the file, so that a request does not pay for a
 * write(2). Lines gather for GATHER_MS, then a thread writes them in one call; it sleeps while
 * there are none. When the buffer is full, or a line is urgent, the thread that has the line
 * writes. One mutex keeps lines in order; it is held while they are written, so a slow reader of
 * the log slows requests down, as it would without a buffer, and costs no memory. */
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 64 << 10, GATHER_MS = 5 };

struct log_buffer {
    pthread_mutex_t mutex;
    pthread_cond_t filled; /* the first line is there, or stop */
    pthread_t thread;
    int fd;
    bool stop;
    size_t size;
    char text[CAPACITY];
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

/* With the mutex held. */
static void flush(struct log_buffer *b)
{
    log_write_all(b->fd, b->text, b->size);
    b->size = 0;
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
        flush(b);
    }
    flush(b);
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

struct log_buffer *log_buffer_create(int fd)
{
    struct log_buffer *b = malloc(sizeof *b);
    if (!b)
        return NULL;
    b->fd = fd;
    b->stop = false;
    b->size = 0;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->filled, NULL);
    if (!pthread_create(&b->thread, NULL, writer, b))
        return b;
    pthread_cond_destroy(&b->filled);
    pthread_mutex_destroy(&b->mutex);
    free(b);
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
    pthread_cond_destroy(&b->filled);
    pthread_mutex_destroy(&b->mutex);
    free(b);
}

void log_buffer_put(struct log_buffer *b, const char *line, size_t size, bool urgent)
{
    pthread_mutex_lock(&b->mutex);
    bool first = !b->size;
    if (urgent || size > CAPACITY - b->size)
        flush(b);
    if (urgent || size > CAPACITY) {
        log_write_all(b->fd, line, size);
    } else {
        memcpy(b->text + b->size, line, size);
        b->size += size;
        if (first)
            pthread_cond_signal(&b->filled);
    }
    pthread_mutex_unlock(&b->mutex);
}
