/* recurrent_cells.c: the arithmetic of one step of rnn, gru and lstm, as torch.nn.RNN, GRU and LSTM
 * define it. Gates lie in torch's order, so that weights move by name. Backward names the gradient
 * of x as dx, and that of a gate before its sigmoid or tanh is what it writes. */
#include "real.h"
#include "recurrent.h"

static inline real sigmoid(real x)
{
    return 1 / (1 + RM(exp)(-x));
}

/* ---- rnn: h = tanh(a) or relu(a) ------------------------------------------------------------- */

static void tanh_forward(const struct cell_step *s)
{
    for (int64_t j = 0; j < s->hidden; j++)
        s->h[j] = RM(tanh)(s->gates[j] + s->back[j]);
}

static void tanh_backward(const struct cell_slope *s)
{
    for (int64_t j = 0; j < s->hidden; j++) {
        s->dgates[j] = s->dh[j] * (1 - s->h[j] * s->h[j]);
        s->dh[j] = 0;
    }
}

/* NaN stays NaN. */
static void relu_forward(const struct cell_step *s)
{
    for (int64_t j = 0; j < s->hidden; j++) {
        const real a = s->gates[j] + s->back[j];
        s->h[j] = a < 0 ? 0 : a;
    }
}

static void relu_backward(const struct cell_slope *s)
{
    for (int64_t j = 0; j < s->hidden; j++) {
        s->dgates[j] = s->h[j] > 0 ? s->dh[j] : 0;
        s->dh[j] = 0;
    }
}

/* ---- lstm: c = f c_before + i g; h = o tanh(c) ----------------------------------------------- */

static void lstm_forward(const struct cell_step *s)
{
    const int64_t n = s->hidden;
    for (int64_t j = 0; j < n; j++) {
        real *a = s->gates + j;
        const real *b = s->back + j;
        const real i = sigmoid(a[0] + b[0]), f = sigmoid(a[n] + b[n]);
        const real g = RM(tanh)(a[2 * n] + b[2 * n]), o = sigmoid(a[3 * n] + b[3 * n]);
        const real c = f * s->c_before[j] + i * g;
        a[0] = i;
        a[n] = f;
        a[2 * n] = g;
        a[3 * n] = o;
        s->kept[j] = c;
        s->h[j] = o * RM(tanh)(c);
    }
}

static void lstm_backward(const struct cell_slope *s)
{
    const int64_t n = s->hidden;
    for (int64_t j = 0; j < n; j++) {
        const real *a = s->gates + j;
        const real i = a[0], f = a[n], g = a[2 * n], o = a[3 * n], t = RM(tanh)(s->kept[j]);
        const real dc = s->dc[j] + s->dh[j] * o * (1 - t * t);
        real *d = s->dgates + j;
        d[0] = dc * g * i * (1 - i);
        d[n] = dc * s->c_before[j] * f * (1 - f);
        d[2 * n] = dc * i * (1 - g * g);
        d[3 * n] = s->dh[j] * t * o * (1 - o);
        s->dc[j] = dc * f;
        s->dh[j] = 0;
    }
}

/* ---- gru: n = tanh(a + r b); h = (1 - z) n + z h_before ---------------------------------------
 */

/* b, the part of n that comes from h_before, is kept: r's gradient needs it. */
static void gru_forward(const struct cell_step *s)
{
    const int64_t n = s->hidden;
    for (int64_t j = 0; j < n; j++) {
        real *a = s->gates + j;
        const real *b = s->back + j;
        const real r = sigmoid(a[0] + b[0]), z = sigmoid(a[n] + b[n]);
        const real m = RM(tanh)(a[2 * n] + r * b[2 * n]);
        a[0] = r;
        a[n] = z;
        a[2 * n] = m;
        s->kept[j] = b[2 * n];
        s->h[j] = (1 - z) * m + z * s->h_before[j];
    }
}

static void gru_backward(const struct cell_slope *s)
{
    const int64_t n = s->hidden;
    for (int64_t j = 0; j < n; j++) {
        const real *a = s->gates + j;
        const real r = a[0], z = a[n], m = a[2 * n], dh = s->dh[j];
        const real dm = dh * (1 - z) * (1 - m * m);
        real *d = s->dgates + j;
        d[0] = dm * s->kept[j] * r * (1 - r);
        d[n] = dh * (s->h_before[j] - m) * z * (1 - z);
        d[2 * n] = dm;
        s->dh[j] = dh * z;
    }
}

static void gru_to_back(int64_t hidden, const real *gates, real *dgates)
{
    for (int64_t j = 0; j < hidden; j++)
        dgates[2 * hidden + j] *= gates[j];
}

const struct cell cell_rnn_tanh = {1, false, 1, tanh_forward, tanh_backward, NULL};
const struct cell cell_rnn_relu = {1, false, 1, relu_forward, relu_backward, NULL};
const struct cell cell_lstm = {4, true, 2, lstm_forward, lstm_backward, NULL};
const struct cell cell_gru = {3, true, 1, gru_forward, gru_backward, gru_to_back};
