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
}


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
         "bce_with_logits": F.binary_cross_entropy_with_logits}[loss["op"]]
    return lambda y, t: scale * f(y, t, **a)


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
        return sum(loss_function(l)(self.values[l.get("input", self.last)],
                                    targets[l.get("target", only)]) for l in self.losses)


OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def make_optimizer(d, params):
    a = {k: v for k, v in d["optimizer"].items() if k != "op"}
    if "beta1" in a:
        a["betas"] = (a.pop("beta1"), a.pop("beta2"))
    return OPTIMIZERS[d["optimizer"]["op"]](params, **a)


def schedule_lr(schedule, lr, s):
    """As engine/schedule.c defines it."""
    if not schedule or schedule["op"] == "constant":
        return lr
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
    return {i["name"]: on_grid(torch.randn([n] + i["shape"][1:]), 2.0 ** -8) for i in d["inputs"]}


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
    inputs = {k: v.clone().requires_grad_() for k, v in inputs.items()}
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
    optimizer = make_optimizer(d, params)
    lr = optimizer.param_groups[0]["lr"]
    case["losses"] = []
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
        optimizer.param_groups[0]["lr"] = schedule_lr(d.get("schedule"), lr, s)
        optimizer.step()
        case["losses"].append(loss.item())
    case["final_params"] = {k: tensor(p) for k, p in net.named_parameters()}
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
    two_losses()


if __name__ == "__main__":
    main()
