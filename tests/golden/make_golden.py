#!/usr/bin/python3
"""make_golden.py: writes tests/data/golden/*.json, what PyTorch computes in float64 for small nets.

Each file holds a model description in the form the daemon takes it, the initial parameters and
buffers, some batches, and what follows from them: output, loss and gradients of the first batch in
training mode, the losses of 20 optimiser steps, and the parameters, buffers and eval-mode output
after them. tests/unit/test_golden_both.c compares the engine with them, in double and in float.

The torch module is built from the same description, so the two cannot drift apart. Parameters and
batches are rounded to multiples of 2^-12 and 2^-8: exact in float, and short as text. Names of
layers are the names of torch modules, so names of parameters agree.

No case has a bias whose gradient is zero in exact arithmetic (before a batch norm; of attention's
keys; one that is the same for all classes): its computed gradient would be rounding noise.

Run it from the root of the repository with a Python that has torch (made with 1.13):
    python3 tests/golden/make_golden.py
"""

import fnmatch
import json
import math
import os

import torch
from torch import nn
from torch.nn import functional as F

OUT = "tests/data/golden"
STEPS = 20
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


# ---- descriptions as torch modules ------------------------------------------------------------

class Function(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, *x):
        return self.f(*x)


def pair(v):
    return tuple(v) if isinstance(v, list) else v


# op -> (attributes, shapes of its inputs) -> module
MODULES = {
    "linear": lambda a, s: nn.Linear(s[0][-1], a["out_features"], bias=a.get("bias", True)),
    "conv2d": lambda a, s: nn.Conv2d(
        s[0][1], a["out_channels"], pair(a["kernel_size"]), stride=pair(a.get("stride", 1)),
        padding=pair(a.get("padding", 0)), dilation=pair(a.get("dilation", 1)),
        groups=a.get("groups", 1), bias=a.get("bias", True)),
    "batch_norm1d": lambda a, s: nn.BatchNorm1d(s[0][1], **a),
    "batch_norm2d": lambda a, s: nn.BatchNorm2d(s[0][1], **a),
    "layer_norm": lambda a, s: nn.LayerNorm(**a),
    "max_pool2d": lambda a, s: nn.MaxPool2d(**{k: pair(v) for k, v in a.items()}),
    "avg_pool2d": lambda a, s: nn.AvgPool2d(**{k: pair(v) for k, v in a.items()}),
    "adaptive_avg_pool2d": lambda a, s: nn.AdaptiveAvgPool2d(pair(a["output_size"])),
    "relu": lambda a, s: nn.ReLU(),
    "leaky_relu": lambda a, s: nn.LeakyReLU(**a),
    "sigmoid": lambda a, s: nn.Sigmoid(),
    "tanh": lambda a, s: nn.Tanh(),
    "gelu": lambda a, s: nn.GELU(**a),
    "silu": lambda a, s: nn.SiLU(),
    "softmax": lambda a, s: nn.Softmax(**a),
    "log_softmax": lambda a, s: nn.LogSoftmax(**a),
    "flatten": lambda a, s: nn.Flatten(**a),
    "reshape": lambda a, s: Function(lambda x: x.reshape(a["shape"])),
    "transpose": lambda a, s: Function(lambda x: x.transpose(a["dim0"], a["dim1"])),
    "add": lambda a, s: Function(torch.add),
    "mul": lambda a, s: Function(torch.mul),
    "concat": lambda a, s: Function(lambda *x: torch.cat(x, dim=a.get("dim", 1))),
    "narrow": lambda a, s: Function(
        lambda x: x.narrow(a.get("dim", 1), a["start"], a["length"])),
    "upsample": lambda a, s: nn.Upsample(scale_factor=pair(a.get("scale_factor", 2)), mode="nearest"),
    "matmul": lambda a, s: Function(torch.matmul),
    "mean": lambda a, s: Function(lambda x: x.mean(a["dim"], a.get("keepdim", False))),
    "exp": lambda a, s: Function(torch.exp),
    "conv1d": lambda a, s: nn.Conv1d(s[0][1], **a),
    "conv_transpose2d": lambda a, s: nn.ConvTranspose2d(
        s[0][1], **{k: pair(v) for k, v in a.items()}),
    "group_norm": lambda a, s: nn.GroupNorm(a.pop("num_groups"), s[0][1], **a),
    "instance_norm": lambda a, s: {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d}[len(s[0])](
        s[0][1], **a),
    "rms_norm": lambda a, s: RMSNorm(**a),
    "embedding": lambda a, s: nn.Embedding(**a),
    "multihead_attention": lambda a, s: SelfAttention(s[0][-1], **a),
    "scaled_dot_product_attention": lambda a, s: Function(
        lambda *x: attention(*x, **a)),
    "gather": lambda a, s: Function(lambda x, index: x.gather(a["dim"], index)),
    "max_pool1d": lambda a, s: nn.MaxPool1d(**a),
    "avg_pool1d": lambda a, s: nn.AvgPool1d(**a),
    "adaptive_max_pool2d": lambda a, s: nn.AdaptiveMaxPool2d(pair(a["output_size"])),
    "interpolate": lambda a, s: Function(lambda x: F.interpolate(
        x, **{k: pair(v) for k, v in a.items()})),
    "pad": lambda a, s: Function(lambda x: F.pad(x, a["padding"], a.get("mode", "constant"),
                                                 a.get("value", 0.0))),
    "prelu": lambda a, s: nn.PReLU(**a),
    "glu": lambda a, s: nn.GLU(**a),
    "elu": lambda a, s: nn.ELU(**a),
    "selu": lambda a, s: nn.SELU(),
    "celu": lambda a, s: nn.CELU(**a),
    "softplus": lambda a, s: nn.Softplus(**a),
    "softsign": lambda a, s: nn.Softsign(),
    "mish": lambda a, s: nn.Mish(),
    "log_sigmoid": lambda a, s: nn.LogSigmoid(),
    "relu6": lambda a, s: nn.ReLU6(),
    "hardtanh": lambda a, s: nn.Hardtanh(**a),
    # By its formula: torch 1.13's own has 1/6 rounded to float32 in it, also in double.
    "hardsigmoid": lambda a, s: Function(lambda x: F.relu6(x + 3) / 6),
    "hardswish": lambda a, s: nn.Hardswish(),
    "clamp": lambda a, s: Function(lambda x: torch.clamp(x, a.get("min"), a.get("max"))),
    "permute": lambda a, s: Function(lambda x: x.permute(a["dims"])),
    "pixel_shuffle": lambda a, s: nn.PixelShuffle(a["upscale_factor"]),
    "pixel_unshuffle": lambda a, s: nn.PixelUnshuffle(a["downscale_factor"]),
    "flip": lambda a, s: Function(lambda x: x.flip(a["dims"])),
    "repeat": lambda a, s: Function(lambda x: x.repeat(a["repeats"])),
    "stack": lambda a, s: Function(lambda *x: torch.stack(x, a.get("dim", 1))),
    "unsqueeze": lambda a, s: Function(lambda x: x.unsqueeze(a["dim"])),
    "expand": lambda a, s: Function(lambda x: x.expand(a["shape"])),
    "index_select": lambda a, s: Function(
        lambda x: x.index_select(a["dim"], torch.tensor(a["index"]))),
    "amax": lambda a, s: Function(lambda x: x.amax(a["dim"])),
    "amin": lambda a, s: Function(lambda x: x.amin(a["dim"])),
    "prod": lambda a, s: Function(lambda x: x.prod(a["dim"])),
    "var": lambda a, s: Function(lambda x: x.var(a["dim"], correction=a.get("correction", 1))),
    "std": lambda a, s: Function(lambda x: x.std(a["dim"], correction=a.get("correction", 1))),
    "norm": lambda a, s: Function(lambda x: torch.linalg.vector_norm(x, a.get("p", 2), a["dim"])),
    "logsumexp": lambda a, s: Function(lambda x: x.logsumexp(a["dim"])),
    "where": lambda a, s: Function(lambda c, x, y: torch.where(c != 0, x, y)),
    "gt": lambda a, s: Function(lambda x: (x > a["other"]).double()),
    "sinusoidal_encoding": lambda a, s: Function(lambda x: x + sinusoidal(*s[0][-2:], **a)),
    "rotary_embedding": lambda a, s: Function(lambda x: rotary(x, **a)),
    "rnn": lambda a, s: Recurrent(nn.RNN, s[0][-1], a),
    "gru": lambda a, s: Recurrent(nn.GRU, s[0][-1], a),
    "lstm": lambda a, s: Recurrent(nn.LSTM, s[0][-1], a),
    "maximum": lambda a, s: Function(torch.maximum),
    "minimum": lambda a, s: Function(torch.minimum),
}


