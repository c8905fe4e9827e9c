"""A network of 199,210 parameters learns MNIST in a random subspace of some 750 dimensions: its intrinsic dimension.

    python examples/reproductions/intrinsic_dimension.py                        # minutes on two cores
    python examples/reproductions/intrinsic_dimension.py --dataset digits --width 20 --dimensions 20 100 --epochs 3

A network 784-200-200-10 is trained only in a random subspace of d dimensions through its initial weights, theta =
theta_0 + P z, where z [d] is trained by Adam and P [199,210, d] is fixed. Its accuracy on the test images grows with d;
the intrinsic dimension d_int90 is the d at which it reaches 90 % of the accuracy of the network that is trained in
all of its parameters.

Source: Li, Farkhoor, Liu and Yosinski 2018, "Measuring the Intrinsic Dimension of Objective Landscapes", table 1. They
train for 100 epochs with a dense Gaussian P; here for 8, at ten times their learning rate, which decays to zero, and
with the sparse P of their section on scaling: sqrt(199,210) = 446 entries of random sign in every column, which has
length 1. The script writes intrinsic_dimension.json and intrinsic_dimension.png to --out.
"""

import math
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["Subspace", "crossing", "main"]

SHARE = 0.9  # of the accuracy of full training
PUBLISHED = 750


def main(
    dataset: str = "mnist",
    width: int = 200,
    dimensions: tuple[int, ...] = (100, 200, 300, 400, 500, 600, 700, 800, 1000, 1500),
    epochs: int = 8,
    lr: float = 1e-2,
    batch_size: int = 128,
    seed: int = 0,
    data_dir: Path = Path("data"),
    out: Path = Path("reproduction_results"),
) -> None:
    """Train in random subspaces of several dimensions, and in all parameters.

    Args:
        dataset: Data set by name.
        width: Units of each of two hidden layers.
        dimensions: Dimensions of the subspaces, increasing.
        epochs: Passes of Adam over all training data.
        lr: Learning rate at the start, in a subspace; a tenth of it where all parameters are trained.
        batch_size: Samples of a step.
        seed: Seed of initial weights, subspaces and order of the samples.
        data_dir: Folder of the data sets, also for downloads.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    if [*dimensions] != sorted(set(dimensions)):
        raise ll.InputError(f"dimensions are {', '.join(map(str, dimensions))}; they must increase")
    train, test = (ll.load_dataset(dataset, split=split, data_dir=data_dir) for split in ("train", "test"))
    training = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "optimizer": "adam", "schedule": "cosine"}

    def accuracy(dimension: int | None) -> float:
        torch.manual_seed(seed)
        shape = train.inputs.shape[1:]
        network = ll.build_model("mlp", input_shape=shape, classes=len(train.classes), depth=2, width=width)
        trained = network if dimension is None else Subspace(network, dimension, seed)
        rate = lr / 10 if dimension is None else lr
        return ll.fit(trained, train, test, lr=rate, device="cpu", **training)[-1]["test_accuracy"]

    full, accuracies = accuracy(None), [accuracy(dimension) for dimension in dimensions]
    measured = crossing(dimensions, accuracies, SHARE * full)
    record(
        __file__,
        [
            Row(
                "intrinsic dimension d_int90", str(PUBLISHED), "not reached" if measured is None else f"{measured:.0f}",
                "table 1", measured is not None and abs(measured - PUBLISHED) <= PUBLISHED / 5, "within 20 %",
            ),
        ],
        out,
        paper="Li, Farkhoor, Liu and Yosinski 2018, Measuring the Intrinsic Dimension of Objective Landscapes",
        claim="A network of 199,210 parameters learns MNIST in a random subspace of about 750 dimensions",
        settings=settings,
        accuracy=full,
        accuracies=dict(zip(map(str, dimensions), accuracies, strict=True)),
    )  # fmt: skip
    ll.cli.wrote(ll.save_figure(draw(dimensions, accuracies, full, measured), out / "intrinsic_dimension.png"))


class Subspace(nn.Module):
    """``network`` at theta_0 + P z: its parameters theta_0 are fixed, and only z, from 0, is trained.

    P has ``dimension`` columns of length 1 with k = sqrt(D) nonzero entries 1 / sqrt(k) or -1 / sqrt(k) at random rows.
    Source: Li, Hastie and Church 2006, "Very Sparse Random Projections".
    """

    def __init__(self, network: nn.Module, dimension: int, seed: int):
        super().__init__()
        point = ll.parameters_of(network)
        self.shapes = {name: value.shape for name, value in point.items()}
        start, generator = torch.cat([value.flatten() for value in point.values()]), np.random.default_rng(seed)
        count = round(math.sqrt(len(start)))
        rows = np.stack(
            [generator.choice(len(start), count, replace=False, shuffle=False) for _ in range(dimension)]
        )  # fmt: skip
        signs = generator.choice((-1.0, 1.0), rows.shape)
        self.z = nn.Parameter(torch.zeros(dimension))
        self.register_buffer("start", start)  # theta_0 [D]
        self.register_buffer("rows", torch.from_numpy(rows).flatten())  # [d k]
        self.register_buffer("entries", torch.from_numpy(signs / math.sqrt(count)).to(start))  # [d, k]
        self.network = (network,)  # in a tuple, so that its parameters are none of this module

    def forward(self, inputs: Tensor) -> Tensor:
        theta = self.start.index_add(0, self.rows, (self.z[:, None] * self.entries).flatten())
        pieces = theta.split([shape.numel() for shape in self.shapes.values()])
        point = {name: piece.view(shape) for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)}
        logits: Tensor = functional_call(self.network[0], point, inputs)
        return logits


def crossing(dimensions: tuple[int, ...], accuracies: list[float], level: float) -> float | None:
    """The dimension at which the accuracy first reaches ``level``, linear between those tried; None if it does not."""
    reached = next((k for k, accuracy in enumerate(accuracies) if accuracy >= level), None)
    if not reached:
        return None if reached is None else float(dimensions[0])
    (x0, x1), (y0, y1) = dimensions[reached - 1 : reached + 1], accuracies[reached - 1 : reached + 1]
    return x0 + (x1 - x0) * (level - y0) / (y1 - y0)


def draw(dimensions: tuple[int, ...], accuracies: list[float], full: float, measured: float | None) -> Figure:
    """The accuracy against the dimension, with the level that defines the intrinsic dimension."""
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    ax = figure.subplots()
    ax.plot(dimensions, accuracies, "o-", color="#0072B2", label="trained in a random subspace")
    ax.axhline(full, color="0.3", linewidth=1, label="trained in all parameters")
    ax.axhline(SHARE * full, color="0.3", linewidth=1, linestyle="--", label=f"{SHARE:.0%} of that")
    if measured is not None:
        ax.axvline(measured, color="#D55E00", linewidth=1, linestyle=":", label=f"intrinsic dimension {measured:.0f}")
    ax.set(xlabel="dimension of the subspace", ylabel="accuracy on test images")
    ax.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    ll.cli.run_script(main)
