"""Measure the barrier between two networks trained from different seeds, before and after alignment.

    python examples/align_mnist.py                             # 784-512-512-512-10 on MNIST, minutes on two cores
    python examples/align_mnist.py --dataset digits --width 64 --epochs 20          # seconds, also offline
    python examples/align_mnist.py --curve bezier --curve-epochs 5                   # also a curve of low loss

Both networks are trained with the same settings except for the seed. Permuting the hidden units of the second network
does not change its outputs; the loss on the straight line to the first network is drawn before and after it. The script
writes barriers.png and barriers.json to --out.
"""

import sys
from pathlib import Path
from typing import Literal

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import landscape_lib as ll


def main(
    dataset: str = "mnist",
    width: int = 512,
    epochs: int = 5,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    seeds: tuple[int, int] = (0, 1),
    subset: int = 10_000,
    resolution: int = 25,
    curve: Literal["bezier", "polygon"] | None = None,
    curve_epochs: int = 10,
    data_dir: Path = Path("data"),
    device: str = "auto",
    out: Path = Path("alignment_results"),
) -> None:
    """Barriers between two networks with three hidden layers, before and after alignment.

    Args:
        dataset: Data set by name.
        width: Units of each hidden layer.
        epochs: Passes of Adam over all training data, in batches of 128.
        lr: Learning rate at the start; it falls by a cosine.
        weight_decay: L2 penalty.
        seeds: Seeds of the two networks, for initial weights and order of the samples.
        subset: Number of training samples for barriers and activations, drawn from the first seed.
        resolution: Number of points on every line.
        curve: Also train a curve between the two networks, on these samples.
        curve_epochs: Passes over these samples.
        data_dir: Folder of the data sets, also for downloads.
        device: auto, cpu, cuda, cuda:N or mps.
        out: Folder for the results.
    """
    out = ll.cli.make_folder(out)
    train, test = (ll.load_dataset(dataset, split=split, data_dir=data_dir) for split in ("train", "test"))
    settings = {"width": width, "epochs": epochs, "lr": lr, "weight_decay": weight_decay, "seeds": list(seeds)}
    networks, accuracies = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        network = mlp(train, width)
        history = ll.fit(
            network, train, test, epochs=epochs, batch_size=128, lr=lr, weight_decay=weight_decay, seed=seed,
            optimizer="adam", schedule="cosine", device=device,
        )  # fmt: skip
        networks.append(network)
        accuracies.append(history[-1]["test_accuracy"])
    few = train.subset(min(subset, len(train)), seeds[0])
    target, unseen = (ll.objective(networks[0], data, device=device) for data in (few, test))
    result = ll.connectivity(
        target, *networks, curve=curve, resolution=resolution, seed=seeds[0],
        **({"epochs": curve_epochs} if curve else {}),
    )  # fmt: skip
    on_test = {"unaligned": ll.barrier(unseen, *networks, resolution=resolution)}
    for method, aligned in result.alignments.items():
        on_test[f"aligned by {method}"] = ll.barrier(unseen, networks[0], aligned.model, resolution=resolution)
    print(f"{len(few):,} training samples\n{ll.cli.barrier_table(result.barriers)}")
    print(f"{len(test):,} test samples\n{ll.cli.barrier_table(on_test)}")
    wrote(ll.save_figure(ll.plot_barriers(result.barriers, log_scale=True), out / "barriers.png"))
    record = {
        "settings": {"dataset": dataset, **settings, "curve_epochs": curve_epochs if curve else None},
        "test_accuracies": accuracies,
        "train": {"samples": len(few), "barriers": numbers(result.barriers)},
        "test": {"samples": len(test), "barriers": numbers(on_test)},
        "alignments": {
            method: {"rounds": aligned.rounds, "converged": aligned.converged, "deviation": aligned.deviation}
            for method, aligned in result.alignments.items()
        },
    }
    wrote(ll.cli.write_json(out / "barriers.json", record))


def numbers(barriers: dict[str, ll.results.Barrier]) -> dict:
    """The numbers of each barrier, and the losses from which they are computed."""
    return {name: {**entry.numbers, "loss": entry.surface.loss.tolist()} for name, entry in barriers.items()}


def mlp(data: ll.Data, width: int) -> nn.Module:
    """A network with three hidden layers of ``width`` units."""
    sizes = (data.inputs[0].numel(), width, width, width)
    layers = [layer for k in range(3) for layer in (nn.Linear(sizes[k], sizes[k + 1]), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, len(data.classes)))


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    ll.cli.run_script(main)