class RMSNorm(nn.Module):
    def __init__(self, normalized_shape, eps=2.0 ** -23):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(normalized_shape))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def attention(q, k, v, counts=None, is_causal=False, scale=None):
    scores = q @ k.transpose(-1, -2) * (scale or q.shape[-1] ** -0.5)
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).tril() == 0, -math.inf)
    if counts is not None and counts.is_floating_point():
        scores = scores + counts
    elif counts is not None:
        scores = scores.masked_fill(counts == 0, -math.inf)
    return torch.softmax(scores, -1) @ v


class SelfAttention(nn.MultiheadAttention):
    def __init__(self, embed_dim, num_heads, is_causal=False, attn_mask=False, **others):
        super().__init__(embed_dim, num_heads, batch_first=True, **others)
        self.is_causal, self.attn_mask = is_causal, attn_mask

    def forward(self, q, *given):
        """Indices are 0 where a key is padding, as in ours; memory alone is key and value; last
        comes attn_mask, if it says so, [N, L, S] or [N, heads, L, S]."""
        extra = None
        if self.attn_mask:
            *given, extra = given
            extra = (extra.flatten(0, 1) if extra.dim() == 4 else
                     extra.repeat_interleave(self.num_heads, 0))
            extra = extra if extra.is_floating_point() else extra == 0
        counts = next((x for x in given if not x.is_floating_point()), None)
        k, v = (([x for x in given if x.is_floating_point()]) + [None, None])[:2]
        k = q if k is None else k
        v = k if v is None else v
        mask = torch.ones(q.shape[1], k.shape[1]).triu(1) != 0 if self.is_causal else extra
        padding = None if counts is None else counts == 0
        return super().forward(q, k, v, key_padding_mask=padding, attn_mask=mask,
                               need_weights=False)[0]


def sinusoidal(length, features, base=10000.0, offset=0):
    """As the annotated transformer's PositionalEncoding writes it."""
    place = torch.arange(offset, offset + length).double().unsqueeze(1)
    step = torch.exp(torch.arange(0, features, 2) * -(math.log(base) / features))
    table = torch.zeros(length, features)
    table[:, 0::2], table[:, 1::2] = torch.sin(place * step), torch.cos(place * step)
    return table


