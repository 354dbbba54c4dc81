#!/usr/bin/python3
"""make_nets.py: writes tests/data/golden/whole_*.json, what PyTorch computes in float64 for whole
networks that templates stand for: those of torchvision where it has them, and of this file.

They are files as make_golden.py writes, but the tensors are too large for text. Those that go in
are made by a rule from a key, "made": {"key", "scale", "offset"}: element i is

    offset + scale * (k - 2048) / 2048,  k = the upper 12 bits of splitmix64(fnv1a(key) + i),

with a power of two as scale, so that float has them exactly. Those that come out are given by a
digest: their norm, and their products with three tensors made with the keys "digest0" to "digest2",
scale 1 and offset 0. An error of relative size t moves each product by at most t times the norms'
product, and by about t times the norm.

Run it from the root of the repository with a Python that has torch and torchvision (made with 1.13
and 0.14):
    python3 tests/golden/make_nets.py [NAME...]
"""

import json
import math
import sys

import numpy
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

OUT = "tests/data/golden"
STEPS = 5
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


# ---- tensors by rule --------------------------------------------------------------------------

def fnv1a(key):
    h = 0xcbf29ce484222325
    for byte in key.encode():
        h = (h ^ byte) * 0x100000001b3 % 2**64
    return h


def made(key, count):
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(fnv1a(key)) + numpy.arange(count, dtype=numpy.uint64)
        z += numpy.uint64(0x9e3779b97f4a7c15)
        z = (z ^ z >> numpy.uint64(30)) * numpy.uint64(0xbf58476d1ce4e5b9)
        z = (z ^ z >> numpy.uint64(27)) * numpy.uint64(0x94d049bb133111eb)
        z ^= z >> numpy.uint64(31)
    return ((z >> numpy.uint64(52)).astype(numpy.float64) - 2048) / 2048


class Made:
    """A tensor by rule, as torch has it and as the file names it."""

    def __init__(self, key, shape, scale=1.0, offset=0.0):
        shape = list(shape)
        self.value = torch.from_numpy(offset + scale * made(key, math.prod(shape))).reshape(shape)
        self.json = {"shape": shape, "made": {"key": key, "scale": scale, "offset": offset}}


def digest(tensor):
    flat = tensor.detach().reshape(-1).numpy()
    return {"shape": list(tensor.shape),
            "digest": [float(numpy.linalg.norm(flat))] +
                      [float(flat @ made(f"digest{i}", flat.size)) for i in range(3)]}


def plain(tensor):
    return {"shape": list(tensor.shape), "data": tensor.reshape(-1).tolist()}


def initial(name, shape):
    """Weights of about the size that kaiming initialisation gives, biases small, norms about 1."""
    if len(shape) > 1:
        fan_in = math.prod(shape[1:])
        return Made(name, shape, 2.0 ** round(math.log2(math.sqrt(3 / fan_in))))
    if name.endswith("bn3.weight"):  # of a bottleneck: else float loses digits in 50 layers
        return Made(name, shape, 0.125, 0.25)
    return Made(name, shape, 0.125, 1.0 if name.endswith("weight") else 0.0)


# ---- networks that torchvision does not have --------------------------------------------------

class DoubleConv(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())

    def forward(self, x):
        return self.double_conv(x)


