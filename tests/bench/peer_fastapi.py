"""The server that a user of PyTorch would write: FastAPI on uvicorn, one process, with the paths of
backpropd. `infer` and `train_step` declare their bodies with pydantic, as FastAPI's guide does;
`infer_raw` and `train_step_raw` read the JSON themselves, which is faster.

    /usr/bin/python3 peer_fastapi.py PORT THREADS
"""
import os
import sys

PORT, THREADS = int(sys.argv[1]), int(sys.argv[2])
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(THREADS)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import threading
from typing import List

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from torch import nn

torch.set_num_threads(THREADS)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
lock = threading.Lock()
app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: List[int]
    datatype: str
    data: List[float]


class Infer(BaseModel):
    inputs: List[Tensor]


class Step(BaseModel):
    inputs: List[Tensor]
    targets: List[Tensor]


def predict(shape, data):
    with torch.no_grad():
        y = net(torch.tensor(data, dtype=torch.float32).reshape(shape))
    return {"model_name": "mlp", "outputs": [{"name": "output", "datatype": "FP32",
                                              "shape": list(y.shape), "data": y.flatten().tolist()}]}


def train(shape, data, classes):
    x = torch.tensor(data, dtype=torch.float32).reshape(shape)
    y = torch.tensor(classes, dtype=torch.int64)
    with lock:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    return {"model_name": "mlp", "loss": loss.item()}


@app.get("/v2/health/live")
async def live():
    return {"live": True}


@app.post("/v2/models/mlp/infer")
def infer(r: Infer):
    return predict(r.inputs[0].shape, r.inputs[0].data)


@app.post("/v2/models/mlp/infer_raw")
async def infer_raw(r: Request):
    x = (await r.json())["inputs"][0]
    return await run_in_threadpool(predict, x["shape"], x["data"])


@app.post("/v2/models/mlp/train_step")
def train_step(r: Step):
    return train(r.inputs[0].shape, r.inputs[0].data, r.targets[0].data)


@app.post("/v2/models/mlp/train_step_raw")
async def train_step_raw(r: Request):
    body = await r.json()
    x, y = body["inputs"][0], body["targets"][0]
    return await run_in_threadpool(train, x["shape"], x["data"], y["data"])


uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False)