def rotary(x, base=10000.0, offset=0, dim=0, interleaved=False):
    """As transformers has it for GPT-NeoX: x cos + rotate_half(x) sin; or by complex numbers."""
    dim = dim or x.shape[-1]
    turned, rest = x[..., :dim], x[..., dim:]
    step = 1.0 / base ** (torch.arange(0, dim, 2).double() / dim)
    angle = torch.outer(torch.arange(offset, offset + x.shape[-2]).double(), step)
    if interleaved:
        pairs = torch.view_as_complex(turned.reshape(*turned.shape[:-1], -1, 2))
        turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    else:
        half = torch.cat((-turned[..., dim // 2:], turned[..., :dim // 2]), -1)
        angle = torch.cat((angle, angle), -1)
        turned = turned * angle.cos() + half * angle.sin()
    return torch.cat((turned, rest), -1)


def Recurrent(base, features, a):
    """One of torch's modules, under its own names; states have the batch first, as ours."""
    class Module(base):
        def forward(self, x, *states):
            states = tuple(s.transpose(0, 1).contiguous() for s in states)
            y, last = super().forward(x, *([states if len(states) > 1 else states[0]]
                                           if states else []))
            h, c = last if isinstance(last, tuple) else (last, None)
            directions = 1 + self.bidirectional
            return {"sequence": lambda: y, "h_n": lambda: h.transpose(0, 1),
                    "c_n": lambda: c.transpose(0, 1),
                    "last": lambda: torch.cat(list(h[-directions:]), 1)}[output]()
    output = a.pop("output", "sequence")
    return Module(features, batch_first=True, **a)


def focal_loss(y, t, alpha=0.25, gamma=2.0):
    p = torch.sigmoid(y)
    wrong = p * (1 - t) + (1 - p) * t
    ce = F.binary_cross_entropy_with_logits(y, t, reduction="none")
    return ((alpha * t + (1 - alpha) * (1 - t)) * ce * wrong ** gamma).mean()


def dice_loss(y, t, smooth=1.0):
    p = torch.sigmoid(y)
    return (1 - (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)).mean()


def loss_function(loss):
    a = {k: v for k, v in loss.items() if k not in ("op", "input", "target", "name")}
    scale = 1.0
    if isinstance(a.get("weight"), (int, float)):
        scale = a.pop("weight")
    for key in ("weight", "pos_weight"):
        if key in a:
            a[key] = torch.tensor(a[key])
    f = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss,
         "cross_entropy": F.cross_entropy,
         "bce_with_logits": F.binary_cross_entropy_with_logits, "bce": F.binary_cross_entropy,
         "nll": F.nll_loss, "kl_div": F.kl_div, "smooth_l1": F.smooth_l1_loss,
         "poisson_nll": F.poisson_nll_loss, "multi_margin": F.multi_margin_loss,
         "soft_margin": F.soft_margin_loss, "focal": focal_loss, "dice": dice_loss,
         "hinge": lambda y, t: (1 - t * y).clamp(min=0).mean()}[loss["op"]]
    return lambda y, t: scale * f(y, t, **a)


def ctc(y, x_lengths, t_lengths, t, **a):
    """Batch first; a target without lengths ends at its first -1."""
    if t_lengths is None:
        t_lengths = (t >= 0).cumprod(1).sum(1)
    if x_lengths is None:
        x_lengths = torch.full((len(y),), y.shape[1])
    return F.ctc_loss(y.transpose(0, 1), t.clamp(min=0), x_lengths, t_lengths, **a)


class Net(nn.Module):
    """The layers of a description under their own names, and its losses."""

    def __init__(self, d, inputs):
        super().__init__()
        self.steps, values, last = [], dict(inputs), next(iter(inputs))
        for i, layer in enumerate(d["layers"]):
            name = layer.get("name", "layers.%d" % i)
            sources = layer.get("inputs", [last])
            a = {k: v for k, v in layer.items() if k not in ("name", "op", "inputs")}
            module = MODULES[layer["op"]](a, [values[s].shape for s in sources])
            self.add_module(name.replace(".", "/"), module)
            self.steps.append((module, sources, name))
            with torch.no_grad():
                module.eval()
                values[name] = module(*[values[s] for s in sources])
            last = name
        self.last = last
        self.losses = d.get("losses", [d.get("loss")])

    def forward(self, inputs):
        values = dict(inputs)
        for module, sources, name in self.steps:
            values[name] = module(*[values[s] for s in sources])
        self.values = values
        return values[self.last]

    def loss(self, targets):
        only = next(iter(targets))
        if self.losses[0]["op"] == "ctc":
            loss = self.losses[0]
            a = {k: v for k, v in loss.items() if k not in ("op", "input")}
            named = [self.values[i] for i in loss.get("input", [self.last])]
            return ctc(*(named + [None, None])[:3], targets[only], **a)
        return sum(loss_function(l)(self.values[l.get("input", self.last)],
                                    targets[l.get("target", only)]) for l in self.losses)


class Lion(torch.optim.Optimizer):
    """As its paper defines it."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                (b1, b2), lr = group["betas"], group["lr"]
                p.mul_(1 - lr * group["weight_decay"])
                p.sub_(lr * torch.sign(b1 * m + (1 - b1) * p.grad))
                m.mul_(b2).add_(p.grad, alpha=1 - b2)


class NAdam(torch.optim.Optimizer):
    """As torch 2 has it (1.13 multiplies by one momentum too many)."""

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, momentum_decay=4e-3):
        super().__init__(params, dict(lr=lr))
        self.b, self.eps, self.decay, self.t, self.product = betas, eps, momentum_decay, 0, 1.0

    @torch.no_grad()
    def step(self):
        self.t += 1
        (b1, b2), lr = self.b, self.param_groups[0]["lr"]
        mu, after = [b1 * (1 - 0.5 * 0.96 ** (t * self.decay)) for t in (self.t, self.t + 1)]
        self.product *= mu
        for p in self.param_groups[0]["params"]:
            s = self.state[p]
            m, v = [s.setdefault(k, torch.zeros_like(p)) for k in "mv"]
            m.mul_(b1).add_(p.grad, alpha=1 - b1)
            v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
            below = (v / (1 - b2 ** self.t)).sqrt() + self.eps
            p.sub_(lr * (1 - mu) / (1 - self.product) * p.grad / below)
            p.sub_(lr * after / (1 - self.product * after) * m / below)


class SGDW(torch.optim.SGD):
    def __init__(self, params, weight_decay, decoupled_weight_decay, **a):
        super().__init__(params, **a)
        self.decay = weight_decay

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - group["lr"] * self.decay)
        super().step()


class Lamb(torch.optim.Optimizer):
    """As its paper defines it (You et al., 2020), with bias correction."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay))
        self.b, self.eps, self.t = betas, eps, 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        b1, b2 = self.b
        for group in self.param_groups:
            for p in group["params"]:
                m, v = [self.state[p].setdefault(k, torch.zeros_like(p)) for k in "mv"]
                m.mul_(b1).add_(p.grad, alpha=1 - b1)
                v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                d = m / (1 - b1 ** self.t) / ((v / (1 - b2 ** self.t)).sqrt() + self.eps)
                d = d + group["weight_decay"] * p
                trust = p.norm() / d.norm() if p.norm() > 0 and d.norm() > 0 else 1.0
                p.sub_(group["lr"] * trust * d)


OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
              "adagrad": torch.optim.Adagrad, "adadelta": torch.optim.Adadelta,
              "rmsprop": torch.optim.RMSprop, "radam": torch.optim.RAdam, "nadam": NAdam,
              "lion": Lion, "lamb": Lamb}


def grouped(d, net, params):
    """torch's param_groups: a parameter is in the first group that names it."""
    names = {id(p): n for n, p in net.named_parameters()}
    groups, left = [], list(params)
    for given in d["optimizer"].get("groups", []):
        own = [p for p in left if any(fnmatch.fnmatchcase(names[id(p)], g) for g in given["params"])]
        left = [p for p in left if not any(p is q for q in own)]
        groups.append(dict(given, params=own))
    return [{"params": left}] + groups


def make_optimizer(d, net, params):
    a = {k: v for k, v in d["optimizer"].items() if k not in ("op", "groups")}
    if "groups" in d["optimizer"]:
        params = grouped(d, net, params)
    if "beta1" in a:
        a["betas"] = (a.pop("beta1"), a.pop("beta2"))
    if a.get("decoupled_weight_decay"):
        return SGDW(params, **a)
    return OPTIMIZERS[d["optimizer"]["op"]](params, **a)


SCHEDULES = {
    "step": torch.optim.lr_scheduler.StepLR, "multistep": torch.optim.lr_scheduler.MultiStepLR,
    "exponential": torch.optim.lr_scheduler.ExponentialLR,
    "linear": torch.optim.lr_scheduler.LinearLR,
    "polynomial": torch.optim.lr_scheduler.PolynomialLR,
    "cosine_restarts": torch.optim.lr_scheduler.CosineAnnealingWarmRestarts,
    "one_cycle": torch.optim.lr_scheduler.OneCycleLR}


def torch_lr(schedule, lr, s):
    """The rate of step s by torch's own scheduler, after the warm-up."""
    a = {k: v for k, v in schedule.items() if k not in ("op", "warmup_steps")}
    warm = schedule.get("warmup_steps", 0)
    if s < warm:
        return lr * (s + 1) / warm
    if "min_lr" in a:
        a["eta_min"] = a.pop("min_lr")
    if schedule["op"] == "one_cycle":
        a.update(max_lr=lr, cycle_momentum=False)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)
    scheduler = SCHEDULES[schedule["op"]](optimizer, **a)
    for _ in range(s - warm):
        optimizer.step()
        scheduler.step()
    return optimizer.param_groups[0]["lr"]


def schedule_lr(schedule, lr, s):
    """As engine/schedule.c defines it."""
    if not schedule or schedule["op"] == "constant":
        return lr
    if schedule["op"] in SCHEDULES:
        return torch_lr(schedule, lr, s)
    warm, total = schedule.get("warmup_steps", 0), schedule["total_steps"]
    low = schedule.get("min_lr", 0)
    if s < warm:
        return lr * (s + 1) / warm
    if s >= total:
        return low
    return low + (lr - low) * (1 + math.cos(math.pi * (s - warm) / (total - warm))) / 2


# ---- one case ------------------------------------------------------------

def on_grid(t, step):
    return torch.round(t / step) * step


def data(t):
    return t.detach().reshape(-1).tolist()


def tensor(t):
    return {"shape": list(t.shape), "data": data(t)}


def fresh_inputs(d, n):
    """Indices are those of the embedding that is the first layer."""
    def make(i):
        shape = [n] + i["shape"][1:]
        if i["name"] == "index":
            return torch.randint(0, 3, shape)
        if i["name"] in ("counts", "padding"):  # the first always does
            return (torch.rand(shape) < 0.6).long().index_fill(-1, torch.tensor([0]), 1)
        if i["name"] in ("steps", "labels"):  # lengths; some targets do not fit
            return torch.randint(2, 6, shape) if i["name"] == "steps" else torch.randint(0, 4, shape)
        if i["datatype"] == "INT64":
            return torch.randint(0, d["layers"][0]["num_embeddings"], shape)
        return on_grid(torch.randn(shape), 2.0 ** -8)
    return {i["name"]: make(i) for i in d["inputs"]}


