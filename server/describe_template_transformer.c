/* describe_template_transformer.c: networks of attention.
 *
 * transformer_encoder_classifier is an embedding with learned positions, torch's
 * TransformerEncoderLayer (its names: encoder.layers.0.self_attn.in_proj_weight, linear1, norm1
 * ...) a number of times, and a linear layer on the pooled sequence. char_gpt is GPT-2 at the size
 * of nanoGPT for characters: at each place the logits of the next token. Its names are nanoGPT's
 * but for the attention's, which are torch's; lm_head has a table of its own. */
#include "describe_template.h"

#include "describe_writer.h"

#include <math.h>

static json_t *norm_attrs(int64_t width)
{
    return json_pack("{s:[I]}", "normalized_shape", (json_int_t)width);
}

static const char *dropout(struct writer *w, const char *name, double p, const char *x)
{
    return p > 0 ? writer_layer1(w, name, "dropout", json_pack("{s:f}", "p", p), x) : x;
}

/* AdamW without decay of the parameters that this list of globs names, whose reference is taken. */
static json_t *adamw(double lr, double decay, json_t *undecayed)
{
    return json_pack("{s:s,s:f,s:[f,f],s:f,s:[{s:o,s:i}]}", "op", "adamw", "lr", lr, "betas", 0.9,
                     0.99, "weight_decay", decay, "groups", "params", undecayed, "weight_decay", 0);
}

/* ---- transformer_encoder_classifier ---------------------------------------------------------- */

struct encoder_arguments {
    struct text_arguments text;
    int64_t nhead, num_layers, dim_feedforward;
    double dropout;
    bool norm_first, recompute;
    int pool;
};

static const char *self_attention(struct writer *w, const struct encoder_arguments *a,
                                  const char *name, const char *x)
{
    json_t *attrs = json_pack("{s:I}", "num_heads", (json_int_t)a->nhead);
    const char *inputs[] = {x, "tokens"};
    x = writer_layer(w, writer_name(w, "%s.self_attn", name), "multihead_attention", attrs, inputs,
                     a->text.padding_idx == 0 ? 2 : 1);
    return dropout(w, writer_name(w, "%s.dropout1", name), a->dropout, x);
}

static const char *feed_forward(struct writer *w, const struct encoder_arguments *a,
                                const char *name, const char *x)
{
    x = writer_layer1(w, writer_name(w, "%s.linear1", name), "linear",
                      json_pack("{s:I}", "out_features", (json_int_t)a->dim_feedforward), x);
    x = writer_layer1(w, writer_name(w, "%s.activation", name), "relu", NULL, x);
    x = dropout(w, writer_name(w, "%s.dropout", name), a->dropout, x);
    x = writer_layer1(w, writer_name(w, "%s.linear2", name), "linear",
                      json_pack("{s:I}", "out_features", (json_int_t)a->text.embedding_dim), x);
    return dropout(w, writer_name(w, "%s.dropout2", name), a->dropout, x);
}

/* One half of a layer with its residual sum; the norm stands before or behind. */
static const char *sublayer(struct writer *w, const struct encoder_arguments *a, const char *name,
                            int i, const char *x)
{
    const char *norm = writer_name(w, "%s.norm%d", name, i), *y = x;
    if (a->norm_first)
        y = writer_layer1(w, norm, "layer_norm", norm_attrs(a->text.embedding_dim), y);
    y = i == 1 ? self_attention(w, a, name, y) : feed_forward(w, a, name, y);
    x = writer_layer2(w, writer_name(w, "%s.add%d", name, i), "add", NULL, x, y);
    if (!a->norm_first)
        x = writer_layer1(w, norm, "layer_norm", norm_attrs(a->text.embedding_dim), x);
    return x;
}

static const char *encoder(struct writer *w, const struct encoder_arguments *a, const char *x)
{
    for (int i = 0; i < a->num_layers; i++) {
        const char *name = writer_name(w, "encoder.layers.%d", i);
        w->block = a->recompute ? name : NULL;
        x = sublayer(w, a, name, 2, sublayer(w, a, name, 1, x));
        w->block = NULL;
    }
    if (!a->norm_first)
        return x;
    return writer_layer1(w, "encoder.norm", "layer_norm", norm_attrs(a->text.embedding_dim), x);
}

static int encoder_check(const struct encoder_arguments *a, struct error *e)
{
    if (a->text.padding_idx > 0)
        return error_set(e, ERROR_BAD_VALUE,
                         "template.padding_idx: expected 0 (then 0 is no key of the attention) or "
                         "none, found %lld",
                         (long long)a->text.padding_idx);
    if (a->text.embedding_dim % a->nhead)
        return error_set(e, ERROR_BAD_VALUE,
                         "template.nhead: expected a divisor of embedding_dim (%lld), found %lld",
                         (long long)a->text.embedding_dim, (long long)a->nhead);
    return 0;
}

