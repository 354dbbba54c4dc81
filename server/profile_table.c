/* profile_table.c: a profile as text. */
#include "profile_table.h"

#include <string.h>

double profiled_share(const struct profiled *p, const struct profile_row *row, enum run_pass pass)
{
    const double seconds = row->seconds[pass] / (double)p->steps;
    return seconds > 0 && p->peak > 0 ? row->flops[pass] / seconds / p->peak : 0;
}

/* ---- sums ------------------------------------------------------------------------------------ */

static void row_add(struct profile_row *sum, const struct profile_row *row)
{
    for (int i = 0; i < RUN_PASSES; i++) {
        sum->seconds[i] += row->seconds[i];
        sum->flops[i] += row->flops[i];
        sum->bytes[i] += row->bytes[i];
    }
}

int profiled_operator(const struct profiled *p, int i, struct profile_row *sum_r)
{
    const struct profile_row *rows;
    const int n = profile_rows(p->profile, &rows);
    const char *op = node_op(rows[i].node);
    int found = 0;
    *sum_r = (struct profile_row){.node = rows[i].node};
    for (int k = 0; k < n; k++) {
        if (strcmp(node_op(rows[k].node), op) != 0)
            continue;
        if (k < i)
            return 0;
        found++;
        row_add(sum_r, &rows[k]);
    }
    return found;
}

/* ---- lines ----------------------------------------------------------------------------------- */

/* Milliseconds of a step, share of all, GFLOP/s, share of the peak, GB/s. */
static void print_pass(const struct profiled *p, const struct profile_row *row, enum run_pass pass,
                       FILE *out)
{
    const double seconds = row->seconds[pass] / (double)p->steps;
    if (seconds <= 0) {
        fprintf(out, " %9s %5s %7s %5s %6s", "-", "", "", "", "");
        return;
    }
    fprintf(out, " %9.3f %4.1f%% %7.1f %4.0f%% %6.1f", 1e3 * seconds,
            100 * row->seconds[pass] / p->seconds, row->flops[pass] / seconds * 1e-9,
            100 * profiled_share(p, row, pass), row->bytes[pass] / seconds * 1e-9);
}

static void print_line(const struct profiled *p, const char *name, const char *op,
                       const struct profile_row *row, FILE *out)
{
    fprintf(out, "%-28.28s %-22.22s", name, op);
    print_pass(p, row, RUN_FORWARD, out);
    print_pass(p, row, RUN_BACKWARD, out);
    fputc('\n', out);
}

static void print_head(const char *what, FILE *out)
{
    fprintf(out, "%-28s %-22s %9s %5s %7s %5s %6s %9s %5s %7s %5s %6s\n", what, "operator",
            "fwd ms", "time", "GFLOP/s", "peak", "GB/s", "bwd ms", "time", "GFLOP/s", "peak",
            "GB/s");
}

/* ---- the table ------------------------------------------------------------------------------- */

/* Each operator once, where it first comes. */
static void print_operators(const struct profiled *p, int n, FILE *out)
{
    print_head("sum of", out);
    for (int i = 0; i < n; i++) {
        struct profile_row sum;
        char count[32];
        const int found = profiled_operator(p, i, &sum);
        snprintf(count, sizeof count, "%d", found);
        if (found)
            print_line(p, count, node_op(sum.node), &sum, out);
    }
}

void profile_table_print(const struct profiled *p, FILE *out)
{
    const struct profile_row *rows;
    const int n = profile_rows(p->profile, &rows);
    struct profile_row sum = {0};
    print_head("layer", out);
    for (int i = 0; i < n; i++) {
        print_line(p, node_name(rows[i].node), node_op(rows[i].node), &rows[i], out);
        row_add(&sum, &rows[i]);
    }
    fputc('\n', out);
    print_operators(p, n, out);
    print_line(p, "all layers", "", &sum, out);
    fprintf(out,
            "\n%.3f ms a step, of them %.3f for the optimiser; %.1f examples/s; batch %lld, %d "
            "thread%s; BLAS on large matrices: %.1f GFLOP/s\n",
            1e3 * p->seconds / (double)p->steps, 1e3 * p->update / (double)p->steps,
            (double)(p->steps * p->batch) / p->seconds, (long long)p->batch, p->threads,
            p->threads > 1 ? "s" : "", p->peak * 1e-9);
}
