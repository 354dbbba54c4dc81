/* test_safetensors.c: the format: the sample files of its reference implementation, cut and changed
 * files, and what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../server/safetensors.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOLDER "tests/data/safetensors/"

struct file {
    unsigned char *bytes;
    size_t size;
};

/* A block of just its size, so that a read past the end is seen by a sanitizer. */
static struct file file_read(const char *path)
{
    struct file f = {0};
    FILE *in = fopen(path, "rb");
    if (!in)
        fail_msg("%s cannot be opened", path);
    fseek(in, 0, SEEK_END);
    f.size = (size_t)ftell(in);
    rewind(in);
    f.bytes = malloc(f.size ? f.size : 1);
    assert_int_equal(fread(f.bytes, 1, f.size, in), f.size);
    fclose(in);
    return f;
}

static struct file file_make(const char *header, size_t length, size_t data)
{
    struct file f = {malloc(8 + strlen(header) + data), 8 + strlen(header) + data};
    memset(f.bytes, 0, f.size);
    for (int i = 0; i < 8; i++)
        f.bytes[i] = (unsigned char)(length >> 8 * i);
    memcpy(f.bytes + 8, header, strlen(header));
    return f;
}

/* 0, or -1 with a whole sentence. */
static int parse(const struct file *f, struct arena *a, struct safetensors *s, struct error *e)
{
    memset(e, 0, sizeof *e);
    int status = safetensors_read(s, a, f->bytes, f->size, e);
    if (status) {
        assert_int_equal(e->code, ERROR_BAD_SAFETENSORS);
        assert_int_equal(strncmp(e->text, "safetensors: ", 13), 0);
    }
    return status;
}

/* ---- the samples ----------------------------------------------------------------------------- */

static void check_tensors(const char *path, const struct safetensors *s, json_t *tensors)
{
    const char *name;
    json_t *row;
    assert_int_equal(s->n, json_object_size(tensors));
    json_object_foreach(tensors, name, row)
    {
        size_t i = 0;
        while (i < s->n && strcmp(s->tensors[i].name, name))
            i++;
        if (i == s->n)
            fail_msg("%s: no tensor %s", path, name);
        const struct safetensor *t = &s->tensors[i];
        assert_string_equal(t->type->name, json_string_value(json_array_get(row, 0)));
        assert_int_equal(t->shape.rank, 1);
        assert_int_equal(t->shape.dim[0],
                         json_integer_value(json_array_get(json_array_get(row, 1), 0)));
    }
}

static void samples(void **state)
{
    json_t *manifest = json_load_file(FOLDER "manifest.json", 0, NULL), *row;
    const char *name;
    (void)state;
    assert_int_equal(json_object_size(manifest), 32);
    json_object_foreach(manifest, name, row)
    {
        char path[200];
        struct safetensors s;
        struct error e;
        snprintf(path, sizeof path, FOLDER "%s", name);
        struct file f = file_read(path);
        struct arena *a = arena_create(4096);
        bool valid = !strcmp(json_string_value(json_object_get(row, "expect")), "ok");
        int status = parse(&f, a, &s, &e);
        if (valid != !status)
            fail_msg("%s: %s", name, status ? e.text : "was taken");
        if (json_object_get(row, "tensors"))
            check_tensors(name, &s, json_object_get(row, "tensors"));
        arena_destroy(&a);
        free(f.bytes);
    }
    json_decref(manifest);
}

/* ---- made here ------------------------------------------------------------------------------- */

