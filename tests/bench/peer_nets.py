"""peer_nets.py: the networks of server/bench_nets.c in PyTorch, layer by layer the same, with their
random data, losses and optimisers. torch_peer.py measures them, table.py holds their numbers of
parameters to those of `backpropd bench`."""
import torch
import torch.nn.functional as F
from torch import nn


def conv(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def mlp():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10))


def cifar():
    return nn.Sequential(
        *conv(3, 64), *conv(64, 64), nn.MaxPool2d(2), *conv(64, 128), *conv(128, 128), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128 * 64, 256), nn.ReLU(), nn.Linear(256, 10))


# ---- ResNet-18 ------------------------------------------------------------------------------------

class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.deep = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.short = nn.Identity() if stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return F.relu(self.deep(x) + self.short(x), inplace=True)


def resnet18(stem, classes):
    blocks, inputs = [], 64
    for outputs, stride in (64, 1), (128, 2), (256, 2), (512, 2):
        blocks += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def imagenet_stem():
    return [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]


# ---- GPT ------------------------------------------------------------------------------------------

class GptBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, mask):
        n, t, d = x.shape
        q, k, v = (y.view(n, t, self.heads, d // self.heads).transpose(1, 2)
                   for y in self.qkv(self.norm1(x)).split(d, 2))
        scores = q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5
        mixed = F.softmax(scores.masked_fill(mask, float("-inf")), -1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, vocabulary=65, length=128, width=128, heads=4, blocks=4):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(GptBlock(width, heads) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("mask", torch.triu(torch.ones(length, length, dtype=torch.bool), 1))

    def forward(self, x):
        x = self.tokens(x) + self.places.weight
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x))


# ---- YOLOv8n --------------------------------------------------------------------------------------

class Conv(nn.Module):
    def __init__(self, inputs, outputs, size=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return F.silu(self.norm(self.conv(x)), inplace=True)


class Bottleneck(nn.Module):
    def __init__(self, channels, add):
        super().__init__()
        self.first, self.second, self.add = Conv(channels, channels, 3), Conv(channels, channels, 3), add

    def forward(self, x):
        y = self.second(self.first(x))
        return x + y if self.add else y


class C2f(nn.Module):
    def __init__(self, inputs, outputs, count, add):
        super().__init__()
        self.half = outputs // 2
        self.first, self.last = Conv(inputs, outputs), Conv((2 + count) * self.half, outputs)
        self.deep = nn.ModuleList(Bottleneck(self.half, add) for _ in range(count))

    def forward(self, x):
        parts = list(self.first(x).chunk(2, 1))
        for deep in self.deep:
            parts.append(deep(parts[-1]))
        return self.last(torch.cat(parts, 1))


class Sppf(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first, self.last = Conv(channels, channels // 2), Conv(channels * 2, channels)

    def forward(self, x):
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.last(torch.cat(parts, 1))


class Head(nn.Module):
    def __init__(self, channels, boxes=64, hidden=80, classes=80):
        super().__init__()
        self.boxes = nn.Sequential(Conv(channels, boxes, 3), Conv(boxes, boxes, 3), nn.Conv2d(boxes, 64, 1))
        self.classes = nn.Sequential(Conv(channels, hidden, 3), Conv(hidden, hidden, 3), nn.Conv2d(hidden, classes, 1))

    def forward(self, x):
        return torch.cat([self.boxes(x), self.classes(x)], 1)


class Yolo(nn.Module):
    def __init__(self):
        super().__init__()
        self.p3 = nn.Sequential(Conv(3, 16, 3, 2), Conv(16, 32, 3, 2), C2f(32, 32, 1, True), Conv(32, 64, 3, 2),
                                C2f(64, 64, 2, True))
        self.p4 = nn.Sequential(Conv(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.p5 = nn.Sequential(Conv(128, 256, 3, 2), C2f(256, 256, 1, True), Sppf(256))
        self.up4, self.up3 = C2f(384, 128, 1, False), C2f(192, 64, 1, False)
        self.down3, self.out4 = Conv(64, 64, 3, 2), C2f(192, 128, 1, False)
        self.down4, self.out5 = Conv(128, 128, 3, 2), C2f(384, 256, 1, False)
        self.heads = nn.ModuleList([Head(64), Head(128), Head(256)])

    def forward(self, x):
        p3 = self.p3(x)
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        u4 = self.up4(torch.cat([F.interpolate(p5, scale_factor=2.0), p4], 1))
        u3 = self.up3(torch.cat([F.interpolate(u4, scale_factor=2.0), p3], 1))
        o4 = self.out4(torch.cat([self.down3(u3), u4], 1))
        o5 = self.out5(torch.cat([self.down4(o4), p5], 1))
        return tuple(head(y) for head, y in zip(self.heads, (u3, o4, o5)))


# ---- the table ------------------------------------------------------------------------------------

def classes_loss(outputs, target):
    return F.cross_entropy(outputs, target)


def tokens_loss(outputs, target):
    return F.cross_entropy(outputs.flatten(0, 1), target.flatten())


def maps_loss(outputs, target):
    return sum(F.mse_loss(x, y) for x, y in zip(outputs, target))


def classes(n, count):
    return lambda batch: torch.randint(0, count, (batch,) + n)


def maps(batch):
    return tuple(torch.rand(batch, 144, n, n) for n in (40, 20, 10))


def numbers(*shape):
    return lambda batch: torch.randn((batch,) + shape)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.001)


# name: network, its input and target for a batch, loss, optimiser, batch of a training step
NETS = {
    "mlp": (mlp, numbers(784), classes((), 10), classes_loss, sgd, 64),
    "lenet": (lenet, numbers(1, 28, 28), classes((), 10), classes_loss, sgd, 64),
    "cifar": (cifar, numbers(3, 32, 32), classes((), 10), classes_loss, sgd, 64),
    "resnet18": (lambda: resnet18(conv(3, 64), 10), numbers(3, 32, 32), classes((), 10), classes_loss, sgd, 64),
    "resnet18_224": (lambda: resnet18(imagenet_stem(), 1000), numbers(3, 224, 224), classes((), 1000),
                     classes_loss, sgd, 8),
    "char_gpt": (Gpt, classes((128,), 65), classes((128,), 65), tokens_loss, adamw, 16),
    "yolo_n": (Yolo, numbers(3, 320, 320), maps, maps_loss, sgd, 4),
}
