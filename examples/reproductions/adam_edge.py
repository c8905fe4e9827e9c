"""Full-batch Adam reaches a preconditioned sharpness of (2 + 2 b1) / ((1 - b1) lr) and stays there.

    python examples/reproductions/adam_edge.py                                 # minutes on two cores
    python examples/reproductions/adam_edge.py --dataset digits --betas 0.9 --samples 40 --hidden 9 --steps 8 --every 4

A tanh network with two hidden layers learns MNIST by Adam on the squared error; every step uses all of ``samples``
images. The largest eigenvalue of P^-1 H, for the Hessian H and the diagonal preconditioner P of Adam, rises until it
reaches the value above which Adam with a constant P would be unstable on a quadratic loss: 38 / lr for b1 = 0.9. Then
it stays there.

Source: Cohen et al. 2022, "Adaptive Gradient Methods at the Edge of Stability", figure 1, sections 3 and 4, on CIFAR-10
and other data with b2 = 0.999. Here: 1,000 images of MNIST and three values of b1, which try the formula. The script
writes adam_edge.json and adam_edge.png to --out.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["main"]


def main(
    dataset: str = "mnist",
    betas: tuple[float, ...] = (0.9, 0.5, 0.0),
    lr: float = 1e-3,
    steps: int = 2000,
    every: int = 40,
    samples: int = 1000,
    hidden: int = 100,
    seed: int = 0,
    data_dir: Path = Path("data"),
    out: Path = Path("reproduction_results"),
) -> None:
    """Train by Adam and measure the largest eigenvalue of the preconditioned Hessian on the way.

    Args:
        dataset: Data set by name.
        betas: Values of b1, the decay of the mean gradient; b2 is 0.999.
        lr: Learning rate.
        steps: Steps of Adam.
        every: Steps between two measurements.
        samples: Training images, drawn from the seed.
        hidden: Units of each of two hidden layers.
        seed: Seed of images and weights.
        data_dir: Folder of the data sets, also for downloads.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    ll.cli.check_number("lr", lr, above=0)
    if max(betas) >= 1:
        raise ll.InputError(f"betas has {max(betas):g}; b1 must be below 1")
    data = ll.load_dataset(dataset, split="train", data_dir=data_dir).subset(samples, seed)
    histories = {beta: train(data, beta, lr, steps, every, hidden=hidden, seed=seed) for beta in betas}
    record(
        __file__,
        [row_of(beta, history) for beta, history in histories.items()],
        out,
        paper="Cohen et al. 2022, Adaptive Gradient Methods at the Edge of Stability",
        claim="Full-batch Adam reaches a preconditioned sharpness of (2 + 2 b1) / ((1 - b1) lr) and stays there",
        settings=settings,
        histories={
            beta: {name: np.round(getattr(history, name), 6).tolist() for name in ("steps", "loss", "preconditioned")}
            for beta, history in histories.items()
        },
    )
    ll.cli.wrote(ll.save_figure(draw(histories), out / "adam_edge.png"))


def train(
    data: ll.Data, beta: float, lr: float, steps: int, every: int, *, hidden: int, seed: int
) -> ll.results.SharpnessHistory:
    """Full-batch Adam on the squared error, with its sharpness on the way."""
    classes = len(data.classes)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(data.inputs[0].numel(), hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
        nn.Linear(hidden, classes),
    )  # fmt: skip
    objective = ll.objective(model, data, loss="mse", device="cpu")
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(beta, 0.999))
    recorder = ll.SharpnessRecorder(objective, model, optimizer, measures=("preconditioned",), every=every)
    onehot = F.one_hot(data.targets, classes).float()
    for _ in range(steps + 1):
        optimizer.zero_grad()
        F.mse_loss(model(data.inputs), onehot).backward()
        optimizer.step()
    history = recorder.history
    last, threshold = history.preconditioned[-1], history.threshold[-1]
    print(
        f"b1 {beta:g}: loss {history.loss[-1]:.3g}, preconditioned sharpness {last:.0f} of {threshold:.0f}", flush=True
    )
    return history


def row_of(beta: float, history: ll.results.SharpnessHistory) -> Row:
    """The preconditioned sharpness of the second half of training, beside the threshold of the paper."""
    late = (history.preconditioned / history.threshold)[len(history) // 2 :]
    median, factor = float(np.median(late)), (2 + 2 * beta) / (1 - beta)
    return Row(
        f"preconditioned sharpness in the second half of training, b1 = {beta:g}", f"{factor:.3g} / lr",
        f"{median * factor:.3g} / lr ({late.min() * factor:.3g} to {late.max() * factor:.3g})", "figure 1, section 3",
        abs(median - 1) <= 0.1, "the median within 10 %",
    )  # fmt: skip


def draw(histories: dict[float, ll.results.SharpnessHistory]) -> Figure:
    """A panel for each b1, with the threshold."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, len(histories), figsize=(4.2 * len(histories), 3.6), layout="constrained", squeeze=False
    )
    for ax, (beta, history) in zip(panels[0], histories.items(), strict=True):
        ll.plot_sharpness(history, ax)
        ax.set_title(f"b1 = {beta:g}")
    return figure


if __name__ == "__main__":
    ll.cli.run_script(main)