static void refusals(void **state)
{
    static const struct {
        const char *header;
        size_t data;
        const char *part; /* of the sentence; NULL: it is taken */
    } rows[] = {
        {"{}", 0, NULL},
        {"{}", 1, "longer than it says"},
        {"[]", 0, "must be a JSON object"},
        {"{\"a\":1}", 0, "must be an object"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3, "cut off"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "begin at 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "need 4"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "'shape'[0]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, "'shape'[0]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "[begin, end]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "'data_offsets' must be a list"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype 'F31'"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, NULL},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "whole number of"},
        {"{\"a\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8, NULL},
        {"{\"a\":{\"dtype\":\"I64\",\"shape\":[4611686018427387904,2,2],\"data_offsets\":[0,0]}}",
         0, "product"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
         NULL},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "no overlap"},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]},"
         "\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
         3, NULL},
        {"{\"__metadata__\":{\"a\":1}}", 0, "must be a string"},
        {"{\"__metadata__\":{\"a\":\"b\"}}", 0, NULL},
    };
    (void)state;
    unsigned char torch[] = "PK\3\4\0\0\b\bxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    struct arena *arena = arena_create(4096);
    struct safetensors none;
    struct error error;
    assert_true(parse(&(struct file){torch, sizeof torch}, arena, &none, &error) != 0);
    assert_non_null(strstr(error.text, "zip"));
    assert_non_null(strstr(error.text, "save_file"));
    arena_destroy(&arena);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct file f = file_make(rows[i].header, strlen(rows[i].header), rows[i].data);
        struct arena *a = arena_create(4096);
        struct safetensors s;
        struct error e;
        int status = parse(&f, a, &s, &e);
        if (!status == (rows[i].part != NULL) || (status && !strstr(e.text, rows[i].part)))
            fail_msg("%s: %s", rows[i].header, status ? e.text : "was taken");
        arena_destroy(&a);
        free(f.bytes);
    }
}

/* However a file is cut off, it is refused; and no change of a byte does harm. */
static void cut_and_changed(void **state)
{
    struct file whole = file_read(FOLDER "valid/sample_overall.safetensors");
    (void)state;
    for (size_t size = 0; size < whole.size; size++) {
        struct file part = {malloc(size ? size : 1), size};
        struct arena *a = arena_create(4096);
        struct safetensors s;
        struct error e;
        memcpy(part.bytes, whole.bytes, size);
        assert_int_equal(parse(&part, a, &s, &e), -1);
        arena_destroy(&a);
        free(part.bytes);
    }
    for (size_t at = 0; at < whole.size; at++)
        for (int change = 1; change < 256; change <<= 1) {
            struct arena *a = arena_create(4096);
            struct safetensors s;
            struct error e;
            whole.bytes[at] ^= (unsigned char)change;
            if (!parse(&whole, a, &s, &e))
                for (size_t i = 0; i < s.n; i++)
                    assert_in_range((const unsigned char *)s.tensors[i].data - whole.bytes, 8,
                                    whole.size - s.tensors[i].size);
            whole.bytes[at] ^= (unsigned char)change;
            arena_destroy(&a);
        }
    free(whole.bytes);
}

static void writes_what_it_reads(void **state)
{
    const struct safetensors_type *f32 = safetensors_type("F32"), *i64 = safetensors_type("I64");
    float data[4] = {1, 2, 3, 4};
    struct safetensor list[] = {{"b\"", f32, SHAPE(1, 3), data, 12},
                                {"a", f32, {0}, data + 3, 4},
                                {"n", i64, {0}, &(int64_t){7}, 8}};
    struct safetensors s = {list, 3}, back;
    struct arena *a = arena_create(4096);
    struct error e;
    size_t size;
    (void)state;
    char *header = safetensors_header(&s, &(struct safetensors_note){"format", "pt"}, 1, &size);
    assert_non_null(header);
    assert_int_equal(size % 8, 0);
    struct file f = {malloc(size + 24), size};
    memcpy(f.bytes, header, size);
    for (size_t i = 0; i < 3; i++, f.size += s.tensors[i - 1].size)
        memcpy(f.bytes + f.size, s.tensors[i].data, s.tensors[i].size);
    if (parse(&f, a, &back, &e))
        fail_msg("%s", e.text);
    static const char *const order[] = {"n", "a", "b\""};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(back.tensors[i].name, order[i]);
        assert_int_equal(back.tensors[i].size, s.tensors[i].size);
        assert_memory_equal(back.tensors[i].data, s.tensors[i].data, s.tensors[i].size);
        assert_true(shape_equal(&back.tensors[i].shape, &s.tensors[i].shape));
    }
    assert_int_equal(back.n, 3);
    arena_destroy(&a);
    free(header);
    free(f.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples),
        cmocka_unit_test(refusals),
        cmocka_unit_test(cut_and_changed),
        cmocka_unit_test(writes_what_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
