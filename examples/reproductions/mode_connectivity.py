"""Two networks that a barrier separates on the straight line are connected by curves of nearly constant loss.

    python examples/reproductions/mode_connectivity.py                          # minutes on two cores
    python examples/reproductions/mode_connectivity.py --dataset digits --width 16 --epochs 3 --curve-epochs 2 --grid 5

Two networks 784-128-128-10 are trained on MNIST from different seeds. Between them go the straight line, a quadratic
Bezier curve and a polygonal chain, the latter two with one bend, which is trained so that the expected loss at a random
point of the curve is small. The figure shows the planes through both networks and a bend, and the loss along the paths.

Source: Garipov et al. 2018, "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", sections 3 and 4, figures
1 and 2, with ResNet-164 on CIFAR-100 and others, trained by SGD with weight decay. Here the networks and the curves are
trained by Adam, without weight decay. With --width 64 the Bezier curve just misses what counts as
agreement: the loss rises by 2.05 % of the rise on the line, the test error by 0.53 percentage points. The script writes
mode_connectivity.json and mode_connectivity.png to --out.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["main"]

NAMES = {"segment": "the segment", "bezier": "the Bezier curve", "polygon": "the polygonal chain"}
KINDS = ("bezier", "polygon")


def main(
    dataset: str = "mnist",
    width: int = 128,
    epochs: int = 10,
    lr: float = 1e-3,
    curve_epochs: int = 10,
    curve_lr: float = 1e-3,
    seeds: tuple[int, int] = (0, 1),
    subset: int = 10_000,
    resolution: int = 41,
    grid: int = 25,
    data_dir: Path = Path("data"),
    out: Path = Path("reproduction_results"),
) -> None:
    """The loss on straight and curved paths between two networks with two hidden layers.

    Args:
        dataset: Data set by name.
        width: Units of each hidden layer.
        epochs: Passes of Adam over all training data, in batches of 128.
        lr: Learning rate at the start; it falls by a cosine.
        curve_epochs: Passes over all training data that the bend of each curve is trained for.
        curve_lr: Learning rate of the bends at the start.
        seeds: Seeds of the two networks, for initial weights and order of the samples.
        subset: Number of training samples on which the loss is drawn, from the first seed.
        resolution: Number of points on every path.
        grid: Number of points along both axes of the planes.
        data_dir: Folder of the data sets, also for downloads.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    train, test = (ll.load_dataset(dataset, split=split, data_dir=data_dir) for split in ("train", "test"))
    networks = []
    for seed in seeds:
        torch.manual_seed(seed)
        network = ll.build_model(
            "mlp", input_shape=train.inputs.shape[1:], classes=len(train.classes), depth=2, width=width
        )
        ll.fit(
            network, train, test, epochs=epochs, batch_size=128, lr=lr, seed=seed, optimizer="adam", schedule="cosine",
            device="cpu",
        )  # fmt: skip
        networks.append(network)
    everything, few, unseen = (
        ll.objective(networks[0], data, device="cpu")
        for data in (train, train.subset(min(subset, len(train)), seeds[0]), test)
    )
    curves = {
        kind: ll.fit_curve(
            everything, *networks, kind=kind, bends=1, epochs=curve_epochs, lr=curve_lr, seed=seeds[0]
        )
        for kind in KINDS
    }  # fmt: skip
    paths: dict[str, ll.Line] = {"segment": ll.interpolation_line(*networks), **curves}
    on_train, on_test = (
        {name: barrier_on(target, path, resolution) for name, path in paths.items()} for target in (few, unseen)
    )
    print(f"{few.size:,} training samples\n{ll.cli.barrier_table(on_train)}")
    print(f"{unseen.size:,} test samples\n{ll.cli.barrier_table(on_test)}")
    record(
        __file__,
        [row for name in paths for row in rows_of(name, on_train, on_test)],
        out,
        paper="Garipov et al. 2018, Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs",
        claim="Networks that a barrier separates on the straight line are connected by curves of nearly constant loss",
        settings=settings,
        train={name: numbers(entry) for name, entry in on_train.items()},
        test={name: numbers(entry) for name, entry in on_test.items()},
    )
    ll.cli.wrote(ll.save_figure(draw(few, networks, curves, on_train, grid), out / "mode_connectivity.png"))


def barrier_on(target: ll.Objective, path: ll.Line, resolution: int) -> ll.results.Barrier:
    """The loss on a path from one network (t = 0) to another (t = 1)."""
    return ll.results.Barrier.of(ll.evaluate(target, path, alpha_range=(0, 1), resolution=resolution))


def rows_of(name: str, train: dict[str, ll.results.Barrier], test: dict[str, ll.results.Barrier]) -> list[Row]:
    """The largest training loss and test error on a path, beside what the paper says."""
    loss, error = train[name].surface.loss, 1 - test[name].surface.accuracy
    ends, end_errors = max(loss[0], loss[-1]), max(error[0], error[-1])
    rise = train["segment"].above_larger_end
    high = name == "segment"
    loss_agrees = rise > ends if high else train[name].above_larger_end <= 0.02 * rise
    error_agrees = max(error) > 2 * end_errors if high else max(error) <= end_errors + 0.005
    return [
        Row(
            f"largest training loss on {NAMES[name]}", "high" if high else "nearly that of the networks",
            f"{max(loss):.3g} (networks: {ends:.3g})", "section 4, figure 2", bool(loss_agrees),
            "more than twice that of the networks" if high else "the rise is at most 2 % of that on the segment",
        ),
        Row(
            f"largest test error on {NAMES[name]}", "high" if high else "nearly that of the networks",
            f"{max(error):.2%} (networks: {end_errors:.2%})", "section 4, figure 2", bool(error_agrees),
            "more than twice that of the networks" if high else "at most half a percentage point more",
        ),
    ]  # fmt: skip


def numbers(entry: ll.results.Barrier) -> dict:
    """The numbers of a barrier, with losses and accuracies along its path."""
    return {**entry.numbers, "loss": entry.surface.loss.tolist(), "accuracies": entry.surface.accuracy.tolist()}


def draw(
    target: ll.Objective,
    networks: list[nn.Module],
    curves: dict[str, ll.Line],
    barriers: dict[str, ll.results.Barrier],
    grid: int,
) -> Figure:
    """The planes through both networks and the bend of each curve, and the loss along all paths."""
    figure, (*panels, right) = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
    for ax, (kind, curve) in zip(panels, curves.items(), strict=True):
        plane = ll.three_point_plane(*networks, curve.points[1])
        surface = ll.evaluate(
            target.subset(min(2000, target.size), 0), plane, alpha_range=(-0.25, 1.25), beta_range=(-0.25, 1.25),
            resolution=grid,
        )  # fmt: skip
        ll.plot_contour(surface, ax, log_scale=True)
        path = ll.project([curve(t) for t in np.linspace(0, 1, 41)], plane, progress=False).coordinates
        ax.plot(*path.T, color="white", linewidth=2)
        ax.set(title=f"{NAMES[kind]} in its plane", xlabel="α (1 = second model)", ylabel="β (1 = bend)")
    ll.plot_barriers(barriers, right, log_scale=True)
    return figure


if __name__ == "__main__":
    ll.cli.run_script(main)
