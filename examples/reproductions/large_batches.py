"""Large batches train an MNIST network to sharper minima than small batches do.

    python examples/reproductions/large_batches.py                              # minutes on two cores
    python examples/reproductions/large_batches.py --dataset digits --samples 60 --small 3 --hidden 9 --epochs 1 1

Fully connected networks with five hidden layers, BatchNorm and ReLU learn MNIST by Adam, with batches of 10 % of the
images and with small ones. Then the sharpness is measured: 100 (max L(theta + e) - L(theta)) / (1 + L(theta)) for the
training loss L and perturbations |e_i| <= r (|theta_i| + 1), by ten iterations of L-BFGS-B.

Source: Keskar et al. 2017, "On Large-Batch Training for Deep Learning: Generalization Gap and Sharp Minima", row F1 of
table 3 (five hidden layers of 512, all of MNIST, batches of 256 and 6,000, five runs), and table 2 for the accuracies.
Here: five hidden layers of 128, 5,000 images, batches of 20 and 500 (the same shares of the data), three runs; the
sharpness is that of 1,000 of the training images. The values depend on the number of parameters and are not expected to
be equal; their order is. The script writes large_batches.json to --out.
"""

import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["main"]

# Table 3, row F1: radius -> small and large batches. Table 2: the accuracies.
PUBLISHED = {1e-3: ("1.23 ± 0.83", "205.14 ± 69.52"), 5e-4: ("0.61 ± 0.27", "42.90 ± 17.14")}
PUBLISHED_ACCURACIES = {"train_accuracy": ("99.66 %", "99.92 %"), "test_accuracy": ("98.03 %", "97.81 %")}


def main(
    dataset: str = "mnist",
    samples: int = 5000,
    measured: int = 1000,
    hidden: int = 128,
    small: int = 20,
    epochs: tuple[int, int] = (40, 100),
    lr: float = 1e-3,
    seeds: tuple[int, ...] = (0, 1, 2),
    data_dir: Path = Path("data"),
    out: Path = Path("reproduction_results"),
) -> None:
    """Train networks with small and large batches, and compare the sharpness of what they reach.

    Args:
        dataset: Data set by name.
        samples: Training images; a large batch has a tenth of them.
        measured: Training images for the sharpness, at most.
        hidden: Units of each of five hidden layers.
        small: Images of a small batch.
        epochs: Epochs with small and with large batches, each enough for the training loss to settle.
        lr: Learning rate of Adam.
        seeds: Seeds of the runs, for weights and order.
        data_dir: Folder of the data sets, also for downloads.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    ll.cli.check_count("samples", samples, least=10 * small + 10)
    train, test = (ll.load_dataset(dataset, split=split, data_dir=data_dir) for split in ("train", "test"))
    train = train.subset(samples, 0)
    runs: dict[str, list[dict[str, Any]]] = {"small": [], "large": []}
    for seed in seeds:
        for (kind, results), size, count in zip(runs.items(), (small, samples // 10), epochs, strict=True):
            results.append(run(train, test, size, count, hidden=hidden, lr=lr, seed=seed, measured=measured))
            print(f"seed {seed}, {kind} batches: {results[-1]}", flush=True)
    record(
        __file__,
        rows_of(runs),
        out,
        paper="Keskar et al. 2017, On Large-Batch Training for Deep Learning: Generalization Gap and Sharp Minima",
        claim="Large batches train an MNIST network to sharper minima than small batches do",
        settings=settings,
        runs=runs,
    )


def run(
    train: ll.Data, test: ll.Data, size: int, epochs: int, *, hidden: int, lr: float, seed: int, measured: int
) -> dict[str, Any]:
    """Train a network with batches of ``size`` images; its losses, accuracies and sharpness."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (train.inputs[0].numel(), hidden, hidden, hidden, hidden):
        layers += [nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(hidden, len(train.classes)))
    history = ll.fit(
        model, train, test, epochs=epochs, batch_size=size, lr=lr, optimizer="adam", seed=seed, device="cpu"
    )  # fmt: skip
    trained = ll.cli.score(model, train)
    objective = ll.objective(model, train.subset(min(measured, len(train)), seed), device="cpu")
    sharpness = {r: ll.sharpness(objective, model, "keskar", radius=r, samples=1, seed=seed).value for r in PUBLISHED}
    return {
        "train_loss": trained["loss"],
        "train_accuracy": trained["accuracy"],
        "test_accuracy": history[-1]["test_accuracy"],
        "sharpness": sharpness,
    }


def rows_of(runs: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """The sharpness of both kinds of minima for both radii, and the accuracies."""
    rows = []
    for radius, published in PUBLISHED.items():
        small, large = ([one["sharpness"][radius] for one in results] for results in runs.values())
        ratio = statistics.mean(large) / statistics.mean(small)
        rows.append(Row(
            f"sharpness for r = {radius:g}: small and large batches", " and ".join(published),
            f"{spread(small)} and {spread(large)}, {ratio:.3g} times", "table 3, F1", min(large) > max(small),
            "every large one above every small one",
        ))  # fmt: skip
    for kind, published in PUBLISHED_ACCURACIES.items():
        means = [100 * statistics.mean(one[kind] for one in results) for results in runs.values()]
        trained = kind == "train_accuracy"
        rows.append(Row(
            f"{'training' if trained else 'test'} accuracy: small and large batches", " and ".join(published),
            f"{means[0]:.2f} % and {means[1]:.2f} %", "table 2, F1",
            min(means) > 99 if trained else means[0] > means[1], "both above 99 %" if trained else "small above large",
        ))  # fmt: skip
    return rows


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


if __name__ == "__main__":
    ll.cli.run_script(main)