class Down(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(channels, out))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        self.conv = DoubleConv(channels, channels // 2)

    def forward(self, x, side):
        return self.conv(torch.cat([side, self.up(x)], 1))


class Out(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv = nn.Conv2d(channels, classes, 1)

    def forward(self, x):
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, channels, classes, base, depth):
        super().__init__()
        self.depth = depth
        self.inc = DoubleConv(channels, base)
        for i in range(depth):
            setattr(self, f"down{i + 1}", Down(base << i, base << (i + 1)))
            setattr(self, f"up{i + 1}", Up(base << (depth - i)))
        self.outc = Out(base, classes)

    def forward(self, x):
        sides = [self.inc(x)]
        for i in range(self.depth):
            sides.append(getattr(self, f"down{i + 1}")(sides[-1]))
        x = sides[-1]
        for i in range(self.depth):
            x = getattr(self, f"up{i + 1}")(x, sides[self.depth - 1 - i])
        return self.outc(x)


def resnet18_cifar(classes):
    net = torchvision.models.resnet18(num_classes=classes)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


class LstmClassifier(nn.Module):
    def __init__(self, vocabulary, width, hidden, layers, classes):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, hidden, layers, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(2 * hidden, classes)

    def forward(self, x):
        return self.fc(self.lstm(self.embedding(x))[0].mean(1))


class Positions(nn.Module):
    def __init__(self, places, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(places, width))

    def forward(self, x):
        return x + self.weight[:x.shape[1]]


class EncoderClassifier(nn.Module):
    """Token 0 pads: it is no key, and its vector stays as it is."""

    def __init__(self, vocabulary, places, width, heads, layers, classes):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = Positions(places, width)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, batch_first=True), layers)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        y = self.positions(self.embedding(x))
        return self.fc(self.encoder(y, src_key_padding_mask=x == 0).mean(1))


class GptBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x):
        y = self.ln_1(x)
        places = x.shape[1]
        mask = torch.triu(torch.ones(places, places, dtype=torch.bool), 1)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Gpt(nn.Module):
    def __init__(self, vocabulary, places, width, heads, layers):
        super().__init__()
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocabulary, width), "wpe": Positions(places, width),
            "h": nn.ModuleList(GptBlock(width, heads) for _ in range(layers)),
            "ln_f": nn.LayerNorm(width)})
        self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, x):
        x = self.transformer["wpe"](self.transformer["wte"](x))
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


# ---- the cases --------------------------------------------------------------------------------

def image(n, size, key="image"):
    """Keys of deep networks are those with which the fewest units lie at a kink (float_error)."""
    return {"image": Made(key, [n, 3, size, size])}


def tokens(n, places, count):
    class Tokens:
        value = classes(n, count, places)
        json = plain(value)
    return {"tokens": Tokens}


def classes(n, count, *sizes):
    numbers = (made("target", n * math.prod(sizes)) * 2048 + 2048).astype(numpy.int64) % count
    return torch.from_numpy(numbers).reshape([n, *sizes])


CASES = {
    "resnet18": dict(
        template={"name": "resnet18", "stem": "cifar", "image_size": 16, "num_classes": 10},
        net=lambda: resnet18_cifar(10), inputs=image(4, 16), target=classes(4, 10), lr=1e-4),
    "resnet50": dict(
        template={"name": "resnet50", "image_size": 32, "num_classes": 10},
        net=lambda: torchvision.models.resnet50(num_classes=10), inputs=image(4, 32, "image1"),
        target=classes(4, 10), lr=1e-6),
    "mobilenet_v2": dict(
        template={"name": "mobilenet_v2", "image_size": 64, "num_classes": 10, "width_mult": 0.5,
                  "dropout": 0},
        net=lambda: torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.5, dropout=0.0),
        inputs=image(4, 64, "image0"), target=classes(4, 10), lr=1e-6),
    "vgg11": dict(
        template={"name": "vgg11", "image_size": 64, "num_classes": 10, "batch_norm": False,
                  "dropout": 0, "hidden": 128, "pool_size": 2},
        net=lambda: vgg11(10, 128, 2), inputs=image(2, 64), target=classes(2, 10)),
    "unet": dict(
        template={"name": "unet", "image_size": 32, "num_classes": 3, "base_channels": 8,
                  "depth": 3},
        net=lambda: UNet(3, 3, 8, 3), inputs=image(2, 32), target=classes(2, 3, 32, 32)),
    "lstm_classifier": dict(
        template={"name": "lstm_classifier", "vocab_size": 50, "sequence_length": 20,
                  "embedding_dim": 24, "hidden_size": 32, "num_layers": 2, "num_classes": 4,
                  "dropout": 0},
        net=lambda: LstmClassifier(50, 24, 32, 2, 4), inputs=tokens(6, 20, 50),
        target=classes(6, 4), clip=1.0),
    "encoder": dict(
        template={"name": "transformer_encoder_classifier", "vocab_size": 30, "padding_idx": 0,
                  "sequence_length": 24, "embedding_dim": 32, "nhead": 4, "num_layers": 2,
                  "dim_feedforward": 64, "num_classes": 4, "dropout": 0, "norm_first": False},
        net=lambda: EncoderClassifier(30, 24, 32, 4, 2, 4), inputs=tokens(5, 24, 30),
        target=classes(5, 4)),
    "char_gpt": dict(
        template={"name": "char_gpt", "vocab_size": 40, "block_size": 48, "n_layer": 2,
                  "n_head": 4, "n_embd": 64},
        net=lambda: Gpt(40, 48, 64, 4, 2), inputs=tokens(3, 48, 40), target=classes(3, 40, 48),
        clip=1.0),
}


