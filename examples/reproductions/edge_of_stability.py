"""Full-batch gradient descent reaches a sharpness of 2 / lr and stays there, at the edge of stability.

    python examples/reproductions/edge_of_stability.py                          # minutes on two cores
    python examples/reproductions/edge_of_stability.py --dataset digits --samples 40 --hidden 9 --steps 40 --every 20

A tanh network with two hidden layers learns MNIST by gradient descent on the squared error; every step uses all of
``samples`` images. The largest eigenvalue of the Hessian (the sharpness) rises until it reaches 2 / lr, above which
gradient descent on a quadratic loss would diverge. Then it stays near that value, while the loss continues to fall,
though not in every step.

Source: Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability", figure 1 and
section 3, on 5,000 images of CIFAR-10 with two hidden layers of 200. Here: 500 images of MNIST, two hidden layers of
100. The script writes edge_of_stability.json and edge_of_stability.png to --out.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["Descent", "descend", "main"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # of the colour-blind-safe set of Okabe and Ito


class Descent(NamedTuple):
    """A run of gradient descent with S steps, whose sharpness was measured M times."""

    losses: np.ndarray  # [S + 1], loss before every step, and at the end
    steps: np.ndarray  # [M], numbers of the steps before which the sharpness was measured
    sharpness: np.ndarray  # [M], largest eigenvalue of the Hessian


def main(
    dataset: str = "mnist",
    lrs: tuple[float, ...] = (0.15, 0.25),
    steps: int = 3000,
    every: int = 60,
    samples: int = 500,
    hidden: int = 100,
    seed: int = 0,
    data_dir: Path = Path("data"),
    out: Path = Path("reproduction_results"),
) -> None:
    """Train by gradient descent and measure the largest eigenvalue on the way.

    Args:
        dataset: Data set by name.
        lrs: Learning rates.
        steps: Steps of gradient descent.
        every: Steps between two measurements.
        samples: Training images, drawn from the seed.
        hidden: Units of each of two hidden layers.
        seed: Seed of images and weights.
        data_dir: Folder of the data sets, also for downloads.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    for lr in lrs:
        ll.cli.check_number("lrs", lr, above=0)
    data = ll.load_dataset(dataset, split="train", data_dir=data_dir).subset(samples, seed)
    runs = {lr: descend(data, lr, steps, every, hidden=hidden, seed=seed) for lr in lrs}
    record(
        __file__,
        [row for lr, run in runs.items() for row in rows_of(lr, run)],
        out,
        paper="Cohen et al. 2021, Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability",
        claim="Full-batch gradient descent reaches a sharpness of 2 / lr and stays there",
        settings=settings,
        runs={
            lr: {
                "steps": run.steps.tolist(),
                "sharpness": run.sharpness.round(4).tolist(),
                "loss": run.losses[run.steps].round(6).tolist(),
            }
            for lr, run in runs.items()
        },
    )
    ll.cli.wrote(ll.save_figure(draw(runs), out / "edge_of_stability.png"))


def descend(data: ll.Data, lr: float, steps: int, every: int, *, hidden: int, seed: int) -> Descent:
    """Full-batch gradient descent on the squared error, with the largest eigenvalue on the way."""
    classes = len(data.classes)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(data.inputs[0].numel(), hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
        nn.Linear(hidden, classes),
    )  # fmt: skip
    objective = ll.objective(model, data, loss="mse", device="cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    onehot, losses, measured = F.one_hot(data.targets, classes).float(), [], {}
    for step in range(steps + 1):
        loss = F.mse_loss(model(data.inputs), onehot)
        losses.append(loss.item())
        if step % every == 0:
            product = ll.hessian_product(objective, model)  # at the weights of this step
            pairs = ll.top_eigenpairs(product, k=1, tol=1e-2, which="largest", progress=False)
            measured[step] = float(pairs.values[0])
            product.release()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(
        f"lr {lr:g}: loss {losses[-1]:.3g}, sharpness {measured[max(measured)]:.3g}, 2 / lr = {2 / lr:.3g}", flush=True
    )
    return Descent(np.array(losses), np.array(list(measured)), np.array(list(measured.values())))


def rows_of(lr: float, run: Descent) -> list[Row]:
    """Sharpness and loss in the second half of training, beside what the paper says."""
    late = run.sharpness[len(run.sharpness) // 2 :] * lr / 2
    changes = np.diff(run.losses[len(run.losses) // 2 :])
    start, median, rising = run.sharpness[0] * lr / 2, float(np.median(late)), float((changes > 0).mean())
    return [
        Row(
            f"sharpness / (2 / lr) before training, lr {lr:g}", "below 1", f"{start:.2f}", "section 3",
            bool(start < 1), "below 1",
        ),
        Row(
            f"the same in the second half of training, lr {lr:g}", "1, or just above",
            f"{median:.2f} ({late.min():.2f} to {late.max():.2f})", "figure 1", abs(median - 1) <= 0.1,
            "the median within 10 %",
        ),
        Row(
            f"loss in the second half of training, lr {lr:g}", "falls, but not in every step",
            f"falls by {1 - run.losses[-1] / run.losses[len(run.losses) // 2]:.0%}, rises in {rising:.0%} of steps",
            "section 3", bool(rising > 0 and changes.sum() < 0), "both",
        ),
    ]  # fmt: skip


def draw(runs: dict[float, Descent]) -> Figure:
    """A figure of the sharpness with its limit 2 / lr (above) and of the loss (below)."""
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(5.6, 5.6), layout="constrained")
    for number, (lr, run) in enumerate(runs.items()):
        color = COLORS[number % len(COLORS)]
        above.plot(run.steps, run.sharpness, color=color, linewidth=1.4, label=f"lr {lr:g}")
        above.axhline(2 / lr, color=color, linewidth=1, linestyle="--")
        below.plot(run.losses, color=color, linewidth=1)
    above.plot([], [], color="0.3", linewidth=1, linestyle="--", label="2 / lr")
    above.set_ylabel("largest Hessian eigenvalue")
    above.legend(fontsize=8)
    below.set(xlabel="step of gradient descent", ylabel="loss (mean squared error)", yscale="log")
    return figure


if __name__ == "__main__":
    ll.cli.run_script(main)
