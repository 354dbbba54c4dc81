/* kernels.c: picks the kernels for this processor, and says what results depend on.
 *
 * The environment variable BACKPROP_KERNELS (plain, avx2, avx512) overrides the choice with another
 * table that this processor runs: for tests, and to give two machines the same kernels. */
#define _GNU_SOURCE
#include "kernels.h"

#include <cblas.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Written by engine_start, before there are threads; read-only from then on. */
static const struct kernels *chosen;
static char fingerprint[512];

static bool runs_always(void)
{
    return true;
}

#ifdef __x86_64__
static bool runs_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool runs_avx512(void)
{
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

/* Best first. A table needs what the Makefile compiles it with. */
static const struct {
    const struct kernels *kernels;
    bool (*runs)(void);
} tables[] = {
#ifdef __x86_64__
    {&kernels_avx512, runs_avx512},
    {&kernels_avx2, runs_avx2},
#endif
    {&kernels_plain, runs_always},
};

const struct kernels *kernels_at(int i)
{
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        if (tables[t].runs() && i-- == 0)
            return tables[t].kernels;
    return NULL;
}

const struct kernels *kernels(void)
{
    return chosen ? chosen : kernels_at(0);
}

/* The table that the environment names, where this processor runs it; else the best. */
static const struct kernels *kernels_choose(void)
{
    const char *name = getenv("BACKPROP_KERNELS");
    const struct kernels *k;
    for (int i = 0; name && (k = kernels_at(i)); i++)
        if (strcmp(k->name, name) == 0)
            return k;
    return kernels_at(0);
}

/* ---- the fingerprint ------------------------------------------------------------------------- */

enum { BUILD_ID_BYTES = 20 };

struct build_id {
    unsigned char bytes[BUILD_ID_BYTES];
    int n;
};

/* Looks through the notes of one segment for the linker's build id. */
static void build_id_read(struct build_id *id, const char *notes, size_t size)
{
    const size_t align = 4;
    ElfW(Nhdr) note;
    for (size_t at = 0; at + sizeof note <= size;) {
        memcpy(&note, notes + at, sizeof note);
        size_t name = at + sizeof note;
        size_t desc = name + (note.n_namesz + align - 1) / align * align;
        at = desc + (note.n_descsz + align - 1) / align * align;
        if (at > size || note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 ||
            memcmp(notes + name, "GNU", 4) != 0)
            continue;
        id->n = note.n_descsz < BUILD_ID_BYTES ? (int)note.n_descsz : BUILD_ID_BYTES;
        memcpy(id->bytes, notes + desc, (size_t)id->n);
    }
}

/* Called for each loaded object; stops at the one that holds this function: the program, or a
 * library that the engine was made part of. */
static int build_id_visit(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    const ElfW(Addr) here = (ElfW(Addr)) & build_id_visit;
    bool mine = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        ElfW(Addr) start = info->dlpi_addr + h->p_vaddr;
        mine |= h->p_type == PT_LOAD && here >= start && here - start < h->p_memsz;
    }
    for (int i = 0; mine && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type == PT_NOTE)
            build_id_read(arg, (const char *)(info->dlpi_addr + h->p_vaddr), h->p_memsz);
    }
    return mine;
}

/* "build 3f2a...", "build unknown" when it was linked without an id. */
static void build_id_print(char text[2 * BUILD_ID_BYTES + 8])
{
    struct build_id id = {.n = 0};
    dl_iterate_phdr(build_id_visit, &id);
    strcpy(text, id.n ? "" : "unknown");
    for (int i = 0; i < id.n; i++)
        sprintf(text + 2 * i, "%02x", id.bytes[i]);
}

/* Also the C library's version: exp and log are its. */
static void fingerprint_write(char *text, size_t size, const struct kernels *k)
{
    char build[2 * BUILD_ID_BYTES + 8];
    build_id_print(build);
    snprintf(text, size, "build %s; compiler %s; libc %s; %s, core %s; kernels %s; %s", build,
             __VERSION__, gnu_get_libc_version(), openblas_get_config(), openblas_get_corename(),
             k->name, sizeof(real) == sizeof(float) ? "float" : "double");
}

const char *engine_fingerprint(void)
{
    return fingerprint;
}

void engine_start(void)
{
    openblas_set_num_threads(1);
    chosen = kernels_choose();
    fingerprint_write(fingerprint, sizeof fingerprint, chosen);
}
