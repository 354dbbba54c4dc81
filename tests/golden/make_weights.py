#!/usr/bin/python3
"""make_weights.py: writes tests/data/weights: state_dicts of a small PyTorch net as safetensors
files, and what the net predicts with them.

The files are written here by the rules of the format (server/safetensors.c has them), not by the
safetensors package. The same weights come in each of the floating dtypes; the expected outputs are
those of the net with the weights after rounding to that dtype. One file has the names of a net in
DataParallel, one leaves out num_batches_tracked, as files from before PyTorch 0.4.1 do.

Run it from the root of the repository with a Python that has torch (made with 1.13):
    python3 tests/golden/make_weights.py
"""

import json
import os
import struct

import torch
from torch import nn

OUT = "tests/data/weights"
DTYPES = {torch.float32: ("F32", 4), torch.float64: ("F64", 8), torch.float16: ("F16", 2),
          torch.bfloat16: ("BF16", 2), torch.int64: ("I64", 8)}
DESCRIPTION = {
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 8, 8]}],
    "layers": [
        {"name": "conv1", "op": "conv2d", "out_channels": 6, "kernel_size": 3, "padding": 1,
         "bias": False},
        {"name": "bn1", "op": "batch_norm2d"}, {"name": "relu1", "op": "relu"},
        {"name": "conv2", "op": "conv2d", "out_channels": 8, "kernel_size": [3, 1], "stride": 2,
         "groups": 2},
        {"name": "bn2", "op": "batch_norm2d"}, {"name": "relu2", "op": "relu"},
        {"name": "flat", "op": "flatten"}, {"name": "fc", "op": "linear", "out_features": 5}],
    "loss": {"op": "cross_entropy"}, "optimizer": {"op": "adamw", "lr": 0.01}, "seed": 1}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, (3, 1), stride=2, groups=2)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 3 * 4, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(torch.flatten(x, 1))


def raw(t):
    t = t.contiguous()
    return (t.view(torch.int16) if t.dtype == torch.bfloat16 else t).numpy().tobytes()


def save(path, tensors):
    """The writer's order: large elements first, then by name."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in sorted(tensors.items(), key=lambda i: (-DTYPES[i[1].dtype][1], i[0])):
        begin = len(data)
        data += raw(t)
        header[name] = {"dtype": DTYPES[t.dtype][0], "shape": list(t.shape),
                        "data_offsets": [begin, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def train(net):
    """So that running statistics and batch counts are not those of a new net."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(7):
        x, y = torch.randn(16, 2, 8, 8), torch.randint(0, 5, (16,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


def main():
    torch.manual_seed(11)
    torch.set_num_threads(1)
    net = Net()
    train(net)
    net.eval()
    os.makedirs(OUT, exist_ok=True)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    x = (torch.randn(3, 2, 8, 8) * 64).round() / 64
    cases = []
    for file, dtype, rename, keep in (
            ("f32", torch.float32, lambda k: k, True),
            ("f64_data_parallel", torch.float64, lambda k: "module." + k, True),
            ("f16", torch.float16, lambda k: k, True),
            ("bf16_uncounted", torch.bfloat16, lambda k: "module.model." + k, False)):
        cast = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
        net.load_state_dict(cast)
        with torch.no_grad():
            output = net(x)
        save("%s/%s.safetensors" % (OUT, file),
             {rename(k): v for k, v in cast.items() if keep or "num_batches" not in k})
        cases.append({"file": file + ".safetensors", "tensors": len(cast) - (0 if keep else 2),
                      "prefix": rename(""), "output": output.flatten().tolist()})
    with open(OUT + "/cases.json", "w") as f:
        json.dump({"description": DESCRIPTION, "input": x.flatten().tolist(), "cases": cases}, f,
                  separators=(",", ":"))
        f.write("\n")


main()