static json_t *encoder_write(const void *variant, const void *arguments, struct error *e)
{
    static const char *const pools[] = {"mean", "amax"};
    const struct encoder_arguments *a = arguments;
    struct writer writer, *w = &writer;
    (void)variant;
    if (encoder_check(a, e))
        return NULL;
    writer_begin(w);
    const char *x = writer_layer1(w, "embedding", "embedding",
                                  json_pack("{s:I,s:I,s:{s:{s:s,s:f}}}", "num_embeddings",
                                            (json_int_t)a->text.vocab_size, "embedding_dim",
                                            (json_int_t)a->text.embedding_dim, "init", "weight",
                                            "op", "normal", "std", 0.02),
                                  "tokens");
    x = writer_layer1(w, "positions", "position_embedding",
                      json_pack("{s:{s:{s:s,s:f}}}", "init", "weight", "op", "normal", "std", 0.02),
                      x);
    x = encoder(w, a, dropout(w, "dropout", a->dropout, x));
    x = writer_layer1(w, "pool", pools[a->pool], json_pack("{s:[i]}", "dim", 1), x);
    writer_layer1(w, "fc", "linear",
                  json_pack("{s:I}", "out_features", (json_int_t)a->text.num_classes), x);
    json_t *whole = writer_finish(
        w,
        template_text(&a->text,
                      adamw(5e-4, 0.01, json_pack("[s,s,s]", "*.bias", "*norm*", "positions.*"))),
        e);
    writer_end(w);
    return whole;
}

#define ENCODER(field) offsetof(struct encoder_arguments, field)
static const struct attr_def encoder_attrs[] = {
    TEXT_ARGUMENTS(struct encoder_arguments, "128"),
    {"nhead", ATTR_INT, ENCODER(nhead), "4", 1, 1024, NULL, "heads of the attention"},
    {"num_layers", ATTR_INT, ENCODER(num_layers), "2", 1, 96, NULL, "layers"},
    {"dim_feedforward", ATTR_INT, ENCODER(dim_feedforward), "256", 1, 1 << 18, NULL,
     "width between the two linear layers"},
    {"dropout", ATTR_REAL, ENCODER(dropout), "0.1", 0, 0.99, NULL, "behind each part"},
    {"norm_first", ATTR_BOOL, ENCODER(norm_first), "true", 0, 1, NULL,
     "whether norms stand before attention and feed-forward"},
    {"pool", ATTR_CHOICE, ENCODER(pool), "mean", 0, 0, "mean|max", "over the sequence"},
    RECOMPUTE_ARGUMENT(struct encoder_arguments),
    {0},
};

/* ---- char_gpt -------------------------------------------------------------------------------- */

struct gpt_arguments {
    int64_t vocab_size, block_size, n_layer, n_head, n_embd;
    double dropout;
    bool bias, recompute;
};

/* A linear layer with weights of this deviation and biases of zero. */
static const char *gpt_linear(struct writer *w, const struct gpt_arguments *a, const char *name,
                              int64_t width, double std, const char *x)
{
    json_t *attrs = json_pack("{s:I,s:b,s:{s:{s:s,s:f}}}", "out_features", (json_int_t)width,
                              "bias", a->bias, "init", "weight", "op", "normal", "std", std);
    if (a->bias)
        w->failed |=
            json_object_set_new(json_object_get(attrs, "init"), "bias", json_string("zeros")) != 0;
    return writer_layer1(w, name, "linear", attrs, x);
}

static const char *gpt_norm(struct writer *w, const struct gpt_arguments *a, const char *name,
                            const char *x)
{
    json_t *attrs = norm_attrs(a->n_embd);
    w->failed |= json_object_set_new(attrs, "bias", json_boolean(a->bias)) != 0;
    return writer_layer1(w, name, "layer_norm", attrs, x);
}

/* What is added to the residual stream begins smaller, by the number of such sums. */
static double residual_std(const struct gpt_arguments *a)
{
    return 0.02 / sqrt(2 * (double)a->n_layer);
}

static const char *gpt_attention(struct writer *w, const struct gpt_arguments *a, const char *name,
                                 const char *x)
{
    json_t *attrs =
        json_pack("{s:I,s:b,s:b,s:{s:{s:s,s:f},s:{s:s,s:f}}}", "num_heads", (json_int_t)a->n_head,
                  "is_causal", 1, "bias", a->bias, "init", "in_proj_weight", "op", "normal", "std",
                  0.02, "out_proj.weight", "op", "normal", "std", residual_std(a));
    const char *y = gpt_norm(w, a, writer_name(w, "%s.ln_1", name), x);
    y = writer_layer1(w, writer_name(w, "%s.attn", name), "multihead_attention", attrs, y);
    y = dropout(w, writer_name(w, "%s.attn.dropout", name), a->dropout, y);
    return writer_layer2(w, writer_name(w, "%s.add_1", name), "add", NULL, x, y);
}

static const char *gpt_mlp(struct writer *w, const struct gpt_arguments *a, const char *name,
                           const char *x)
{
    const char *y = gpt_norm(w, a, writer_name(w, "%s.ln_2", name), x);
    y = gpt_linear(w, a, writer_name(w, "%s.mlp.c_fc", name), 4 * a->n_embd, 0.02, y);
    y = writer_layer1(w, writer_name(w, "%s.mlp.gelu", name), "gelu", NULL, y);
    y = gpt_linear(w, a, writer_name(w, "%s.mlp.c_proj", name), a->n_embd, residual_std(a), y);
    y = dropout(w, writer_name(w, "%s.mlp.dropout", name), a->dropout, y);
    return writer_layer2(w, writer_name(w, "%s.add_2", name), "add", NULL, x, y);
}

