/* fuzz_redo.c: damaged redo logs. The hash of a record cannot be guessed, so an input says what is
 * written and what then happens to the files: a log of some records is made, and bytes of it are
 * changed, cut off or added. What must hold: a replay gives whole records as they were appended, in
 * order and from the first on, or ends with a sentence; a log that was replayed can be appended to
 * and replayed again.
 *
 * The first byte of an input: records (mod 8) and where a checkpoint is; then groups of four bytes:
 * what (0 change, 1 cut, 2 add, 3 zeros), place (two bytes, mod the file's size), value. */
#define _GNU_SOURCE
#include "fuzz.h"

#include "../../server/redo.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODEL = 3, MAX_BYTES = 48 };

struct replay {
    uint64_t next; /* revision that must come now */
};

static size_t payload(uint64_t revision, char *out)
{
    size_t n = (size_t)(revision * 7 % MAX_BYTES);
    memset(out, (int)(revision * 37 & 255), n);
    return n;
}

static int see(void *arg, const struct redo_record *record, struct error *e)
{
    struct replay *p = arg;
    char want[MAX_BYTES];
    (void)e;
    FUZZ_CHECK(record->revision == p->next, "revision %llu, expected %llu",
               (unsigned long long)record->revision, (unsigned long long)p->next);
    FUZZ_CHECK(record->bytes == payload(record->revision, want) &&
                   !memcmp(record->payload, want, record->bytes),
               "record %llu has changed", (unsigned long long)record->revision);
    p->next++;
    return 0;
}

static int append(struct redo *r, uint64_t revision, struct error *e)
{
    char bytes[MAX_BYTES];
    struct iovec v = {bytes, payload(revision, bytes)};
    return redo_append(r, revision, &v, 1, false, e);
}

/* One kind of damage to the open file. */
static void damage(int fd, const uint8_t op[4])
{
    struct stat st;
    uint8_t zeros[64] = {0}, byte = op[3];
    if (fstat(fd, &st) || !st.st_size)
        return;
    off_t at = (op[1] + 256 * op[2]) % st.st_size;
    ssize_t done = 0;
    switch (op[0] & 3) {
    case 0:
        done = pwrite(fd, &byte, 1, at);
        break;
    case 1:
        done = ftruncate(fd, at);
        break;
    case 2:
        done = pwrite(fd, op, 4, st.st_size);
        break;
    default:
        done = pwrite(fd, zeros, op[3] & 63, st.st_size);
    }
    FUZZ_CHECK(done >= 0, "the file cannot be changed");
}

static void replay_twice(const char *root, uint64_t checkpoint)
{
    struct error e = {0};
    uint64_t torn;
    struct replay first = {checkpoint + 1}, second = first;
    struct redo *r = redo_open(root, MODEL, "engine", &e);
    FUZZ_CHECK(r, "%s", e.text);
    int status = redo_replay(r, checkpoint, see, &first, &torn, &e);
    if (status) {
        fuzz_check_error(&e);
    } else {
        FUZZ_CHECK(!append(r, first.next, &e), "%s", e.text);
        redo_close(&r);
        r = redo_open(root, MODEL, "engine", &e);
        FUZZ_CHECK(!redo_replay(r, checkpoint, see, &second, &torn, &e), "%s", e.text);
        FUZZ_CHECK(second.next == first.next + 1 && !torn, "%llu and %llu",
                   (unsigned long long)first.next, (unsigned long long)second.next);
    }
    redo_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char root[64], path[160];
    struct error e = {0};
    if (!size)
        return 0;
    snprintf(root, sizeof root, "%s/redo-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    FUZZ_CHECK(mkdtemp(root), "%s", root);
    struct redo *r = redo_open(root, MODEL, "engine", &e);
    uint64_t records = 1 + data[0] % 8, checkpoint = (data[0] >> 4) % records;
    for (uint64_t i = 1; i <= records; i++)
        FUZZ_CHECK(!append(r, i, &e), "%s", e.text);
    redo_close(&r);
    snprintf(path, sizeof path, "%s/%d/%020d.redo", root, MODEL, 1);
    int fd = open(path, O_RDWR);
    FUZZ_CHECK(fd >= 0, "%s", path);
    for (size_t i = 1; i + 4 <= size && i < 64; i += 4)
        damage(fd, data + i);
    close(fd);
    replay_twice(root, checkpoint);
    redo_remove(root, MODEL, NULL);
    rmdir(root);
    return 0;
}
