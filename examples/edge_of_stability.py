"""Show that full-batch gradient descent reaches a sharpness of about 2 / lr, the edge of stability.

    python examples/edge_of_stability.py                                   # about a minute, edge_of_stability.png
    python examples/edge_of_stability.py --lrs 0.2 0.4 --steps 2000

A tanh network learns a few labels; every step uses the whole data set. The largest eigenvalue of the Hessian rises
until it reaches 2 / lr, above which gradient descent on a quadratic loss would diverge. Then it stays near that value,
while the loss continues to fall, though not in every step (Cohen et al. 2021, "Gradient Descent on Neural Networks
Typically Occurs at the Edge of Stability").
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402

__all__ = ["descend", "main"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # of the colour-blind-safe set of Okabe and Ito


def main(
    lrs: tuple[float, ...] = (0.25, 0.5),
    steps: int = 1200,
    every: int = 20,
    samples: int = 100,
    hidden: int = 30,
    seed: int = 0,
    out: Path = Path("edge_of_stability.png"),
) -> None:
    """Train by gradient descent and measure the largest eigenvalue on the way.

    Args:
        lrs: Learning rates.
        steps: Steps of gradient descent.
        every: Steps between two measurements.
        samples: Samples of 20 Gaussian features and two random labels.
        hidden: Units of each of two hidden layers.
        seed: Seed of data and weights.
        out: File of the figure.
    """
    histories = {}
    for lr in lrs:
        histories[lr] = descend(lr, steps, every, samples=samples, hidden=hidden, seed=seed)
        last = histories[lr][-1]
        print(f"lr {lr:g}: loss {last[1]:.3g}, sharpness {last[2]:.2f}, 2 / lr = {2 / lr:.2f}", flush=True)
    print(f"Wrote {ll.save_figure(draw(histories), out)}")


def descend(
    lr: float, steps: int, every: int, *, samples: int = 100, hidden: int = 30, seed: int = 0
) -> list[tuple[int, float, float]]:
    """(step, loss, largest eigenvalue of the Hessian) during full-batch gradient descent on the squared error."""
    torch.manual_seed(seed)
    inputs, targets = torch.randn(samples, 20), torch.randint(0, 2, (samples,))
    model = nn.Sequential(nn.Linear(20, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2))
    objective = ll.objective(model, (inputs, targets), loss="mse", device="cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    onehot, history = F.one_hot(targets, 2).float(), []
    for step in range(steps + 1):
        loss = F.mse_loss(model(inputs), onehot)
        if step % every == 0:
            product = ll.hessian_product(objective, model)  # at the weights of this step
            pairs = ll.top_eigenpairs(product, k=1, tol=1e-2, which="largest", progress=False)
            history.append((step, loss.item(), float(pairs.values[0])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return history


def draw(histories: dict[float, list[tuple[int, float, float]]]) -> Figure:
    """A figure of the sharpness with its limit 2 / lr (above) and of the loss (below)."""
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(5.6, 5.6), layout="constrained")
    for number, (lr, history) in enumerate(histories.items()):
        steps, losses, sharpness = zip(*history, strict=True)
        color = COLORS[number % len(COLORS)]
        above.plot(steps, sharpness, color=color, linewidth=1.4, label=f"lr {lr:g}")
        above.axhline(2 / lr, color=color, linewidth=1, linestyle="--")
        below.plot(steps, losses, color=color, linewidth=1.4)
    above.plot([], [], color="0.3", linewidth=1, linestyle="--", label="2 / lr")
    above.set_ylabel("largest Hessian eigenvalue")
    above.legend(fontsize=8)
    below.set(xlabel="step of gradient descent", ylabel="loss (mean squared error)", yscale="log")
    return figure


if __name__ == "__main__":
    ll.cli.run_script(main)
