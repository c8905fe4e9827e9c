"""Measure the top five Hessian eigenvalues of NormCNN on 1,000 digits, side by side with other tools.

    pip install --no-deps -r benchmarks/requirements.txt
    python benchmarks/curvature.py --data-dir data         # half an hour and more on two cores
    python benchmarks/curvature.py --quick                 # seconds; shows that it works, the numbers mean nothing

Writes curvature.json (every single time, with the environment) and curvature.md to --out. The reference comes from
products in float64, by differentiating twice with torch alone. Rounds alternate: ours, peer, ours, peer.
"""

import copy
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402
from benchmarks.run import environment, spread, write  # noqa: E402

__all__ = ["main", "markdown"]

SEED, COUNT = 42, 5
TOLERANCE = 0.01  # residual asked of ours: eigenvalues are better by about its square
ERROR_ASKED, SPEED_ASKED, PRODUCT_ASKED = 1e-3, 3, 1.7


def main(
    dataset: str = "mnist",
    data_dir: Path = Path("data"),
    out: Path = Path("benchmarks/results"),
    repeats: int = 3,
    samples: int = 1000,
    quick: bool = False,
) -> None:
    """Time eigenvalues and products.

    Args:
        dataset: Digits to train and measure on.
        data_dir: Folder where data sets are looked for and downloaded to.
        out: Folder for the results.
        repeats: Timings of everything.
        samples: Samples that the loss averages over.
        quick: Few samples, once, to see that everything runs.
    """
    out, name = ll.cli.make_folder(out), "curvature-quick" if quick else "curvature"
    samples, repeats, steps = (20, 1, 5) if quick else (samples, repeats, 300)
    data = ll.load_dataset("digits" if quick else dataset, "train", data_dir)
    model, few = trained(data, steps), data.subset(samples, SEED)
    print("reference in float64", flush=True)
    reference, residuals = reference_values(model, few)
    results = {
        "quick": quick,
        "environment": environment(),
        "model": "norm-cnn, no normalisation",
        "parameters": sum(p.numel() for p in model.parameters()),
        "samples": len(few),
        "data": few.description,
        "reference": reference,
        "reference_residuals": residuals,
        "product": products(model, few, repeats),
        "tools": eigenvalues(model, few, reference, repeats),
    }
    write(out / f"{name}.json", json.dumps(results, indent=1))
    write(out / f"{name}.md", markdown(results))
    print(f"\n{markdown(results)}\nWrote {out / name}.json and {out / name}.md")


def ours(model: nn.Module, data: ll.Data) -> tuple[np.ndarray, int]:
    pairs = ll.top_eigenpairs(ll.objective(model, data, device="cpu"), model, k=COUNT, tol=TOLERANCE, progress=False)
    return pairs.values, pairs.products


def pyhessian(model: nn.Module, data: ll.Data) -> tuple[np.ndarray, None]:
    """PyHessian: power iteration with deflation, all samples as one batch, as in its tutorial."""
    from pyhessian import hessian

    operator = hessian(model, nn.CrossEntropyLoss(), data=(data.inputs, data.targets), cuda=False)
    return np.array(operator.eigenvalues(top_n=COUNT)[0]), None