def write(name, d, make_targets, n=6, batches=3):
    """make_targets(outputs by layer name) -> targets by name."""
    torch.manual_seed(sum(map(ord, name)))
    net = Net(d, fresh_inputs(d, n))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(on_grid(p + 0.05 * torch.randn_like(p), 2.0 ** -12))
    for pattern in d.get("frozen", []):
        for key, p in net.named_parameters():
            p.requires_grad_(p.requires_grad and not fnmatch.fnmatchcase(key, pattern))
    case = {"name": name, "description": d,
            "params": {k: tensor(p) for k, p in net.named_parameters()},
            "buffers": {k: tensor(b.double()) for k, b in net.named_buffers()}}
    net.eval()
    rows = []
    for _ in range(batches):
        inputs = fresh_inputs(d, n)
        with torch.no_grad():
            net(inputs)
        rows.append((inputs, make_targets(net.values)))
    case["batches"] = [{"inputs": {k: tensor(v) for k, v in i.items()},
                        "targets": {k: tensor(v) for k, v in t.items()}} for i, t in rows]
    net.train()
    first_step(case, net, *rows[0])
    train(case, net, d, rows)
    net.eval()
    with torch.no_grad():
        case["eval_output"] = tensor(net(rows[0][0]))
    with open(os.path.join(OUT, name + ".json"), "w") as f:
        json.dump(case, f, separators=(",", ":"))
        f.write("\n")


def first_step(case, net, inputs, targets):
    """Output, loss and gradients in training mode; changes nothing."""
    before = {k: v.clone() for k, v in net.state_dict().items()}
    inputs = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in inputs.items()}
    case["output"] = tensor(net(inputs))
    loss = net.loss(targets)
    loss.backward()
    case["loss"] = loss.item()
    case["grads"] = {k: tensor(p.grad) for k, p in net.named_parameters() if p.grad is not None}
    case["input_grad"] = {k: tensor(v.grad) for k, v in inputs.items() if v.grad is not None}
    net.load_state_dict(before)
    net.zero_grad()


def train(case, net, d, rows):
    params = [p for p in net.parameters() if p.requires_grad]
    optimizer = make_optimizer(d, net, params)
    lrs = [group["lr"] for group in optimizer.param_groups]
    ema = {k: p.detach().clone() for k, p in net.named_parameters()} if "ema" in d else {}
    case["losses"], seen, plateau = [], [], None
    if d.get("schedule", {}).get("op") == "reduce_on_plateau":
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, **{k: v for k, v in d["schedule"].items() if k not in ("op", "interval")})
    for s in range(STEPS):
        inputs, targets = rows[s % len(rows)]
        optimizer.zero_grad()
        net(inputs)
        loss = net.loss(targets)
        loss.backward()
        if "clip_grad_norm" in d:
            nn.utils.clip_grad_norm_(params, d["clip_grad_norm"])
        if "clip_grad_value" in d:
            nn.utils.clip_grad_value_(params, d["clip_grad_value"])
        for group, lr in zip(optimizer.param_groups, lrs):
            if not plateau:
                group["lr"] = schedule_lr(d.get("schedule"), lr, s)
        optimizer.step()
        seen.append(loss.item())
        if plateau and len(seen) == d["schedule"].get("interval", 1):
            plateau.step(sum(seen) / len(seen))
            seen = []
        for k, p in net.named_parameters():
            if k in ema:
                ema[k].mul_(d["ema"]["decay"]).add_(p.detach(), alpha=1 - d["ema"]["decay"])
        case["losses"].append(loss.item())
    case["final_params"] = {k: tensor(p) for k, p in net.named_parameters()}
    if ema:
        case["final_ema"] = {k: tensor(p) for k, p in ema.items()}
    case["final_buffers"] = {k: tensor(b.double()) for k, b in net.named_buffers()}


# ---- targets ------------------------------------------------------------

def classes(layer, ignore=None):
    def make(values):
        y = values[layer]
        t = torch.randint(0, y.shape[1], [y.shape[0]] + list(y.shape[2:]))
        if ignore is not None:
            t.view(-1)[::3] = ignore
        return {"target": t}
    return make


def probabilities(layer):
    def make(values):
        p = torch.softmax(2 * torch.randn_like(values[layer]), dim=1)
        return {"target": on_grid(p, 2.0 ** -10)}
    return make


def numbers(layer):
    return lambda values: {"target": on_grid(torch.randn_like(values[layer]), 2.0 ** -8)}


def bits(layer):
    return lambda values: {"target": (torch.rand_like(values[layer]) < 0.4).double()}


# ---- the cases: optimisers ------------------------------------------------------------

def mlp(optimizer, **more):
    return dict({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "layers": [{"name": "fc1", "op": "linear", "out_features": 6},
                   {"name": "act", "op": "tanh"},
                   {"name": "fc2", "op": "linear", "out_features": 3}],
        "loss": {"op": "cross_entropy"}, "optimizer": optimizer}, **more)


def sgd(lr=0.1, **a):
    return dict({"op": "sgd", "lr": lr}, **a)


OPTIMIZER_CASES = {
    "sgd_plain": mlp(sgd()),
    "sgd_momentum": mlp(sgd(momentum=0.9)),
    "sgd_dampening": mlp(sgd(momentum=0.9, dampening=0.3)),
    "sgd_nesterov": mlp(sgd(momentum=0.9, nesterov=True)),
    "sgd_weight_decay": mlp(sgd(momentum=0.5, weight_decay=0.1)),
    "sgd_weight_decay_plain": mlp(sgd(weight_decay=0.1)),
    "sgd_nesterov_weight_decay": mlp(sgd(momentum=0.8, nesterov=True, weight_decay=0.05)),
    "sgd_maximize": mlp(sgd(0.02, momentum=0.5, maximize=True)),
    "adam": mlp({"op": "adam", "lr": 0.01}),
    "adam_default_lr": mlp({"op": "adam"}),
    "adam_weight_decay": mlp({"op": "adam", "lr": 0.01, "weight_decay": 0.1}),
    "adam_betas": mlp({"op": "adam", "lr": 0.01, "betas": [0.8, 0.99], "eps": 1e-3}),
    "adam_beta1_beta2": mlp({"op": "adam", "lr": 0.01, "beta1": 0.5, "beta2": 0.9}),
    "adam_maximize": mlp({"op": "adam", "lr": 0.005, "maximize": True}),
    "adamw": mlp({"op": "adamw", "lr": 0.01}),
    "adamw_weight_decay": mlp({"op": "adamw", "lr": 0.01, "weight_decay": 0.5}),
    "clip_grad_norm": mlp(sgd(0.5, momentum=0.9), clip_grad_norm=0.1),
    "clip_grad_norm_inactive": mlp(sgd(), clip_grad_norm=100.0),
    "clip_grad_value": mlp(sgd(0.5), clip_grad_value=0.02),
    "schedule_constant": mlp(sgd(), schedule={"op": "constant"}),
    "schedule_cosine": mlp(sgd(0.2), schedule={"op": "cosine", "total_steps": 20}),
    "schedule_cosine_warmup": mlp({"op": "adamw", "lr": 0.02}, schedule={
        "op": "cosine", "warmup_steps": 5, "total_steps": 15, "min_lr": 0.001}),
    "sgd_decoupled": mlp(sgd(momentum=0.9, weight_decay=0.1, decoupled_weight_decay=True)),
    "adam_amsgrad": mlp({"op": "adam", "lr": 0.02, "betas": [0.5, 0.6], "amsgrad": True}),
    "adagrad": mlp({"op": "adagrad", "lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.1,
                    "initial_accumulator_value": 0.01}),
    "adadelta": mlp({"op": "adadelta", "rho": 0.8, "weight_decay": 0.1}),
    "rmsprop": mlp({"op": "rmsprop", "lr": 0.01, "momentum": 0.5, "centered": True, "alpha": 0.9}),
    "rmsprop_plain": mlp({"op": "rmsprop", "lr": 0.01, "weight_decay": 0.1}),
    "nadam": mlp({"op": "nadam", "lr": 0.01}),
    "radam": mlp({"op": "radam", "lr": 0.01, "betas": [0.9, 0.99]}),
    "lion": mlp({"op": "lion", "lr": 0.005, "weight_decay": 0.1}),
    "schedule_step": mlp(sgd(0.2), schedule={"op": "step", "step_size": 3, "gamma": 0.5}),
    "schedule_multistep": mlp(sgd(0.2), schedule={
        "op": "multistep", "milestones": [4, 9], "gamma": 0.3, "warmup_steps": 3}),
    "schedule_exponential": mlp(sgd(0.2), schedule={"op": "exponential", "gamma": 0.9}),
    "schedule_linear": mlp(sgd(0.2), schedule={
        "op": "linear", "start_factor": 0.25, "end_factor": 0.75, "total_iters": 12}),
    "schedule_polynomial": mlp(sgd(0.2), schedule={
        "op": "polynomial", "total_iters": 15, "power": 2.0, "warmup_steps": 2}),
    "schedule_cosine_restarts": mlp(sgd(0.2), schedule={
        "op": "cosine_restarts", "T_0": 4, "T_mult": 2, "min_lr": 0.01}),
    "schedule_one_cycle": mlp(sgd(0.2), schedule={
        "op": "one_cycle", "total_steps": 20, "pct_start": 0.25}),
    "lamb": mlp({"op": "lamb", "lr": 0.05, "weight_decay": 0.1}),
    "ema": mlp(sgd(0.5), ema={"decay": 0.9}, frozen=["fc1.bias"]),
    "ema_lamb": mlp({"op": "lamb", "lr": 0.05}, ema={"decay": 0.75}),
    "groups_no_decay": mlp({"op": "adamw", "lr": 0.01, "weight_decay": 0.5, "groups": [
        {"params": ["*.bias"], "weight_decay": 0.0}, {"params": ["fc2.*"], "lr": 0.05}]},
        schedule={"op": "cosine", "total_steps": 20, "min_lr": 0.001}),
    "groups_momentum": mlp(sgd(0.1, momentum=0.9, groups=[
        {"params": ["fc1.weight", "fc2.bias"], "momentum": 0.5, "lr": 0.2, "nesterov": True}]),
        frozen=["fc2.weight"]),
    "groups_lamb": mlp({"op": "lamb", "lr": 0.05, "groups": [
        {"params": ["*.bias"], "weight_decay": 0.0, "lr": 0.01}]}),
    "schedule_plateau": mlp(sgd(0.5, groups=[{"params": ["*.bias"], "lr": 0.3}]), schedule={
        "op": "reduce_on_plateau", "patience": 1, "factor": 0.5, "cooldown": 1, "min_lr": 0.1,
        "threshold": 0.05}),
    "schedule_plateau_interval": mlp(sgd(1.0), schedule={
        "op": "reduce_on_plateau", "patience": 0, "factor": 0.3, "interval": 3,
        "threshold_mode": "abs", "threshold": 0.5}),
    "frozen": mlp(sgd(momentum=0.9), frozen=["fc1.*"]),
    "frozen_between": mlp({"op": "adamw", "lr": 0.01}, frozen=["fc1.bias", "fc2.weight"]),
}