static const char *gpt_embedding(struct writer *w, const struct gpt_arguments *a)
{
    const char *x =
        writer_layer1(w, "transformer.wte", "embedding",
                      json_pack("{s:I,s:I,s:{s:{s:s,s:f}}}", "num_embeddings",
                                (json_int_t)a->vocab_size, "embedding_dim", (json_int_t)a->n_embd,
                                "init", "weight", "op", "normal", "std", 0.02),
                      "tokens");
    x = writer_layer1(w, "transformer.wpe", "position_embedding",
                      json_pack("{s:{s:{s:s,s:f}}}", "init", "weight", "op", "normal", "std", 0.02),
                      x);
    return dropout(w, "transformer.drop", a->dropout, x);
}

/* The loss takes classes in dimension 1, as torch's; clients get [N, T, vocab_size]. */
static json_t *gpt_rest(const struct gpt_arguments *a)
{
    json_t *undecayed = a->bias ? json_pack("[s,s,s]", "*bias", "*.ln_*", "*.wpe.*")
                                : json_pack("[s,s]", "*.ln_*", "*.wpe.*");
    return json_pack("{s:[{s:s,s:s,s:[i,I]}],s:[{s:s,s:s}],s:{s:s,s:s},s:o,s:f}", "inputs", "name",
                     "tokens", "datatype", "INT64", "shape", -1, (json_int_t)a->block_size,
                     "outputs", "name", "logits", "layer", "lm_head", "loss", "op", "cross_entropy",
                     "input", "classes_first", "optimizer", adamw(1e-3, 0.1, undecayed),
                     "clip_grad_norm", 1.0);
}

static int gpt_check(const struct gpt_arguments *a, struct error *e)
{
    if (a->n_embd % a->n_head == 0)
        return 0;
    return error_set(e, ERROR_BAD_VALUE,
                     "template.n_head: expected a divisor of n_embd (%lld), found %lld",
                     (long long)a->n_embd, (long long)a->n_head);
}

static json_t *gpt_write(const void *variant, const void *arguments, struct error *e)
{
    const struct gpt_arguments *a = arguments;
    struct writer writer, *w = &writer;
    (void)variant;
    if (gpt_check(a, e))
        return NULL;
    writer_begin(w);
    const char *x = gpt_embedding(w, a);
    for (int i = 0; i < a->n_layer; i++) {
        const char *name = writer_name(w, "transformer.h.%d", i);
        w->block = a->recompute ? name : NULL;
        x = gpt_mlp(w, a, name, gpt_attention(w, a, name, x));
        w->block = NULL;
    }
    x = gpt_norm(w, a, "transformer.ln_f", x);
    x = writer_layer1(w, "lm_head", "linear",
                      json_pack("{s:I,s:b,s:{s:{s:s,s:f}}}", "out_features",
                                (json_int_t)a->vocab_size, "bias", 0, "init", "weight", "op",
                                "normal", "std", 0.02),
                      x);
    writer_layer1(w, "classes_first", "transpose", json_pack("{s:i,s:i}", "dim0", 1, "dim1", 2), x);
    json_t *whole = writer_finish(w, gpt_rest(a), e);
    writer_end(w);
    return whole;
}

#define GPT(field) offsetof(struct gpt_arguments, field)
static const struct attr_def gpt_attrs[] = {
    {"vocab_size", ATTR_INT, GPT(vocab_size), "65", 1, 1 << 24, NULL, "different characters"},
    {"block_size", ATTR_INT, GPT(block_size), "128", 1, 1 << 16, NULL, "characters of a sample"},
    {"n_layer", ATTR_INT, GPT(n_layer), "4", 1, 96, NULL, "blocks"},
    {"n_head", ATTR_INT, GPT(n_head), "4", 1, 1024, NULL, "heads of the attention"},
    {"n_embd", ATTR_INT, GPT(n_embd), "128", 1, 65536, NULL, "numbers that stand for a character"},
    {"dropout", ATTR_REAL, GPT(dropout), "0", 0, 0.99, NULL, "behind each part"},
    {"bias", ATTR_BOOL, GPT(bias), "true", 0, 1, NULL, "in linear layers and norms"},
    RECOMPUTE_ARGUMENT(struct gpt_arguments),
    {0},
};

/* ---- the rows -------------------------------------------------------------------------------- */

const struct template templates_transformer[] = {
    {"transformer_encoder_classifier", "torch's TransformerEncoder over tokens, and a linear layer",
     encoder_attrs, sizeof(struct encoder_arguments), encoder_write, NULL},
    {"char_gpt", "GPT: the next token at each place; targets INT64 [N, T]", gpt_attrs,
     sizeof(struct gpt_arguments), gpt_write, NULL},
    {0},
};
