"""The barrier between two networks trained on MNIST from different seeds vanishes when their hidden units are aligned.

    python examples/reproductions/aligned_barrier.py                        # 784-512-512-512-10, minutes on two cores
    python examples/reproductions/aligned_barrier.py --dataset digits --width 16 --epochs 2 --subset 300 --resolution 3

Both networks are trained with the same settings except for the seed. Permuting the hidden units of the second network
does not change its outputs; the loss on the straight line to the first network is drawn before and after it.

Source: Ainsworth, Hayase and Srinivasa 2023, "Git Re-Basin: Merging Models modulo Permutation Symmetries", section 5.1
and figure 2, with three hidden layers of 512 units and 100 epochs in batches of 500. Here: 5 epochs of Adam in batches
of 128, with a learning rate that decays to zero. The script writes aligned_barrier.json and aligned_barrier.png to
--out.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import landscape_lib as ll
from examples.reproductions.table import Row, begin, record

__all__ = ["main"]

FIGURE = "section 5.1, figure 2"


def main(
    dataset: str = "mnist",
    width: int = 512,
    epochs: int = 5,
    lr: float = 1e-3,
    seeds: tuple[int, int] = (0, 1),
    subset: int = 10_000,
    resolution: int = 25,
    data_dir: Path = Path("data"),
    device: str = "auto",
    out: Path = Path("reproduction_results"),
) -> None:
    """Barriers between two networks with three hidden layers, before and after alignment.

    Args:
        dataset: Data set by name.
        width: Units of each hidden layer.
        epochs: Passes of Adam over all training data, in batches of 128.
        lr: Learning rate at the start; it falls by a cosine.
        seeds: Seeds of the two networks, for initial weights and order of the samples.
        subset: Number of training samples for barriers and activations, drawn from the first seed.
        resolution: Number of points on every line.
        data_dir: Folder of the data sets, also for downloads.
        device: auto, cpu, cuda, cuda:N or mps.
        out: Folder for the results.
    """
    settings = dict(locals())  # a copy: a debugger or a coverage tool may add to the original
    begin(settings)
    train, test = (ll.load_dataset(dataset, split=split, data_dir=data_dir) for split in ("train", "test"))
    networks, accuracies = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        network = mlp(train, width)
        history = ll.fit(
            network, train, test, epochs=epochs, batch_size=128, lr=lr, seed=seed, optimizer="adam", schedule="cosine",
            device=device,
        )  # fmt: skip
        networks.append(network)
        accuracies.append(history[-1]["test_accuracy"])
    few = train.subset(min(subset, len(train)), seeds[0])
    target, unseen = (ll.objective(networks[0], data, device=device) for data in (few, test))
    result = ll.connectivity(target, *networks, resolution=resolution, seed=seeds[0])
    on_test = {"unaligned": ll.barrier(unseen, *networks, resolution=resolution)}
    for method, aligned in result.alignments.items():
        on_test[f"aligned by {method}"] = ll.barrier(unseen, networks[0], aligned.model, resolution=resolution)
    print(f"{len(few):,} training samples\n{ll.cli.barrier_table(result.barriers)}")
    print(f"{len(test):,} test samples\n{ll.cli.barrier_table(on_test)}")
    record(
        __file__,
        rows_of(result.barriers, on_test),
        out,
        paper="Ainsworth, Hayase and Srinivasa 2023, Git Re-Basin: Merging Models modulo Permutation Symmetries",
        claim="The barrier between two networks with three hidden layers of 512 units vanishes when they are aligned",
        settings=settings,
        test_accuracies=accuracies,
        train={"samples": len(few), "barriers": numbers(result.barriers)},
        test={"samples": len(test), "barriers": numbers(on_test)},
        alignments={
            method: {"rounds": aligned.rounds, "converged": aligned.converged, "deviation": aligned.deviation}
            for method, aligned in result.alignments.items()
        },
    )
    ll.cli.wrote(ll.save_figure(ll.plot_barriers(result.barriers, log_scale=True), out / "aligned_barrier.png"))


def rows_of(train: dict[str, ll.results.Barrier], test: dict[str, ll.results.Barrier]) -> list[Row]:
    """The barriers of training and test data before and after alignment, beside what the paper says."""
    ends = [float(loss) for loss in train["unaligned"].surface.loss[[0, -1]]]

    def both(name: str) -> str:
        return f"{train[name].value:.3g} on training, {test[name].value:.3g} on test images"

    rows = [
        Row(
            "barrier without alignment", "large", both("unaligned"), FIGURE, train["unaligned"].value > 10 * max(ends),
            "at least ten times the loss of the networks",
        )
    ]  # fmt: skip
    for method in ("weights", "activations"):
        name = f"aligned by {method}"
        rows.append(
            Row(
                f"barrier after alignment by {method}", "about 0", both(name), FIGURE,
                max(train[name].value, test[name].value) <= 0.02 * train["unaligned"].value,
                "at most 2 % of that without",
            )
        )  # fmt: skip
    return rows


def numbers(barriers: dict[str, ll.results.Barrier]) -> dict:
    """The numbers of each barrier, and the losses from which they are computed."""
    return {name: {**entry.numbers, "loss": entry.surface.loss.tolist()} for name, entry in barriers.items()}


def mlp(data: ll.Data, width: int) -> nn.Module:
    """A network with three hidden layers of ``width`` units."""
    sizes = (data.inputs[0].numel(), width, width, width)
    layers = [layer for k in range(3) for layer in (nn.Linear(sizes[k], sizes[k + 1]), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, len(data.classes)))


if __name__ == "__main__":
    ll.cli.run_script(main)