def curvlinops(model: nn.Module, data: ll.Data) -> tuple[np.ndarray, int]:
    """curvlinops: its Hessian, all samples as one batch, with scipy's eigsh and its default tolerance."""
    from curvlinops import HessianLinearOperator

    parameters = [p for p in model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), parameters, [(data.inputs, data.targets)])
    exported, count = operator.to_scipy(), 0

    def matvec(vector: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return exported @ vector

    counted = LinearOperator(exported.shape, matvec=matvec, dtype=exported.dtype)
    return eigsh(counted, k=COUNT, return_eigenvectors=False), count


TOOLS: dict[str, tuple[str, Callable]] = {
    "this toolkit": ("", ours),
    "PyHessian": ("pyhessian", pyhessian),
    "curvlinops + eigsh": ("curvlinops-for-pytorch", curvlinops),
}


def eigenvalues(model: nn.Module, data: ll.Data, reference: list[float], repeats: int) -> dict:
    """Seconds and errors of every installed tool, timed in turns."""
    records = {}
    for name, (package, _) in TOOLS.items():
        try:
            version = importlib.metadata.version(package) if package else ""
            records[name] = {"version": version, "seconds": [], "products": None, "largest_error": 0.0}
        except importlib.metadata.PackageNotFoundError:
            records[name] = {"skipped": "not installed"}
    for _ in range(repeats):
        for name, record in records.items():
            if "skipped" in record:
                continue
            network = copy.deepcopy(model).requires_grad_(True)
            began = time.perf_counter()
            values, record["products"] = TOOLS[name][1](network, data)
            record["seconds"].append(time.perf_counter() - began)
            error = float(np.abs(by_size(values) / reference - 1).max())
            record["largest_error"] = max(record["largest_error"], error)
            print(f"  {name}: {record['seconds'][-1]:.3g} s, largest relative error {error:.1e}", flush=True)
    return records


def products(model: nn.Module, data: ll.Data, repeats: int) -> dict:
    """Seconds of our product, and of gradients of the same data: one batch of all samples, and batches of 100."""
    product = ll.hessian_product(ll.objective(model, data, device="cpu"), model)
    vector = np.random.default_rng(SEED).standard_normal(product.dimension)
    product.matvec(vector)  # makes what the others share
    network = copy.deepcopy(model).requires_grad_(True)

    def gradient(size: int) -> None:
        for inputs, targets in zip(data.inputs.split(size), data.targets.split(size), strict=True):
            F.cross_entropy(network(inputs), targets, reduction="sum").backward()

    timed = {
        "product": lambda: product.matvec(vector),
        "gradient, one batch": lambda: gradient(len(data)),
        "gradient, batches of 100": lambda: gradient(100),
    }
    seconds = {name: [] for name in timed}
    for _ in range(max(repeats, 5)):
        for name, function in timed.items():
            began = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def reference_values(model: nn.Module, data: ll.Data) -> tuple[list[float], list[float]]:
    """The eigenvalues of largest magnitude, and the relative residuals that bound their errors.

    Rayleigh quotients of eigenvectors found in float32, with products in float64 by torch.autograd twice.
    """
    pairs = ll.top_eigenpairs(ll.objective(model, data, device="cpu"), model, k=COUNT, tol=1e-4, progress=False)
    network, values, residuals = copy.deepcopy(model).double().requires_grad_(True), [], []
    for vector in torch.from_numpy(pairs.vectors).double():
        vector /= vector.norm()
        product = plain_product(network, data.inputs.double(), data.targets, vector)
        values.append(float(vector @ product))
        residuals.append(float((product - values[-1] * vector).norm() / abs(values[-1])))
    return values, residuals


def plain_product(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """H v, in batches of 50."""
    parameters, total = list(model.parameters()), torch.zeros_like(vector)
    pieces = vector.split([p.numel() for p in parameters])
    direction = [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]
    for x, y in zip(inputs.split(50), targets.split(50), strict=True):
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), parameters, create_graph=True)
        total += torch.cat([h.flatten() for h in torch.autograd.grad(gradients, parameters, direction)])
    return total / len(targets)


def by_size(values: np.ndarray) -> np.ndarray:
    """``values`` in the order of decreasing magnitude."""
    return values[np.argsort(-np.abs(values))]


def trained(data: ll.Data, steps: int) -> nn.Module:
    """NormCNN after some steps of SGD, in eval mode."""
    torch.manual_seed(SEED)
    shape = tuple(data.inputs.shape[1:])
    model = ll.build_model("norm-cnn", input_shape=shape, classes=len(data.classes), normalization="none")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(steps):
        picked = torch.randint(0, len(data), (64,))
        optimizer.zero_grad()
        F.cross_entropy(model(data.inputs[picked]), data.targets[picked]).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def markdown(results: dict) -> str:
    """Tables from the content of curvature.json."""
    quick = " **A quick run: the numbers mean nothing.**" if results["quick"] else ""
    environment, product = results["environment"], results["product"]
    one = [p / g for p, g in zip(product["product"], product["gradient, one batch"], strict=True)]
    small = [p / g for p, g in zip(product["product"], product["gradient, batches of 100"], strict=True)]
    lines = [
        f"{results['model']}, {results['parameters']:,} parameters, {results['samples']:,} samples.{quick} "
        f"{environment['date']}, commit {environment['commit']}, {environment['cpu']}, {environment['cores']} cores, "
        f"{environment['threads']} threads, load {environment['load_average']:.1f}, "
        f"torch {environment['versions']['torch']}.",
        "",
        f"The reference, in float64: {', '.join(f'{value:.5g}' for value in results['reference'])}; residuals at most "
        f"{max(results['reference_residuals']):.1e} of them.",
        "",
        f"A Hessian product takes {spread(product['product'])} s: {spread(one)} gradients of all samples as one batch "
        f"(asked at most {PRODUCT_ASKED}: {verdict(statistics.median(one) <= PRODUCT_ASKED, quick)}), {spread(small)} "
        "gradients in batches of 100.",
        "",
        f"| tool | seconds for the top {COUNT} eigenvalues | products | largest relative error (asked {ERROR_ASKED}) "
        f"| times slower than this toolkit (asked {SPEED_ASKED}) | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    base = results["tools"]["this toolkit"]
    for name, record in results["tools"].items():
        if "skipped" in record:
            lines.append(f"| {name} | {record['skipped']} | | | | |")
            continue
        ratios = [theirs / own for theirs, own in zip(record["seconds"], base["seconds"], strict=True)]
        good = record["largest_error"] < ERROR_ASKED if record is base else statistics.median(ratios) >= SPEED_ASKED
        cells = [
            f"{name} {record['version']}".strip(), spread(record["seconds"]), str(record["products"] or ""),
            f"{record['largest_error']:.1e}", "" if record is base else spread(ratios), verdict(good, quick),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(good: bool, quick: str) -> str:
    return "not judged" if quick else "met" if good else "**not met**"


if __name__ == "__main__":
    ll.cli.run_script(main)
