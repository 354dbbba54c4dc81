/* onnx_proto.c: reading ONNX's messages; onnx_proto.h says what they are. */
#include "onnx_proto.h"

#include <string.h>

struct reader {
    const uint8_t *at, *end;
    struct arena *arena;
    bool bad; /* set once, and then nothing more is read */
};

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct field {
    int number;
    enum wire wire;
    uint64_t value;      /* VARINT, 64, 32 */
    struct reader bytes; /* BYTES */
};

/* ---- fields ---------------------------------------------------------------------------------- */

static uint64_t varint(struct reader *r)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        const uint8_t byte = *r->at++;
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
    r->bad = true;
    return 0;
}

static uint64_t fixed(struct reader *r, size_t size)
{
    uint64_t value = 0;
    if ((size_t)(r->end - r->at) < size) {
        r->bad = true;
        return 0;
    }
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)*r->at++ << 8 * i;
    return value;
}

static struct reader bytes(struct reader *r)
{
    const uint64_t size = varint(r);
    struct reader inner = {r->at, r->at, r->arena, false};
    if (r->bad || size > (uint64_t)(r->end - r->at)) {
        r->bad = true;
        return inner;
    }
    r->at = inner.end = r->at + size;
    return inner;
}

/* The next field; false at the end and when something is bad. */
static bool next(struct reader *r, struct field *f)
{
    if (r->bad || r->at == r->end)
        return false;
    const uint64_t key = varint(r);
    *f = (struct field){.number = (int)(key >> 3), .wire = (enum wire)(key & 7)};
    if (f->wire == WIRE_VARINT)
        f->value = varint(r);
    else if (f->wire == WIRE_BYTES)
        f->bytes = bytes(r);
    else if (f->wire == WIRE_64 || f->wire == WIRE_32)
        f->value = fixed(r, f->wire == WIRE_64 ? 8 : 4);
    else
        r->bad = true;
    return !r->bad;
}

static const char *text(struct reader *outer, const struct field *f)
{
    const size_t size = (size_t)(f->bytes.end - f->bytes.at);
    char *copy = arena_alloc(outer->arena, size + 1);
    if (!copy) {
        outer->bad = true;
        return "";
    }
    if (size)
        memcpy(copy, f->bytes.at, size);
    return copy;
}

static float float_of(uint64_t bits)
{
    const uint32_t low = (uint32_t)bits;
    float x;
    memcpy(&x, &low, sizeof x);
    return x;
}

static double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- repeated fields ------------------------------------------------------------------------- */

static int count(struct reader r, int number)
{
    struct field f;
    int n = 0;
    while (next(&r, &f))
        n += f.number == number;
    return n;
}

/* Room for every field of this number. */
static void *room(struct reader *r, int number, size_t size, int *n_r)
{
    *n_r = 0;
    void *p = arena_array(r->arena, (size_t)count(*r, number) + 1, size);
    r->bad |= !p;
    return p;
}

/* How many numbers the fields of this number hold, one by one and packed. `wire`: of one. */
static int64_t numbers_count(struct reader r, int number, enum wire wire)
{
    struct field f;
    int64_t n = 0;
    while (next(&r, &f)) {
        if (f.number != number)
            continue;
        if (f.wire != WIRE_BYTES)
            n++;
        else if (wire == WIRE_VARINT)
            for (; f.bytes.at < f.bytes.end; n++)
                varint(&f.bytes);
        else
            n += (f.bytes.end - f.bytes.at) / (wire == WIRE_32 ? 4 : 8);
    }
    return n;
}

/* Their bits, one number each. */
static uint64_t *numbers(struct reader *r, int number, enum wire wire, int64_t *n_r)
{
    struct reader s = *r;
    struct field f;
    uint64_t *list =
        arena_array(r->arena, (size_t)numbers_count(*r, number, wire) + 1, sizeof *list);
    *n_r = 0;
    r->bad |= !list;
    while (list && next(&s, &f)) {
        if (f.number != number)
            continue;
        if (f.wire != WIRE_BYTES)
            list[(*n_r)++] = f.value;
        while (f.wire == WIRE_BYTES && !f.bytes.bad && f.bytes.at < f.bytes.end)
            list[(*n_r)++] =
                wire == WIRE_VARINT ? varint(&f.bytes) : fixed(&f.bytes, wire == WIRE_32 ? 4 : 8);
        r->bad |= f.wire == WIRE_BYTES && f.bytes.bad;
    }
    return list;
}

/* ---- TensorProto ----------------------------------------------------------------------------- */

enum {
    TENSOR_DIMS = 1,
    TENSOR_TYPE,
    TENSOR_FLOATS = 4,
    TENSOR_INT32S,
    TENSOR_INT64S = 7,
    TENSOR_NAME,
    TENSOR_RAW,
    TENSOR_DOUBLES
};

