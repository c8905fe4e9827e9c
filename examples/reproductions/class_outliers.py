"""The Hessian of a classifier has about as many outlying eigenvalues as there are classes.

    python examples/reproductions/class_outliers.py                             # minutes on two cores
    python examples/reproductions/class_outliers.py --dataset digits --classes 3 --samples 60 --hidden 8 --epochs 1 2

Networks with two hidden layers learn MNIST or only its first C digits by SGD with momentum. After some epochs the
largest eigenvalues of the Hessian of the training loss are computed. The outliers are those before the largest ratio of
one eigenvalue and the next, among the 2 C largest. The table has their number at the epoch where this ratio is largest,
and at all others.

Source: Papyan 2019, "Measurements of Three-Level Hierarchical Structure in the Outliers in the Spectrum of Deepnet
Hessians", section 1: the number of outliers is about the number C of classes; they come from C means of gradients, for
VGG, ResNet and DenseNet on MNIST, Fashion-MNIST and CIFAR-10. Here: 784-64-64-C on 2,000 images. The script writes
class_outliers.json and class_outliers.png to --out.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["main", "outliers"]

Spectra = dict[int, np.ndarray]  # epoch -> [2 C], the largest eigenvalues, in falling order


def main(
    dataset: str = "mnist",
    classes: tuple[int, ...] = (3, 5, 7, 10),
    samples: int = 2000,
    hidden: int = 64,
    epochs: tuple[int, ...] = (1, 2, 4, 8, 16),
    seed: int = 0,
    data_dir: Path = Path("data"),
    out: Path = Path("reproduction_results"),
) -> None:
    """Train networks on the first classes of the data, and count the outlying eigenvalues of their Hessians.

    Args:
        dataset: Data set by name.
        classes: Numbers of classes C, a network for each.
        samples: Training images, drawn from the seed.
        hidden: Units of each of two hidden layers.
        epochs: Epochs after which the eigenvalues are computed.
        seed: Seed of images, weights and order.
        data_dir: Folder of the data sets, also for downloads.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    train, test = (ll.load_dataset(dataset, split=split, data_dir=data_dir) for split in ("train", "test"))
    for count in classes:
        ll.cli.check_count("classes", count, least=2, most=len(train.classes))
    spectra = {}
    for count in classes:
        own, other = (data.select((data.targets < count).nonzero().flatten()) for data in (train, test))
        spectra[count] = spectra_of(own.subset(min(samples, len(own)), seed), other, count, hidden, epochs, seed)
    record(
        __file__,
        [row_of(count, found) for count, found in spectra.items()],
        out,
        paper="Papyan 2019, Measurements of Three-Level Hierarchical Structure in the Outliers in the Spectrum of "
        "Deepnet Hessians",
        claim="The Hessian of a classifier has about as many outlying eigenvalues as there are classes",
        settings=settings,
        eigenvalues={count: {e: np.round(v, 6).tolist() for e, v in found.items()} for count, found in spectra.items()},
    )
    ll.cli.wrote(ll.save_figure(draw(spectra), out / "class_outliers.png"))


def spectra_of(train: ll.Data, test: ll.Data, count: int, hidden: int, epochs: tuple[int, ...], seed: int) -> Spectra:
    """The largest eigenvalues of the Hessian after some epochs of training on the first ``count`` classes."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(train.inputs[0].numel(), hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, count),
    )  # fmt: skip
    spectra: Spectra = {}

    def measure(epoch: int, network: nn.Module, _: dict[str, Any]) -> None:
        if epoch in epochs:
            objective = ll.objective(network, train, device="cpu")
            pairs = ll.top_eigenpairs(objective, network, k=2 * count, tol=1e-2, which="largest", progress=False)
            spectra[epoch] = pairs.values

    ll.fit(
        model, train, test, epochs=max(epochs), batch_size=64, lr=0.02, momentum=0.9, seed=seed, device="cpu",
        on_epoch=measure,
    )  # fmt: skip
    return spectra


def outliers(values: np.ndarray) -> tuple[int, float]:
    """The number of eigenvalues before the largest ratio of one and the next, and this ratio."""
    positive = values[values > 0]
    ratios = positive[:-1] / positive[1:]
    return int(ratios.argmax()) + 1, float(ratios.max())


def row_of(count: int, spectra: Spectra) -> Row:
    """The number of outliers at the epoch with the clearest gap, and at all epochs."""
    found = {epoch: outliers(values) for epoch, values in spectra.items()}
    clearest = max(found, key=lambda epoch: found[epoch][1])
    number, ratio = found[clearest]
    others = ", ".join(str(number) for number, _ in found.values())
    return Row(
        f"outliers for {count} classes", f"about {count}",
        f"{number} after epoch {clearest} (ratio {ratio:.2g}); {others} after epochs {', '.join(map(str, found))}",
        "section 1", number in (count - 1, count), "C or C - 1 at the clearest gap",
    )  # fmt: skip


def draw(spectra: dict[int, Spectra]) -> Figure:
    """A panel for each number of classes C: the eigenvalues after each epoch, and a line before the C-th."""
    import matplotlib.pyplot as plt

    columns = len(spectra)
    figure, panels = plt.subplots(1, columns, figsize=(3 * columns + 2, 3.4), layout="constrained", squeeze=False)
    for ax, (count, found) in zip(panels[0], spectra.items(), strict=True):
        for shade, (epoch, values) in zip(np.linspace(0.25, 1, len(found)), found.items(), strict=True):
            label = f"epoch {epoch}"
            ax.plot(
                np.arange(1, len(values) + 1), values, ".-", color="#0072B2", alpha=shade, linewidth=0.8, label=label
            )
        ax.axvline(count - 0.5, color="0.6", linestyle="--", linewidth=1, label="after C - 1 eigenvalues")
        ax.set(title=f"{count} classes", xlabel="number of the eigenvalue", yscale="log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0, 0].set_ylabel("Hessian eigenvalue")
    figure.legend(*panels[0, -1].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure


if __name__ == "__main__":
    ll.cli.run_script(main)