# ---- the cases: losses ------------------------------------------------------------

def one_layer(loss, out=4, shape=(-1, 5), optimizer=None, bias=True, **more):
    return dict({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": list(shape)}],
        "layers": [{"name": "fc", "op": "linear", "out_features": out, "bias": bias}],
        "loss": loss, "optimizer": optimizer or sgd(0.05, momentum=0.5)}, **more)


def dense(loss, **more):
    """Logits [N, 3, 4]: the classes are dimension 1."""
    return one_layer(loss, 4, (-1, 3, 5), bias=False, **more)


def soft(loss, out=4):
    return one_layer(loss, out, targets=[
        {"name": "target", "datatype": "FP32", "shape": [-1, out]}])


CE = {"op": "cross_entropy"}
CLASS_WEIGHT = [0.5, 2.0, 1.25, 0.0625]
SLOW = sgd(0.01)

LOSS_CASES = {
    "loss_mse_mean": (one_layer({"op": "mse"}), numbers),
    "loss_mse_sum": (one_layer({"op": "mse", "reduction": "sum"}, optimizer=SLOW), numbers),
    "loss_l1_mean": (one_layer({"op": "l1"}), numbers),
    "loss_l1_sum": (one_layer({"op": "l1", "reduction": "sum"}, optimizer=SLOW), numbers),
    "loss_huber_mean": (one_layer({"op": "huber"}), numbers),
    "loss_huber_sum": (one_layer({"op": "huber", "reduction": "sum"}, optimizer=SLOW), numbers),
    "loss_huber_delta": (one_layer({"op": "huber", "delta": 0.25}), numbers),
    "loss_ce_classes": (one_layer(CE), classes),
    "loss_ce_sum": (one_layer(dict(CE, reduction="sum")), classes),
    "loss_ce_probabilities": (soft(CE), probabilities),
    "loss_ce_probabilities_sum": (soft(dict(CE, reduction="sum")), probabilities),
    "loss_ce_smoothing": (one_layer(dict(CE, label_smoothing=0.1)), classes),
    "loss_ce_weight": (one_layer(dict(CE, weight=CLASS_WEIGHT)), classes),
    "loss_ce_weight_sum": (one_layer(dict(CE, weight=CLASS_WEIGHT, reduction="sum")), classes),
    "loss_ce_ignore_index": (one_layer(dict(CE, ignore_index=2)),
                             lambda l: classes(l, ignore=2)),
    "loss_ce_ignore_default": (one_layer(CE), lambda l: classes(l, ignore=-100)),
    "loss_ce_smoothing_weight": (
        one_layer(dict(CE, label_smoothing=0.2, weight=CLASS_WEIGHT)), classes),
    "loss_ce_smoothing_weight_ignore": (
        one_layer(dict(CE, label_smoothing=0.2, weight=CLASS_WEIGHT, ignore_index=1)),
        lambda l: classes(l, ignore=1)),
    "loss_ce_smoothing_ignore_sum": (
        one_layer(dict(CE, label_smoothing=0.2, ignore_index=-1, reduction="sum")),
        lambda l: classes(l, ignore=-1)),
    "loss_ce_probabilities_weight": (soft(dict(CE, weight=CLASS_WEIGHT)), probabilities),
    "loss_ce_probabilities_smoothing_weight": (
        soft(dict(CE, label_smoothing=0.3, weight=CLASS_WEIGHT)), probabilities),
    "loss_ce_dense": (dense(CE), classes),
    "loss_ce_dense_all_options": (
        dense(dict(CE, label_smoothing=0.1, weight=CLASS_WEIGHT[:3], ignore_index=0)),
        lambda l: classes(l, ignore=0)),
    "loss_ce_dense_probabilities": (
        dense(CE, targets=[
            {"name": "target", "datatype": "FP32", "shape": [-1, 3, 4]}]), probabilities),
    "loss_smooth_l1": (one_layer({"op": "smooth_l1", "beta": 0.5}), numbers),
    "loss_poisson_nll": (one_layer({"op": "poisson_nll"}), bits),
    "loss_kl_div": (soft({"op": "kl_div", "reduction": "batchmean"}), probabilities),
    "loss_nll": (one_layer({"op": "nll", "weight": CLASS_WEIGHT, "ignore_index": 2}),
                 lambda l: classes(l, ignore=2)),
    "loss_multi_margin": (
        one_layer({"op": "multi_margin", "p": 2, "margin": 0.5}), classes),
    "loss_soft_margin": (one_layer({"op": "soft_margin"}), numbers),
    "loss_hinge": (one_layer({"op": "hinge"}), numbers),
    "loss_focal": (one_layer({"op": "focal"}), bits),
    "loss_dice": (one_layer({"op": "dice"}), bits),
    "loss_bce_mean": (one_layer({"op": "bce_with_logits"}), bits),
    "loss_bce_sum": (one_layer({"op": "bce_with_logits", "reduction": "sum"}), bits),
    "loss_bce_pos_weight": (
        one_layer({"op": "bce_with_logits", "pos_weight": [0.5, 3.0, 1.0, 2.0]}), bits),
}