/* How a type lies in raw_data, and in which field otherwise. */
static const struct kind {
    int type, size, field;
    enum wire wire;
} kinds[] = {
    {ONNX_FLOAT, 4, TENSOR_FLOATS, WIRE_32},     {ONNX_INT32, 4, TENSOR_INT32S, WIRE_VARINT},
    {ONNX_INT64, 8, TENSOR_INT64S, WIRE_VARINT}, {ONNX_BOOL, 1, TENSOR_INT32S, WIRE_VARINT},
    {ONNX_DOUBLE, 8, TENSOR_DOUBLES, WIRE_64},
};

static const struct kind *kind_of(int type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].type == type)
            return &kinds[i];
    return NULL;
}

static void tensor_shape(struct reader *r, struct onnx_tensor *t)
{
    int64_t rank;
    const uint64_t *dims = numbers(r, TENSOR_DIMS, WIRE_VARINT, &rank);
    if (r->bad || rank > SHAPE_MAX_RANK) {
        r->bad = true;
        return;
    }
    t->shape.rank = (int)rank;
    t->count = 1;
    for (int64_t i = 0; i < rank; i++) {
        t->shape.dim[i] = (int64_t)dims[i];
        r->bad |= dims[i] > 1 << 24;
        t->count = r->bad || t->count > 1 << 24 ? 0 : t->count * (int64_t)dims[i];
    }
}

static void tensor_fill(struct reader *r, struct onnx_tensor *t, const uint64_t *bits)
{
    const bool wide = t->type == ONNX_DOUBLE, both = t->type == ONNX_BOOL;
    const bool real_kind = t->type == ONNX_FLOAT || wide;
    const size_t n = (size_t)t->count + 1;
    t->reals = real_kind || both ? arena_array(r->arena, n, sizeof *t->reals) : NULL;
    t->ints = !real_kind ? arena_array(r->arena, n, sizeof *t->ints) : NULL;
    r->bad |= (!real_kind && !t->ints) || ((real_kind || both) && !t->reals);
    for (int64_t i = 0; !r->bad && i < t->count; i++) {
        if (t->ints)
            t->ints[i] = t->type == ONNX_INT32 ? (int32_t)bits[i] : (int64_t)bits[i];
        if (t->reals)
            t->reals[i] = wide        ? (real)double_of(bits[i])
                          : real_kind ? (real)float_of(bits[i])
                                      : (real)(bits[i] != 0);
    }
}

static void tensor_data(struct reader *r, struct onnx_tensor *t)
{
    const struct kind *kind = kind_of(t->type);
    struct reader s = *r;
    struct field f;
    int64_t n = 0;
    if (r->bad || !kind)
        return; /* a type that nobody looks into */
    uint64_t *bits = numbers(r, kind->field, kind->wire, &n);
    while (next(&s, &f)) {
        if (f.number != TENSOR_RAW || f.wire != WIRE_BYTES)
            continue;
        n = (f.bytes.end - f.bytes.at) / kind->size;
        bits = arena_array(r->arena, (size_t)n + 1, sizeof *bits);
        for (int64_t i = 0; bits && i < n; i++)
            bits[i] = fixed(&f.bytes, (size_t)kind->size);
    }
    r->bad |= !bits || n != t->count;
    if (!r->bad)
        tensor_fill(r, t, bits);
}

static void tensor(struct reader *r, struct onnx_tensor *t)
{
    struct reader s = *r;
    struct field f;
    *t = (struct onnx_tensor){.name = ""};
    while (next(&s, &f))
        if (f.number == TENSOR_TYPE)
            t->type = (int)f.value;
        else if (f.number == TENSOR_NAME)
            t->name = text(r, &f);
    r->bad |= s.bad;
    tensor_shape(r, t);
    tensor_data(r, t);
}

/* ---- AttributeProto, NodeProto --------------------------------------------------------------- */

enum {
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_F,
    ATTRIBUTE_I,
    ATTRIBUTE_S,
    ATTRIBUTE_T,
    ATTRIBUTE_FLOATS = 7,
    ATTRIBUTE_INTS = 8
};

static void attr_field(struct reader *r, struct field *f, struct onnx_attr *a)
{
    if (f->number == ATTRIBUTE_NAME)
        a->name = text(r, f);
    else if (f->number == ATTRIBUTE_F)
        a->f = (double)float_of(f->value);
    else if (f->number == ATTRIBUTE_I)
        a->i = (int64_t)f->value;
    else if (f->number == ATTRIBUTE_S)
        a->s = text(r, f);
    else if (f->number == ATTRIBUTE_T && (a->t = arena_alloc(r->arena, sizeof *a->t)) != NULL) {
        tensor(&f->bytes, a->t);
        r->bad |= f->bytes.bad;
    }
}

static void attr(struct reader *r, struct onnx_attr *a)
{
    struct reader s = *r;
    struct field f;
    int64_t n;
    *a = (struct onnx_attr){.name = "", .s = ""};
    while (next(&s, &f))
        attr_field(&s, &f, a);
    r->bad |= s.bad;
    a->ints = (int64_t *)numbers(r, ATTRIBUTE_INTS, WIRE_VARINT, &n);
    a->n_ints = (int)n;
    const uint64_t *bits = numbers(r, ATTRIBUTE_FLOATS, WIRE_32, &n);
    a->floats = arena_array(r->arena, (size_t)n + 1, sizeof *a->floats);
    r->bad |= !a->floats;
    for (a->n_floats = 0; !r->bad && a->n_floats < n; a->n_floats++)
        a->floats[a->n_floats] = (double)float_of(bits[a->n_floats]);
}

