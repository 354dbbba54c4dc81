#!/usr/bin/python3
"""make_detection.py: writes tests/data/detection/loss.json, a detector's loss as PyTorch computes it.

The formulas of Ultralytics' YOLOv8 loss (task-aligned assignment, complete IoU, distribution focal
loss, binary cross entropy), written here from the papers as dense tensors [objects, anchors] in
float64, with gradients by autograd: another way to the numbers than the engine's. Logits and boxes
are multiples of 2^-8, exact in float and short as text. tests/unit/test_detection_double.c reads it.

Run it from the root of the repository with a Python that has torch (made with 1.13):
    python3 tests/golden/make_detection.py
"""

import json
import math
import os

import torch
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
OUT = "tests/data/detection/loss.json"
EPS_BOX, EPS_ALIGN = 1e-7, 1e-9


def ciou(a, b):
    """Of corners [..., 4], with its aspect weight held constant. Gives value and weight."""
    aw, ah = a[..., 2] - a[..., 0], a[..., 3] - a[..., 1] + EPS_BOX
    bw, bh = b[..., 2] - b[..., 0], b[..., 3] - b[..., 1] + EPS_BOX
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    iou = inter / (aw * ah + bw * bh - inter + EPS_BOX)
    around = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    centres = (b[..., :2] + b[..., 2:] - a[..., :2] - a[..., 2:]) / 2
    distance = centres.pow(2).sum(-1) / (around.pow(2).sum(-1) + EPS_BOX)
    v = 4 / math.pi**2 * (torch.atan(bw / bh) - torch.atan(aw / ah)).pow(2)
    alpha = (v / (v - iou + 1 + EPS_BOX)).detach()
    return iou - distance - alpha * v, alpha


def anchors(shapes, strides):
    points, stride = [], []
    for (h, w), s in zip(shapes, strides):
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        points.append(torch.stack([x.reshape(-1), y.reshape(-1)], 1))
        stride.append(torch.full((h * w,), float(s)))
    return torch.cat(points), torch.cat(stride)


def assign(scores, boxes, points, labels, truth, topk, alpha, beta):
    """One image, no gradient: object of each anchor (-1: none) and its class target."""
    inside = ((points[None] - truth[:, None, :2]).amin(-1) > EPS_ALIGN) & (
        (truth[:, None, 2:] - points[None]).amin(-1) > EPS_ALIGN)
    overlap = ciou(truth[:, None], boxes[None])[0].clamp(min=0) * inside
    align = scores[:, labels].T.pow(alpha) * overlap.pow(beta) * inside
    best, place = align.topk(min(topk, align.shape[1]), dim=1)
    chosen = torch.zeros_like(inside).scatter_(1, place, best > 0)
    several = chosen.sum(0) > 1
    closest = F.one_hot(overlap.argmax(0), len(truth)).T.bool()
    chosen = torch.where(several[None], closest, chosen)
    kept, near = align * chosen, overlap * chosen
    score = kept * near.amax(1, keepdim=True) / (kept.amax(1, keepdim=True) + EPS_ALIGN)
    taken = chosen.any(0)
    owner = torch.where(taken, chosen.double().argmax(0), torch.tensor(-1))
    return owner, score.sum(0)


