#!/usr/bin/python3
"""make_scores.py: writes tests/data/scores/*.json: predictions, targets, and the metrics that
scikit-learn computes from them. tests/unit/test_score.c compares.

Predictions are multiples of 2^-6, so that they are exact in float and many are equal. The expected
calibration error is put together from scikit-learn's calibration_curve, bin by bin.

Run it from the root of the repository with Debian's python3-sklearn (made with 1.2.1):
    python3 tests/golden/make_scores.py
"""

import json
import os

import numpy as np
from sklearn import metrics
from sklearn.calibration import calibration_curve

OUT = "tests/data/scores"
BINS = 15


def ece(right, probability):
    """The bins that calibration_curve leaves out are empty; their sizes are counted here."""
    share, mean = calibration_curve(right, probability, n_bins=BINS, strategy="uniform")
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    sizes = np.bincount(np.searchsorted(edges, probability), minlength=BINS)
    sizes = sizes[sizes > 0]
    return float((sizes * abs(share - mean)).sum() / sizes.sum())


def softmax(x):
    p = np.exp(x - x.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def classes(rng, n, c, skill, absent=()):
    y = rng.integers(0, c, n)
    for k in absent:
        y[y == k] = 0
    x = rng.normal(0, 1, (n, c))
    x[np.arange(n), y] += skill
    x = (x * 64).round() / 64
    p, found = softmax(x), x.argmax(1)
    auc = [metrics.roc_auc_score(y == k, p[:, k]) for k in range(c) if 0 < (y == k).sum() < n]
    if not absent and c > 2:
        assert abs(metrics.roc_auc_score(y, p, multi_class="ovr") - np.mean(auc)) < 1e-12
    rank = np.argsort(-x, axis=1, kind="stable")[:, :5]
    top5 = float((rank == y[:, None]).any(1).mean())
    untied = (np.sort(x, 1)[:, :-1] != np.sort(x, 1)[:, 1:]).all()
    if untied and c > 5:
        assert top5 == metrics.top_k_accuracy_score(y, x, k=5, labels=np.arange(c))
    return {"task": "classes", "shape": [n, c], "prediction": x.ravel().tolist(),
            "target": y.tolist(),
            "expected": {
                "accuracy": metrics.accuracy_score(y, found), "top5": top5,
                "f1_macro": metrics.f1_score(y, found, average="macro"),
                "f1_micro": metrics.f1_score(y, found, average="micro"),
                "roc_auc": float(np.mean(auc)),
                "calibration_error": ece(found == y, p.max(1)),
                "confusion_matrix":
                    metrics.confusion_matrix(y, found, labels=np.arange(c)).tolist()}}


def labels(rng, n, c):
    y = rng.random((n, c)) < rng.uniform(0.1, 0.6, c)
    x = ((rng.normal(0, 1, (n, c)) + 1.5 * y - 0.7) * 64).round() / 64
    y = y.astype(int)
    one = c == 1
    average = "binary" if one else "macro"
    flat = (lambda v: v.ravel()) if one else (lambda v: v)
    return {"task": "labels", "shape": [n, c], "prediction": x.ravel().tolist(),
            "target": y.ravel().tolist(),
            "expected": {
                "accuracy": float(((x > 0) == y).mean()),
                "f1_macro": metrics.f1_score(flat(y), flat(x > 0), average=average),
                "f1_micro": metrics.f1_score(flat(y), flat(x > 0),
                                             average="binary" if one else "micro"),
                "roc_auc": metrics.roc_auc_score(flat(y), flat(x)),
                "mean_average_precision": metrics.average_precision_score(flat(y), flat(x)),
                "calibration_error": ece(y.ravel(), 1 / (1 + np.exp(-x.ravel())))}}


def values(rng, n, c):
    y = (rng.normal(0, 3, (n, c)) * 64).round() / 64
    x = y + (rng.normal(0.2, 1, (n, c)) * 64).round() / 64
    return {"task": "values", "shape": [n, c], "prediction": x.ravel().tolist(),
            "target": y.ravel().tolist(),
            "expected": {"mae": metrics.mean_absolute_error(y, x),
                         "rmse": float(np.sqrt(metrics.mean_squared_error(y, x))),
                         "r2": metrics.r2_score(y, x)}}


def main():
    rng = np.random.default_rng(5)
    os.makedirs(OUT, exist_ok=True)
    cases = {"classes2": classes(rng, 80, 2, 1), "classes4": classes(rng, 150, 4, 1.5),
             "classes10": classes(rng, 200, 10, 2), "classes7_absent": classes(rng, 60, 7, 1, (3, 5)),
             "labels1": labels(rng, 120, 1), "labels6": labels(rng, 90, 6),
             "values1": values(rng, 50, 1), "values3": values(rng, 70, 3)}
    for name, case in cases.items():
        with open("%s/%s.json" % (OUT, name), "w") as f:
            json.dump(case, f, separators=(",", ":"))
            f.write("\n")


main()