enum { NODE_INPUT = 1, NODE_OUTPUT, NODE_OP = 4, NODE_ATTR, NODE_DOMAIN = 7 };

static void node(struct reader *r, struct onnx_node *n)
{
    struct field f;
    *n = (struct onnx_node){.op = "", .domain = ""};
    n->inputs = room(r, NODE_INPUT, sizeof *n->inputs, &n->n_inputs);
    n->outputs = room(r, NODE_OUTPUT, sizeof *n->outputs, &n->n_outputs);
    n->attrs = room(r, NODE_ATTR, sizeof *n->attrs, &n->n_attrs);
    while (next(r, &f)) {
        if (f.number == NODE_INPUT)
            n->inputs[n->n_inputs++] = text(r, &f);
        else if (f.number == NODE_OUTPUT)
            n->outputs[n->n_outputs++] = text(r, &f);
        else if (f.number == NODE_OP)
            n->op = text(r, &f);
        else if (f.number == NODE_DOMAIN)
            n->domain = text(r, &f);
        else if (f.number == NODE_ATTR) {
            attr(&f.bytes, &n->attrs[n->n_attrs++]);
            r->bad |= f.bytes.bad;
        }
    }
}

/* ---- ValueInfoProto, GraphProto, ModelProto -------------------------------------------------- */

enum { PORT_NAME = 1, PORT_TYPE, TYPE_TENSOR = 1, TENSOR_ELEMENT = 1 };

static void port(struct reader *r, struct onnx_port *p)
{
    struct field f, type, element;
    *p = (struct onnx_port){.name = "", .type = ONNX_NO_TENSOR};
    while (next(r, &f)) {
        if (f.number == PORT_NAME)
            p->name = text(r, &f);
        while (f.number == PORT_TYPE && next(&f.bytes, &type))
            while (type.number == TYPE_TENSOR && next(&type.bytes, &element))
                if (element.number == TENSOR_ELEMENT)
                    p->type = (int)element.value;
    }
}

enum { GRAPH_NODE = 1, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };

static void graph(struct reader *r, struct onnx_model *m)
{
    struct field f;
    m->nodes = room(r, GRAPH_NODE, sizeof *m->nodes, &m->n_nodes);
    m->initializers = room(r, GRAPH_INITIALIZER, sizeof *m->initializers, &m->n_initializers);
    m->inputs = room(r, GRAPH_INPUT, sizeof *m->inputs, &m->n_inputs);
    m->outputs = room(r, GRAPH_OUTPUT, sizeof *m->outputs, &m->n_outputs);
    while (next(r, &f)) {
        if (f.number == GRAPH_NODE)
            node(&f.bytes, &m->nodes[m->n_nodes++]);
        else if (f.number == GRAPH_INITIALIZER)
            tensor(&f.bytes, &m->initializers[m->n_initializers++]);
        else if (f.number == GRAPH_INPUT)
            port(&f.bytes, &m->inputs[m->n_inputs++]);
        else if (f.number == GRAPH_OUTPUT)
            port(&f.bytes, &m->outputs[m->n_outputs++]);
        r->bad |= f.wire == WIRE_BYTES && f.bytes.bad;
    }
}

enum { MODEL_GRAPH = 7, MODEL_OPSET = 8, OPSET_DOMAIN = 1, OPSET_VERSION };

static void opset(struct reader *r, struct onnx_model *m)
{
    struct field f;
    const char *domain = "";
    int64_t version = 0;
    while (next(r, &f))
        if (f.number == OPSET_DOMAIN)
            domain = text(r, &f);
        else if (f.number == OPSET_VERSION)
            version = (int64_t)f.value;
    if (!domain[0])
        m->opset = version;
}

struct onnx_model *onnx_model_read(struct arena *a, const void *from, size_t size)
{
    struct reader r = {from, (const uint8_t *)from + size, a, false};
    struct onnx_model *m = arena_alloc(a, sizeof *m);
    struct field f;
    while (m && next(&r, &f)) {
        if (f.number == MODEL_GRAPH)
            graph(&f.bytes, m);
        else if (f.number == MODEL_OPSET)
            opset(&f.bytes, m);
        r.bad |= f.wire == WIRE_BYTES && f.bytes.bad;
    }
    return r.bad ? NULL : m;
}

struct onnx_tensor *onnx_tensor_read(struct arena *a, const void *from, size_t size)
{
    struct reader r = {from, (const uint8_t *)from + size, a, false};
    struct onnx_tensor *t = arena_alloc(a, sizeof *t);
    if (t)
        tensor(&r, t);
    return r.bad ? NULL : t;
}

const struct onnx_attr *onnx_attr_find(const struct onnx_node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (!strcmp(n->attrs[i].name, name))
            return &n->attrs[i];
    return NULL;
}