# ---- the cases: nets ------------------------------------------------------------

def net(shape, layers, optimizer, loss=None, **more):
    return dict({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1] + shape}],
                 "layers": layers, "loss": loss or CE, "optimizer": optimizer}, **more)


NET_CASES = {
    "net_mlp_sgd_momentum": net([10], [
        {"name": "fc1", "op": "linear", "out_features": 12}, {"op": "relu"},
        {"name": "fc2", "op": "linear", "out_features": 8, "bias": False},
        {"op": "leaky_relu", "negative_slope": 0.1},
        {"name": "fc3", "op": "linear", "out_features": 4}], sgd(0.1, momentum=0.9)),
    "net_cnn_bn": net([2, 9, 9], [
        {"name": "conv1", "op": "conv2d", "out_channels": 6, "kernel_size": 3, "padding": 1,
         "bias": False},
        {"name": "bn1", "op": "batch_norm2d"}, {"name": "relu1", "op": "relu"},
        {"name": "pool1", "op": "max_pool2d", "kernel_size": 3, "stride": 2, "padding": 1},
        {"name": "conv2", "op": "conv2d", "out_channels": 6, "kernel_size": 3, "stride": 2,
         "padding": 1, "groups": 3, "bias": False},
        {"name": "bn2", "op": "batch_norm2d", "eps": 1e-3, "momentum": 0.3},
        {"name": "relu2", "op": "relu"},
        {"name": "gap", "op": "adaptive_avg_pool2d", "output_size": 1},
        {"name": "flat", "op": "flatten"},
        {"name": "fc", "op": "linear", "out_features": 3}], sgd(0.05, momentum=0.9)),
    "net_cnn_plain": net([2, 8, 7], [
        {"name": "conv1", "op": "conv2d", "out_channels": 4, "kernel_size": [3, 2],
         "stride": [1, 2], "padding": [2, 1], "dilation": [2, 1]},
        {"op": "tanh"},
        {"op": "avg_pool2d", "kernel_size": 2, "padding": 1, "ceil_mode": True,
         "count_include_pad": False},
        {"name": "conv2", "op": "conv2d", "out_channels": 5, "kernel_size": 1}, {"op": "sigmoid"},
        {"op": "adaptive_avg_pool2d", "output_size": [2, 1]}, {"op": "flatten"},
        {"name": "fc", "op": "linear", "out_features": 3}], sgd(0.2, momentum=0.9)),
    "net_cnn_depthwise": net([3, 6, 6], [
        {"name": "depth", "op": "conv2d", "out_channels": 3, "kernel_size": 3, "padding": 1,
         "groups": 3, "bias": False},
        {"name": "point", "op": "conv2d", "out_channels": 6, "kernel_size": 1, "bias": False},
        {"name": "bn", "op": "batch_norm2d"}, {"op": "silu"},
        {"name": "mult", "op": "conv2d", "out_channels": 12, "kernel_size": 3, "stride": 2,
         "groups": 6}, {"op": "relu"},
        {"op": "max_pool2d", "kernel_size": 2, "stride": 1, "ceil_mode": True}, {"op": "flatten"},
        {"name": "fc", "op": "linear", "out_features": 3}], {"op": "adam", "lr": 0.003}),
    "net_residual": net([4, 5, 5], [
        {"name": "conv1", "op": "conv2d", "out_channels": 4, "kernel_size": 3, "padding": 1,
         "bias": False},
        {"name": "bn1", "op": "batch_norm2d"}, {"name": "relu1", "op": "relu"},
        {"name": "sum", "op": "add", "inputs": ["relu1", "x"]},
        {"name": "relu2", "op": "relu"},
        {"name": "down", "op": "conv2d", "out_channels": 3, "kernel_size": 1, "inputs": ["x"]},
        {"name": "cat", "op": "concat", "dim": 1, "inputs": ["relu2", "down", "x"]},
        {"name": "pool", "op": "avg_pool2d", "kernel_size": 2},
        {"name": "flat", "op": "flatten"},
        {"name": "fc", "op": "linear", "out_features": 3}], sgd(0.05, momentum=0.9)),
    "net_batch_norm1d": net([6], [
        {"name": "fc1", "op": "linear", "out_features": 8, "bias": False},
        {"name": "bn1", "op": "batch_norm1d"}, {"op": "tanh"},
        {"name": "bn2", "op": "batch_norm1d", "affine": False, "momentum": 0.5},
        {"name": "fc2", "op": "linear", "out_features": 4, "bias": False},
        {"name": "bn3", "op": "batch_norm1d", "track_running_stats": False},
        {"op": "sigmoid"},
        {"name": "fc3", "op": "linear", "out_features": 3}], sgd(0.1, momentum=0.5)),
    "net_batch_norm1d_sequence": net([3, 5], [
        {"name": "bn1", "op": "batch_norm1d"},
        {"name": "fc1", "op": "linear", "out_features": 4}, {"op": "tanh"},
        {"op": "transpose", "dim0": 1, "dim1": 2},
        {"op": "flatten"}, {"name": "fc2", "op": "linear", "out_features": 3}], sgd(0.1)),
    "net_layer_norm_adamw": net([10], [
        {"name": "fc1", "op": "linear", "out_features": 8},
        {"name": "ln1", "op": "layer_norm", "normalized_shape": [8]}, {"op": "gelu"},
        {"name": "fc2", "op": "linear", "out_features": 8}, {"op": "silu"},
        {"name": "ln2", "op": "layer_norm", "normalized_shape": [8], "elementwise_affine": False},
        {"name": "fc3", "op": "linear", "out_features": 6}, {"op": "gelu", "approximate": "tanh"},
        {"name": "fc4", "op": "linear", "out_features": 4}],
        {"op": "adamw", "lr": 0.003, "weight_decay": 0.1}, clip_grad_norm=1.0),
    "net_attention": net([4, 6], [
        {"name": "ln", "op": "layer_norm", "normalized_shape": [4, 6], "eps": 1e-3},
        {"name": "q", "op": "linear", "out_features": 5, "inputs": ["ln"]},
        {"name": "k", "op": "linear", "out_features": 5, "bias": False, "inputs": ["ln"]},
        {"name": "v", "op": "linear", "out_features": 5, "inputs": ["ln"]},
        {"name": "kt", "op": "transpose", "dim0": 1, "dim1": 2, "inputs": ["k"]},
        {"name": "scores", "op": "matmul", "inputs": ["q", "kt"]},
        {"name": "weights", "op": "softmax", "dim": -1},
        {"name": "mixed", "op": "matmul", "inputs": ["weights", "v"]},
        {"name": "gate", "op": "mul", "inputs": ["mixed", "q"]},
        {"name": "pooled", "op": "mean", "dim": [1]},
        {"name": "fc", "op": "linear", "out_features": 3}], {"op": "adamw", "lr": 0.003}),
    "net_log_softmax": net([6], [
        {"name": "fc1", "op": "linear", "out_features": 8}, {"op": "log_softmax", "dim": 1},
        {"op": "reshape", "shape": [-1, 2, 4]}, {"op": "softmax", "dim": 1}, {"op": "flatten"},
        {"name": "fc2", "op": "linear", "out_features": 3}], sgd(0.2, momentum=0.9),
        loss={"op": "mse"}),
    "net_c2f_neck": net([3, 8, 8], [
        {"name": "conv", "op": "conv2d", "out_channels": 8, "kernel_size": 3, "stride": 2,
         "padding": 1, "bias": False},
        {"name": "bn", "op": "batch_norm2d", "eps": 1e-3, "momentum": 0.03},
        {"name": "act", "op": "silu"},
        {"name": "second", "op": "narrow", "start": 4, "length": 4},
        {"name": "m", "op": "conv2d", "out_channels": 4, "kernel_size": 3, "padding": 1},
        {"name": "sum", "op": "add", "inputs": ["second", "m"]},
        {"name": "c2f", "op": "concat", "inputs": ["act", "sum"]},
        {"name": "down", "op": "conv2d", "out_channels": 5, "kernel_size": 3, "stride": 2,
         "padding": 1},
        {"name": "pool", "op": "max_pool2d", "kernel_size": 5, "stride": 1, "padding": 2},
        {"name": "up", "op": "upsample", "scale_factor": 2},
        {"name": "neck", "op": "concat", "inputs": ["up", "c2f"]},
        {"name": "row", "op": "narrow", "dim": 2, "start": 1, "length": 2},
        {"name": "wide", "op": "upsample", "scale_factor": [1, 2]},
        {"name": "flat", "op": "flatten"},
        {"name": "fc", "op": "linear", "out_features": 3}], sgd(0.05, momentum=0.9)),
    "net_activations": net([5], [{"name": "fc", "op": "linear", "out_features": 12}] + [
        {"name": "a_" + op, "op": op, "inputs": ["fc"], **a} for op, a in [
            ("selu", {}), ("softsign", {}), ("mish", {}), ("log_sigmoid", {}), ("relu6", {}),
            ("hardsigmoid", {}), ("hardswish", {}), ("elu", {"alpha": 0.5}),
            ("celu", {"alpha": 0.5}), ("softplus", {"beta": 2.0, "threshold": 1.0}),
            ("hardtanh", {"min_val": -0.5, "max_val": 0.25}), ("clamp", {"min": -0.25}),
            ("prelu", {"num_parameters": 12}), ("glu", {})]] + [
        {"name": "all", "op": "concat", "inputs": ["a_selu", "a_softsign", "a_mish",
         "a_log_sigmoid", "a_relu6", "a_hardsigmoid", "a_hardswish", "a_elu", "a_celu",
         "a_softplus", "a_hardtanh", "a_clamp", "a_prelu", "a_glu"]},
        {"name": "out", "op": "linear", "out_features": 2}], sgd(0.02)),
    "net_reductions": net([3, 4], [{"name": "fc", "op": "linear", "out_features": 4}] + [
        {"name": "r_" + op, "op": op, "dim": 1, "inputs": ["fc"]} for op in
        ("amax", "amin", "prod", "var", "std", "norm", "logsumexp")] + [
        {"name": "stacked", "op": "stack", "inputs": ["r_amax", "r_amin", "r_prod", "r_var",
         "r_std", "r_norm", "r_logsumexp"]},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.02)),
    "net_shapes": net([2, 3, 4], [
        {"name": "p", "op": "permute", "dims": [0, 3, 1, 2]},
        {"name": "s", "op": "pixel_shuffle", "upscale_factor": 2},
        {"name": "f", "op": "flip", "dims": [3]},
        {"name": "u", "op": "pixel_unshuffle", "downscale_factor": 2},
        {"name": "i", "op": "index_select", "dim": 1, "index": [3, 0, 0]},
        {"name": "t", "op": "repeat", "repeats": [1, 1, 2, 1]},
        {"name": "c", "op": "gt", "other": 0.1},
        {"name": "w", "op": "where", "inputs": ["c", "t", "t"]},
        {"name": "m", "op": "maximum", "inputs": ["w", "t"]},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.05)),
    "net_unet_parts": net([2, 6, 5], [
        {"name": "pad", "op": "pad", "padding": [1, 2, 1, 0], "mode": "reflect"},
        {"name": "conv", "op": "conv2d", "out_channels": 4, "kernel_size": 2, "bias": False},
        {"name": "gn", "op": "group_norm", "num_groups": 2},
        {"name": "act", "op": "prelu", "num_parameters": 4},
        {"name": "pool", "op": "adaptive_max_pool2d", "output_size": 3},
        {"name": "up", "op": "conv_transpose2d", "out_channels": 2, "kernel_size": 3, "stride": 2,
         "padding": 1, "output_padding": 1, "groups": 2, "bias": False},
        {"name": "in", "op": "instance_norm", "affine": True},
        {"name": "bi", "op": "interpolate", "size": [4, 7], "mode": "bilinear",
         "align_corners": True},
        {"name": "small", "op": "interpolate", "scale_factor": 0.6, "mode": "bilinear"},
        {"name": "up2", "op": "conv_transpose2d", "out_channels": 2, "kernel_size": 2},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.02)),
    "net_sequence": net([3, 10], [
        {"name": "conv1", "op": "conv1d", "out_channels": 4, "kernel_size": 3, "padding": 2,
         "dilation": 2}, {"op": "tanh"},
        {"op": "max_pool1d", "kernel_size": 3, "stride": 2, "padding": 1},
        {"name": "conv2", "op": "conv1d", "out_channels": 4, "kernel_size": 2, "stride": 2,
         "groups": 2}, {"op": "avg_pool1d", "kernel_size": 2},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.05)),
    "net_instance_norm": net([3, 5, 4], [
        {"name": "in1", "op": "instance_norm", "affine": True, "track_running_stats": True},
        {"op": "sigmoid"}, {"name": "conv", "op": "conv2d", "out_channels": 2, "kernel_size": 2, "bias": False},
        {"name": "in2", "op": "instance_norm", "track_running_stats": True, "momentum": 0.4,
         "eps": 1e-3},
        {"op": "tanh"}, {"name": "rows", "op": "flatten", "start_dim": 2},
        {"name": "in3", "op": "instance_norm", "affine": True},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.05)),
    "net_positions": net([5, 4], [
        {"name": "s", "op": "sinusoidal_encoding"},
        {"name": "fc", "op": "linear", "out_features": 6},
        {"name": "r", "op": "rotary_embedding"},
        {"name": "i", "op": "rotary_embedding", "interleaved": True, "dim": 4, "base": 100.0,
         "offset": 3},
        {"name": "t", "op": "sinusoidal_encoding", "offset": 2, "base": 50.0},
        {"op": "tanh"}, {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.1)),
    "net_pads": net([2, 5, 4], [
        {"name": "p1", "op": "pad", "padding": [1, 2, 0, 1], "mode": "replicate"},
        {"name": "p2", "op": "pad", "padding": [1, 0, 2, 1], "mode": "circular"},
        {"name": "p3", "op": "pad", "padding": [0, 1, 2, 1], "value": 0.5},
        {"name": "p4", "op": "pad", "padding": [2, 1, 1, 3], "mode": "reflect"},
        {"op": "tanh"}, {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.05)),
    "net_lstm": net([4, 3], [
        {"name": "rnn", "op": "lstm", "hidden_size": 3, "num_layers": 2, "bidirectional": True},
        {"name": "top", "op": "lstm", "hidden_size": 4, "bias": False, "output": "last"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.1)),
    "net_lstm_states": net([4, 3], [
        {"name": "h", "op": "lstm", "hidden_size": 3, "num_layers": 2, "output": "h_n"},
        {"name": "c", "op": "lstm", "hidden_size": 3, "num_layers": 2, "output": "c_n",
         "inputs": ["x"]},
        {"name": "both", "op": "lstm", "hidden_size": 3, "bidirectional": True,
         "inputs": ["x", "h", "c"]},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.1)),
    "net_gru": net([4, 3], [
        {"name": "first", "op": "gru", "hidden_size": 3, "num_layers": 2, "bidirectional": True,
         "output": "h_n"},
        {"name": "flat", "op": "flatten"},
        {"name": "row", "op": "unsqueeze", "dim": 1},
        {"name": "second", "op": "gru", "hidden_size": 4, "bias": False, "inputs": ["x"]},
        {"name": "third", "op": "gru", "hidden_size": 12, "output": "last",
         "inputs": ["second", "row"]},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.1)),
    "net_rnn": net([4, 3], [
        {"name": "first", "op": "rnn", "hidden_size": 4, "bidirectional": True},
        {"name": "second", "op": "rnn", "hidden_size": 5, "num_layers": 2, "nonlinearity": "relu"},
        {"name": "third", "op": "rnn", "hidden_size": 4, "bias": False, "output": "last"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.1)),
    "net_transformer": {
        "inputs": [{"name": "x", "datatype": "INT64", "shape": [-1, 5]}],
        "layers": [
            {"name": "embed", "op": "embedding", "num_embeddings": 7, "embedding_dim": 4,
             "padding_idx": 2},
            {"name": "norm1", "op": "rms_norm", "normalized_shape": [4]},
            {"name": "attn", "op": "multihead_attention", "num_heads": 2, "is_causal": True,
             "bias": False},
            {"name": "sum", "op": "add", "inputs": ["attn", "embed"]},
            {"name": "q", "op": "linear", "out_features": 4, "bias": False, "inputs": ["sum"]},
            {"name": "v", "op": "linear", "out_features": 3, "inputs": ["sum"]},
            {"name": "mix", "op": "scaled_dot_product_attention", "inputs": ["q", "sum", "v"]},
            {"name": "flat", "op": "flatten"},
            {"name": "out", "op": "linear", "out_features": 3}],
        "loss": CE, "optimizer": sgd(0.05)},
}


def inputs_of(**shapes):
    """Indices and masks are INT64."""
    kinds = {"index": "INT64", "counts": "INT64", "padding": "INT64"}
    return [{"name": k, "datatype": kinds.get(k, "FP32"), "shape": [-1] + s}
            for k, s in shapes.items()]


NET_CASES.update({
    "net_gather": net([], [
        {"name": "fc", "op": "linear", "out_features": 3, "inputs": ["x"]},
        {"name": "g", "op": "gather", "dim": 2, "inputs": ["fc", "index"]},
        {"op": "tanh"}, {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.1),
        inputs=inputs_of(x=[4, 2], index=[4, 5])),
    "net_cross_attention": net([], [
        {"name": "attn", "op": "multihead_attention", "num_heads": 2, "bias": False,
         "inputs": ["x", "memory", "counts"]},
        {"name": "sum", "op": "add", "inputs": ["attn", "x"]},
        {"name": "three", "op": "multihead_attention", "num_heads": 1, "bias": False,
         "inputs": ["sum", "memory", "values"]},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.05),
        inputs=inputs_of(x=[3, 4], memory=[5, 4], values=[5, 4], counts=[5])),
    "net_wide_attention": net([], [
        {"name": "attn", "op": "multihead_attention", "num_heads": 2, "bias": False,
         "kdim": 5, "vdim": 3, "inputs": ["x", "memory", "values", "counts"]},
        {"name": "sum", "op": "add", "inputs": ["attn", "x"]},
        {"name": "again", "op": "multihead_attention", "num_heads": 2, "bias": False,
         "kdim": 5, "vdim": 5, "inputs": ["sum", "memory"]},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.05),
        inputs=inputs_of(x=[3, 4], memory=[6, 5], values=[6, 3], counts=[6])),
    "net_float_masks": net([], [
        {"name": "q", "op": "linear", "out_features": 4, "inputs": ["x"]},
        {"name": "mix", "op": "scaled_dot_product_attention", "inputs": ["q", "x", "x", "bias"]},
        {"name": "one", "op": "multihead_attention", "num_heads": 2, "bias": False,
         "attn_mask": True, "inputs": ["mix", "bias"]},
        {"name": "two", "op": "multihead_attention", "num_heads": 2, "bias": False,
         "attn_mask": True, "inputs": ["one", "x", "padding", "heads"]},
        {"name": "three", "op": "multihead_attention", "num_heads": 2, "bias": False,
         "attn_mask": True, "inputs": ["two", "x", "counts"]},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.05),
        inputs=inputs_of(x=[3, 4], bias=[3, 3], heads=[2, 3, 3], padding=[3], counts=[3, 3])),
    "net_masked_attention": net([], [
        {"name": "q", "op": "linear", "out_features": 4, "inputs": ["x"]},
        {"name": "mix", "op": "scaled_dot_product_attention", "scale": 0.7,
         "inputs": ["q", "x", "x", "counts"]},
        {"name": "flat", "op": "flatten"},
        {"name": "out", "op": "linear", "out_features": 3}], sgd(0.05),
        inputs=inputs_of(x=[3, 4], counts=[3, 3])),
})


def padded(steps, classes):
    """Labels but for the blank 0, padded with -1; the first is empty, some repeat."""
    def make(values):
        n = len(values["out"])
        t = torch.randint(1, classes, (n, steps))
        t[0, 0] = -1
        t[1:, 1] = t[1:, 0]
        t[2, 2:] = -1
        return {"target": t}
    return make


def ctc_net(loss, lengths=()):
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 7, 3]}]
    inputs += [{"name": l, "datatype": "INT64", "shape": [-1]} for l in lengths]
    return dict({"inputs": inputs, "layers": [
        {"name": "fc", "op": "linear", "out_features": 4, "inputs": ["x"]},
        {"name": "out", "op": "log_softmax", "dim": 2}],
        "loss": dict({"op": "ctc"}, **loss), "optimizer": sgd(0.1),
        "targets": [{"name": "target", "datatype": "INT64", "shape": [-1, 3]}]})


CTC_CASES = {
    "loss_ctc": (ctc_net({}), padded(3, 4)),
    "loss_ctc_lengths": (ctc_net({"blank": 3, "input": ["out", "steps", "labels"],
                                  "reduction": "sum", "zero_infinity": True},
                                 ["steps", "labels"]),
                         lambda values: {"target": torch.randint(0, 3, (len(values["out"]), 3))}),
}


def two_losses():
    """Two inputs, two heads, weighted losses on different layers."""
    d = {"inputs": [{"name": "a", "datatype": "FP32", "shape": [-1, 4]},
                    {"name": "b", "datatype": "FP32", "shape": [-1, 3]}],
         "layers": [{"name": "cat", "op": "concat", "inputs": ["a", "b"]},
                    {"name": "body", "op": "linear", "out_features": 6},
                    {"name": "act", "op": "tanh"},
                    {"name": "box", "op": "linear", "out_features": 2},
                    {"name": "kind", "op": "linear", "out_features": 3, "inputs": ["act"]}],
         "outputs": ["kind", "box"],
         "losses": [{"op": "cross_entropy", "input": "kind", "target": "class"},
                    {"op": "huber", "weight": 0.5, "input": "box", "target": "where"}],
         "optimizer": sgd(0.1, momentum=0.9)}

    def targets(values):
        return {"class": classes("kind")(values)["target"],
                "where": numbers("box")(values)["target"]}
    write("net_two_losses", d, targets)


def main():
    os.makedirs(OUT, exist_ok=True)
    for name, d in OPTIMIZER_CASES.items():
        write(name, d, classes("fc2"))
    for name, (d, targets) in LOSS_CASES.items():
        write(name, d, targets("fc"))
    for name, d in NET_CASES.items():
        last = d["layers"][-1]["name"]
        write(name, d, numbers(last) if d["loss"]["op"] == "mse" else classes(last), n=4, batches=2)
    for name, (d, targets) in CTC_CASES.items():
        write(name, d, targets)
    two_losses()


if __name__ == "__main__":
    main()
