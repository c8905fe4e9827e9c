"""Weight decay flips which of two minima looks sharp on the line between them, but not after normalisation.

    python examples/reproductions/weight_decay_flip.py                          # minutes on two cores
    python examples/reproductions/weight_decay_flip.py --dataset digits --samples 60 --small 10 --epochs 1 --lines 2

Networks with BatchNorm learn MNIST by SGD with small and with large batches, without and with weight decay, for equally
many epochs. On the straight line between the network of small batches (at 0) and that of large ones (at 1) the
perturbation is the same for both, so that the network with the smaller weights looks sharper. With weight decay these
are the weights of small batches, whose training takes more steps. Along random directions that are filter-normalised,
the perturbation is relative to the weights.

Source: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", figures 2 and 3, on CIFAR-10 with VGG-9, in
batches of 128 and 8,192, weight decay 0 and 0.0005. Here: two hidden layers of 100, 2,000 images of MNIST, batches of
64 and 1,000, weight decay 0 and 0.005; the statistics of BatchNorm are computed anew at every point between the
networks. The line is sharper at the end from which the training loss rises more over half the distance beyond it. The
script writes weight_decay_flip.json and weight_decay_flip.png to --out.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["main"]

SMALL, LARGE = "small batches", "large batches"
COLORS = {SMALL: "#0072B2", LARGE: "#D55E00"}  # of the colour-blind-safe set of Okabe and Ito
PUBLISHED_ERRORS = {False: "7.37 %, 11.07 %", True: "6.0 %, 10.19 %"}  # figure 2: without and with weight decay


class Pair(NamedTuple):
    """Two networks, and the loss on lines through them; the first is that of small batches."""

    between: ll.Surface  # [A], on the straight line, small batches at 0 and large ones at 1
    random: list[list[ll.Surface]]  # for each network, the filter-normalised random lines through it
    norms: list[float]  # of the weight matrices
    errors: list[float]  # on test images


def main(
    dataset: str = "mnist",
    samples: int = 2000,
    small: int = 64,
    large: int = 1000,
    epochs: int = 150,
    lr: float = 0.02,
    weight_decay: float = 5e-3,
    hidden: int = 100,
    lines: int = 10,
    seed: int = 0,
    data_dir: Path = Path("data"),
    out: Path = Path("reproduction_results"),
) -> None:
    """Train four networks, and compare the loss along the lines between them and along random lines.

    Args:
        dataset: Data set by name.
        samples: Training images, drawn from the seed.
        small: Images of a small batch.
        large: Images of a large batch.
        epochs: Epochs of each training; the learning rate is divided by 10 after half and three quarters of them.
        lr: Learning rate of SGD with momentum 0.9.
        weight_decay: Weight decay of the second pair of networks; the first has none.
        hidden: Units of each of two hidden layers.
        lines: Random lines through each network.
        seed: Seed of images, weights and order.
        data_dir: Folder of the data sets, also for downloads.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    ll.cli.check_number("weight_decay", weight_decay, above=0)
    ll.cli.check_count("lines", lines, least=2)
    ll.cli.check_count("large", large, least=small + 1)
    train, test = (ll.load_dataset(dataset, split=split, data_dir=data_dir) for split in ("train", "test"))
    train = train.subset(samples, seed)
    pairs = {}
    for decay in (0.0, weight_decay):
        networks, errors = [], []
        for size in (small, large):
            networks.append(mlp(train, hidden, seed))
            milestones = tuple(sorted({max(1, epochs // 2), max(1, epochs * 3 // 4)}))
            history = ll.fit(
                networks[-1], train, test, epochs=epochs, batch_size=size, lr=lr, momentum=0.9, weight_decay=decay,
                seed=seed, milestones=milestones, device="cpu",
            )  # fmt: skip
            errors.append(1 - history[-1]["test_accuracy"])
        pairs[decay] = compare(networks, train, errors, lines)
    record(
        __file__,
        [row for decay, pair in pairs.items() for row in rows_of(decay, pair)],
        out,
        paper="Li et al. 2018, Visualizing the Loss Landscape of Neural Nets",
        claim="Weight decay flips which of two minima looks sharp on the line between them, but not after filter "
        "normalisation",
        settings=settings,
        pairs={decay: numbers(pair) for decay, pair in pairs.items()},
    )
    ll.cli.wrote(ll.save_figure(draw(pairs), out / "weight_decay_flip.png"))


def mlp(data: ll.Data, hidden: int, seed: int) -> nn.Module:
    """A network with two hidden layers and BatchNorm."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (data.inputs[0].numel(), hidden):
        layers += [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, len(data.classes)))


def compare(networks: list[nn.Module], data: ll.Data, errors: list[float], lines: int) -> Pair:
    """The loss on the line between two networks, and on random lines through each."""
    objectives = [ll.objective(network, data, device="cpu") for network in networks]
    line = ll.interpolation_line(*networks)
    between = ll.evaluate(objectives[0], line, alpha_range=(-0.5, 1.5), resolution=41, progress=False)
    random = [
        [
            ll.evaluate(objective, ll.random_line(network, seed=k), alpha_range=(-1, 1), resolution=17, progress=False)
            for k in range(lines)
        ]
        for objective, network in zip(objectives, networks, strict=True)
    ]
    matrices = [{name: value for name, value in ll.parameters_of(n).items() if value.ndim > 1} for n in networks]
    return Pair(between, random, [ll.norm(point) for point in matrices], errors)


def rises(pair: Pair) -> tuple[list[float], list[list[float]]]:
    """The rise of the loss beyond the two ends, and along each random line at half a filter norm, on average."""
    loss, alphas = pair.between.loss, pair.between.alphas
    at = {alpha: float(loss[np.abs(alphas - alpha).argmin()]) for alpha in (-0.5, 0, 1, 1.5)}
    along = [
        [
            float(line.loss[np.abs(np.abs(line.alphas) - 0.5) < 1e-6].mean() - line.loss[len(line.loss) // 2])
            for line in lines
        ]
        for lines in pair.random
    ]
    return [at[-0.5] - at[0], at[1.5] - at[1]], along


def rows_of(decay: float, pair: Pair) -> list[Row]:
    """What the paper shows with and without weight decay, and what was measured."""
    ends, along = rises(pair)
    means, spreads = zip(*((np.mean(v), np.std(v, ddof=1) / len(v) ** 0.5) for v in along), strict=True)
    sharper, name = (SMALL, "smaller") if decay else (LARGE, "larger"), f"weight decay {decay:g}"
    ratio = pair.norms[0] / pair.norms[1]
    return [
        Row(
            f"{name}: sharper on the line between them", sharper[0],
            f"{(SMALL, LARGE)[int(ends[1] > ends[0])]} (rises {ends[0]:.2g}, {ends[1]:.2g})", "figure 2",
            (ends[0] > ends[1]) == bool(decay), "the same",
        ),
        Row(
            f"{name}: weights of small batches", sharper[1], f"{ratio:.2f} times those of large ones",
            "figure 2, histograms", (ratio < 1) == bool(decay), "the same",
        ),
        Row(
            f"{name}: sharper along filter-normalised directions", LARGE,
            f"{(SMALL, LARGE)[int(means[1] > means[0])]} "
            f"(rises {means[0]:.2g} ± {spreads[0]:.1g}, {means[1]:.2g} ± {spreads[1]:.1g})", "figure 3",
            bool(means[1] - means[0] > 2 * np.hypot(*spreads)), "by more than two standard errors",
        ),
        Row(
            f"{name}: test error of small, large batches", PUBLISHED_ERRORS[decay > 0],
            ", ".join(f"{100 * error:.2f} %" for error in pair.errors), "figure 2", pair.errors[0] < pair.errors[1],
            "small batches are better",
        ),
    ]  # fmt: skip


def numbers(pair: Pair) -> dict[str, object]:
    """All that was measured, in JSON types."""
    return {
        "alphas": pair.between.alphas.tolist(),
        "loss": pair.between.loss.tolist(),
        "random_lines": [[line.loss.tolist() for line in lines] for lines in pair.random],
        "weight_norms": pair.norms,
        "test_errors": pair.errors,
    }


def draw(pairs: dict[float, Pair]) -> Figure:
    """For each weight decay a row: the line between the networks, and the mean of the random lines through each."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(pairs), 2, figsize=(8.4, 3.2 * len(pairs)), layout="constrained", sharex="col")
    for (left, right), (decay, pair) in zip(panels, pairs.items(), strict=True):
        left.plot(pair.between.alphas, pair.between.loss, color="0.2", linewidth=1.4)
        left.set_title(f"weight decay {decay:g}: the line between them", fontsize=10)
        left.set_ylabel("training loss")
        for alpha, (name, color), lines in zip((0, 1), COLORS.items(), pair.random, strict=True):
            left.axvline(alpha, color=color, linewidth=1, linestyle="--", label=name)
            right.plot(
                lines[0].alphas, np.mean([line.loss for line in lines], 0), color=color, linewidth=1.4, label=name
            )
        right.set_title(f"weight decay {decay:g}: mean of filter-normalised lines", fontsize=10)
        right.set_yscale("log")
    panels[0, 0].legend(fontsize=8)
    panels[0, 1].legend(fontsize=8)
    panels[-1, 0].set_xlabel("distance from small (0) to large batches (1)")
    panels[-1, 1].set_xlabel("multiples of the filter norm")
    return figure


if __name__ == "__main__":
    ll.cli.run_script(main)
