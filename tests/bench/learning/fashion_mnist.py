#!/usr/bin/env python3
"""Fashion-MNIST through HTTP: a CNN with batch norm, or a ResNet of width 16.

    tests/bench/learning/fashion_mnist.py cnn|resnet > tests/bench/learning/fashion_mnist_cnn.txt

The last 5,000 training images are for validation: every choice (network, epochs, rate, augmentation) is made on
them. The model is trained on the other 55,000 alone. The test set is evaluated once, by the model of the last epoch,
and only if its validation accuracy is over the target by more than chance would explain (MARGIN: 1.5 standard errors).
Images go over the wire as binary FP32, (pixel / 255 - 0.286) / 0.353; the daemon augments them."""
import gzip
import random
import struct
import sys
import time

from client import DATA, Daemon, Tensor, batches, classes, say

VALIDATION, BATCH, SIZE, MEAN, STD = 5000, 128, 28, 0.2860, 0.3530
MARGIN = 0.005
PIXELS = [struct.pack("<f", (p / 255 - MEAN) / STD) for p in range(256)]


def conv(channels):
    return [{"op": "conv2d", "out_channels": channels, "kernel_size": 3, "padding": 1, "bias": False},
            {"op": "batch_norm2d"}, {"op": "relu"}]


POOL = [{"op": "max_pool2d", "kernel_size": 2}]
CNN = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 1, SIZE, SIZE]}],
       "layers": conv(32) + POOL + conv(64) + POOL + conv(128) + [
           {"op": "flatten"}, {"op": "dropout", "p": 0.3}, {"op": "linear", "out_features": 10}]}
RESNET = {"template": {"name": "resnet18", "stem": "cifar", "width": 16, "image_size": SIZE, "channels": 1,
                       "num_classes": 10}}
# network, epochs, largest learning rate
NETS = {"cnn": (CNN, 12, 0.1), "resnet": (RESNET, 9, 0.1)}
TARGETS = {"cnn": 0.925, "resnet": 0.93}


def description(net, epochs, lr, steps):
    return {**net, "loss": {"op": "cross_entropy"}, "seed": 1,
            "optimizer": {"op": "sgd", "lr": lr, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
            "schedule": {"op": "one_cycle", "total_steps": epochs * steps, "pct_start": 0.25,
                         "anneal_strategy": "linear"},
            "augment": ["hflip"]}


def read(name):
    """Images as bytes of FP32, labels as numbers."""
    with gzip.open(f"{DATA}/fashion-mnist/{name}-images-idx3-ubyte.gz") as file:
        pixels = file.read()[16:]
    with gzip.open(f"{DATA}/fashion-mnist/{name}-labels-idx1-ubyte.gz") as file:
        labels = file.read()[8:]
    area = SIZE * SIZE
    return [b"".join(map(PIXELS.__getitem__, pixels[i * area:(i + 1) * area])) for i in range(len(labels))], labels


def batch(images, labels, indices):
    image = Tensor("image", [len(indices), 1, SIZE, SIZE], b"".join(images[i] for i in indices), "FP32")
    return [image], [classes([labels[i] for i in indices])]


def evaluate(model, images, labels, indices):
    return model.evaluate(batch(images, labels, part) + (len(part),) for part in batches(indices, 500))


def train_epoch(model, images, labels, order):
    loss = right = 0
    for part in batches(order, BATCH):
        answer = model.step(*batch(images, labels, part))
        loss += answer["loss"] * len(part)
        right += answer["metrics"]["accuracy"] * len(part)
    return loss / len(order), right / len(order)


def main():
    which = sys.argv[1]
    net, epochs, lr = NETS[which]
    images, labels = read("train")
    train = list(range(len(images) - VALIDATION))
    validation = list(range(len(images) - VALIDATION, len(images)))
    daemon, generator, begin = Daemon(), random.Random(1), time.time()
    model = daemon.create(which, description(net, epochs, lr, -(-len(train) // BATCH)))
    parameters = daemon.call("GET", "/v2/models/" + which)["parameter_count"]
    say(f"{which}: {parameters} parameters, {epochs} epochs of {len(train)} images, batches of {BATCH}, lr {lr}")
    say("epoch  train loss  accuracy  val loss  accuracy  minutes")
    for epoch in range(1, epochs + 1):
        generator.shuffle(train)
        loss, accuracy = train_epoch(model, images, labels, train)
        val_loss, val_accuracy = evaluate(model, images, labels, validation)
        say(f"{epoch:5}  {loss:10.4f}  {accuracy:8.4f}  {val_loss:8.4f}  {val_accuracy:8.4f}  "
            f"{(time.time() - begin) / 60:7.1f}")
    target = TARGETS[which]
    if val_accuracy < target + MARGIN:
        sys.exit(f"validation accuracy {val_accuracy:.4f}: the test set is not evaluated below {target + MARGIN}")
    test, test_labels = read("t10k")
    loss, accuracy = evaluate(model, test, test_labels, list(range(len(test))))
    say(f"test: loss {loss:.4f}, accuracy {accuracy:.4f}, wanted over {target}: {'yes' if accuracy > target else 'NO'}")
    sys.exit(accuracy <= target)


if __name__ == "__main__":
    main()