def vgg11(classes_, hidden, pool):
    net = torchvision.models.vgg11(num_classes=classes_, dropout=0.0)
    net.avgpool = nn.AdaptiveAvgPool2d(pool)
    net.classifier[0] = nn.Linear(512 * pool * pool, hidden)
    net.classifier[3] = nn.Linear(hidden, hidden)
    net.classifier[6] = nn.Linear(hidden, classes_)
    return net


def loss_of(output, target):
    """Classes are the last dimension of sequences, and the second of images."""
    sequences = output.dim() == 3
    return F.cross_entropy(output.transpose(1, 2) if sequences else output, target)


def float_error(case, params, grads):
    """The largest relative error of PyTorch's own gradients in float32: where an activation lies
    within rounding of a kink of ReLU or ReLU6, one unit more or less passes the gradient on."""
    net = case["net"]().float().train()
    for key, p in net.named_parameters():
        p.data.copy_(params[key].value)
    x = [t.value.float() if t.value.is_floating_point() else t.value
         for t in case["inputs"].values()]
    loss_of(net(*x), case["target"]).backward()
    return max(((p.grad.double() - grads[key]).norm() / grads[key].norm()).item()
               for key, p in net.named_parameters() if key in grads)


def write(name, case):
    torch.manual_seed(0)
    net = case["net"]().double().train()
    params, buffers = {}, {}
    for key, p in net.named_parameters():
        params[key] = initial(key, p.shape)
        p.data.copy_(params[key].value)
    for key, b in net.named_buffers():
        buffers[key] = Made("", b.shape, 0.0, float(b.reshape(-1)[0])).json  # all ones or zeros
    x = [t.value.clone().requires_grad_(t.value.is_floating_point())
         for t in case["inputs"].values()]
    target = case["target"]
    lr = case.get("lr", 0.01)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    file = {
        "description": {
            "template": case["template"],
            "optimizer": {"op": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": 1e-4}},
        "params": {k: v.json for k, v in params.items()},
        "buffers": buffers,
        "batches": [{"inputs": {k: v.json for k, v in case["inputs"].items()},
                     "targets": {"target": plain(target)}}],
    }
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        output = net(*x)
        loss = loss_of(output, target)
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            file["output"] = digest(output)
            file["loss"] = loss.item()
            # Zero in exact arithmetic: a bias that only a batch norm sees, through a convolution.
            grads = {k: p.grad.clone() for k, p in net.named_parameters() if p.grad.norm() > 1e-12}
            file["grads"] = {k: digest(g) for k, g in grads.items()}
            file["float_error"] = float_error(case, params, grads)
            file["kinks"] = "image" in case["inputs"]  # ReLU or ReLU6 and pooling all over
            file["input_grad"] = {k: digest(t.grad) for k, t in zip(case["inputs"], x)
                                  if t.requires_grad}
        if "clip" in case:
            nn.utils.clip_grad_norm_(net.parameters(), case["clip"])
        optimizer.step()
    file["losses"] = losses
    file["final_params"] = {k: digest(p) for k, p in net.named_parameters()}
    file["final_buffers"] = {k: digest(b.double()) for k, b in net.named_buffers()}
    net.eval()
    file["eval_output"] = digest(net(*x))
    with open(f"{OUT}/whole_{name}.json", "w") as out:
        json.dump(file, out, separators=(",", ":"))
        out.write("\n")


for name, case in CASES.items():
    if len(sys.argv) == 1 or name in sys.argv[1:]:
        write(name, case)
