#!/usr/bin/env python3
"""tinyshakespeare through HTTP: the template char_gpt learns the next character.

    tests/bench/learning/char_gpt.py > tests/bench/learning/char_gpt.txt

nanoGPT's split: the first 90% of the characters to learn from, the last 10% for validation. A step takes BATCH windows
of BLOCK characters from random places. Every EVERY steps the loss on all of the validation part is printed, in windows
that follow each other (so half of a window's characters are guessed from fewer than BLOCK / 2 before them). What counts
is the model of the last step: none is chosen by its validation loss. The last line says whether that is under 1.65 nats
a character."""
import array
import random
import sys
import time

from client import DATA, Daemon, Tensor, say

BLOCK, BATCH, STEPS, EVERY, TARGET = 128, 32, 2000, 250, 1.65
NET = {"name": "char_gpt", "block_size": BLOCK, "n_layer": 4, "n_head": 6, "n_embd": 192, "dropout": 0.1}
LR, WARMUP = 2e-3, 100


def read():
    """Both parts as numbers of characters, and how many different ones there are."""
    with open(f"{DATA}/tinyshakespeare/input.txt", encoding="ascii") as file:
        text = file.read()
    characters = sorted(set(text))
    number = {c: i for i, c in enumerate(characters)}
    codes = array.array("q", (number[c] for c in text))
    cut = len(codes) * 9 // 10
    return codes[:cut], codes[cut:], len(characters)


def description(vocabulary):
    return {"template": {**NET, "vocab_size": vocabulary}, "seed": 1,
            "optimizer": {"op": "adamw", "lr": LR, "betas": [0.9, 0.99], "weight_decay": 0.1,
                          "groups": [{"params": ["*bias", "*.ln_*", "*.wpe.*"], "weight_decay": 0}]},
            "schedule": {"op": "cosine", "total_steps": STEPS, "warmup_steps": WARMUP, "min_lr": LR / 10}}


def batch(codes, places):
    """Windows from these places, and the characters that follow each of theirs."""
    x, y = array.array("q"), array.array("q")
    for at in places:
        x.extend(codes[at:at + BLOCK])
        y.extend(codes[at + 1:at + 1 + BLOCK])
    shape = [len(places), BLOCK]
    return [Tensor("tokens", shape, x)], [Tensor("target", shape, y)]


def validate(model, codes):
    places = range(0, len(codes) - BLOCK, BLOCK)
    parts = (places[i:i + BATCH] for i in range(0, len(places), BATCH))
    return model.evaluate(batch(codes, part) + (len(part),) for part in parts)


def main():
    train, held_out, vocabulary = read()
    daemon, generator, begin = Daemon(), random.Random(1), time.time()
    model = daemon.create("shakespeare", description(vocabulary))
    parameters = daemon.call("GET", "/v2/models/shakespeare")["parameter_count"]
    say(f"char_gpt: {parameters} parameters, {STEPS} steps of {BATCH} x {BLOCK} characters, lr {LR}")
    say("step  train loss  val loss  accuracy  minutes")
    loss = 0
    for step in range(1, STEPS + 1):
        places = [generator.randrange(len(train) - BLOCK) for _ in range(BATCH)]
        loss += model.step(*batch(train, places))["loss"] / EVERY
        if step % EVERY == 0:
            val_loss, accuracy = validate(model, held_out)
            say(f"{step:4}  {loss:10.4f}  {val_loss:8.4f}  {accuracy:8.4f}  {(time.time() - begin) / 60:7.1f}")
            loss = 0
    say(f"validation loss {val_loss:.4f} nats, wanted under {TARGET}: {'yes' if val_loss < TARGET else 'NO'}")
    sys.exit(val_loss >= TARGET)


if __name__ == "__main__":
    main()