def loss(maps, target, strides, reg_max, topk=10, alpha=0.5, beta=6.0):
    shapes = [m.shape[2:] for m in maps]
    size = torch.tensor([shapes[0][1] * strides[0], shapes[0][0] * strides[0]]).double()
    points, stride = anchors(shapes, strides)
    flat = torch.cat([m.flatten(2) for m in maps], 2).transpose(1, 2)
    bins, logits = flat[..., :4 * reg_max].unflatten(-1, (4, reg_max)), flat[..., 4 * reg_max:]
    side = bins.softmax(-1) @ torch.arange(reg_max).double()
    boxes = torch.cat([points - side[..., :2], points + side[..., 2:]], -1)
    wanted, terms, owners = torch.zeros_like(logits), torch.zeros(2), []
    total = torch.zeros(())
    for i in range(len(flat)):
        rows = target[i][target[i, :, 0] >= 0]
        if not len(rows):
            owners.append([-1] * len(points))
            continue
        centre, half = rows[:, 1:3] * size, rows[:, 3:5] * size / 2
        truth, labels = torch.cat([centre - half, centre + half], 1), rows[:, 0].long()
        with torch.no_grad():
            owner, score = assign(logits[i].sigmoid(), boxes[i] * stride[:, None],
                                  points * stride[:, None], labels, truth, topk, alpha, beta)
        owners.append(owner.tolist())
        on = owner >= 0
        wanted[i, on, labels[owner[on]]] = score[on]
        edges = truth[owner[on]] / stride[on, None]
        value, _ = ciou(boxes[i, on], edges)
        sides = torch.cat([points[on] - edges[:, :2], edges[:, 2:] - points[on]], 1)
        sides = sides.clamp(0, reg_max - 1 - 0.01)
        low = sides.long()
        logp = bins[i, on].log_softmax(-1)
        share = sides - low
        dfl = -(logp.gather(-1, low[..., None])[..., 0] * (1 - share)
                + logp.gather(-1, low[..., None] + 1)[..., 0] * share).mean(-1)
        terms = terms + torch.stack([((1 - value) * score[on]).sum(), (dfl * score[on]).sum()])
        total = total + score.sum()
    divisor = total.clamp(min=1)
    cls = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    parts = torch.stack([7.5 * terms[0], 0.5 * cls, 1.5 * terms[1]]) / divisor
    return parts, owners, wanted.amax(-1)


def short(t, digits=12):
    return [float(f"%.{digits}g" % v) for v in t.detach().reshape(-1).tolist()]


def rounded(shape, scale):
    return (torch.randn(shape) * scale * 256).round() / 256


def case(name, classes, reg_max, strides, shapes, boxes, seed, **settings):
    """Distances lean towards the truth of an object, so that boxes overlap as in training."""
    torch.manual_seed(seed)
    n = len(boxes)
    maps = [rounded((n, 4 * reg_max + classes, *s), 1.5) for s in shapes]
    target = torch.zeros(n, max(map(len, boxes)) + 1, 5)
    target[..., 0] = -1
    for i, rows in enumerate(boxes):
        for j, row in enumerate(rows):
            target[i, j] = torch.tensor(row)
    for m in maps:
        m.requires_grad_(True)
    parts, owners, scores = loss(maps, target, strides, reg_max, **settings)
    parts.sum().backward()
    return {"name": name, "reg_max": reg_max, "classes": classes, "strides": strides,
            "settings": settings, "target_shape": list(target.shape), "target": short(target),
            "maps": [{"shape": list(m.shape), "data": short(m), "grad": short(m.grad, 9)}
                     for m in maps],
            "parts": short(parts), "objects": [o for image in owners for o in image],
            "scores": short(scores)}


def ciou_cases():
    torch.manual_seed(3)
    corners = torch.rand(12, 2, 2, 2) * 8
    low, size = corners[:, :, 0], corners[:, :, 1] + 0.25
    both = (torch.cat([low, low + size], -1) * 256).round() / 256
    a, b = both[:, 0].clone().requires_grad_(True), both[:, 1]
    value, alpha = ciou(a, b)
    value.sum().backward()
    return [{"a": short(a[i]), "b": short(b[i]), "value": value[i].item(),
             "alpha": alpha[i].item(), "grad": short(a.grad[i])} for i in range(len(a))]


def main():
    cases = [
        case("two objects that share anchors", 3, 4, [8, 16], [(6, 6), (3, 3)],
             [[(0, 0.5, 0.5, 0.75, 0.5), (2, 0.5625, 0.5, 0.5, 0.75)],
              [(1, 0.25, 0.5, 0.375, 0.625)]], 1),
        case("an empty image, a crowd, few chosen", 2, 8, [8, 16, 32], [(8, 4), (4, 2), (2, 1)],
             [[], [(0, 0.5, 0.25, 0.5, 0.25), (1, 0.5, 0.375, 0.875, 0.5),
                   (0, 0.375, 0.625, 0.5, 0.625), (1, 0.5, 0.75, 0.9375, 0.4375)]], 2, topk=3,
             alpha=1.0, beta=2.0),
        case("no object at all", 2, 4, [8], [(2, 3)], [[], []], 4),
    ]
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    with open(OUT, "w") as f:
        json.dump({"ciou": ciou_cases(), "cases": cases}, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
