"""Train a linear classifier on MNIST and keep it in a checkpoint for the landscape scripts.

    python train_mnist.py                                   # all of MNIST, 10 epochs, 92-93 % on the test set
    python train_mnist.py --dataset mnist-5k                # 5,000 digits that need no download
    python train_mnist.py --dataset fashion-mnist --out fashion.pth
    python train_mnist.py --epochs 2 --limit 5000           # a quick look

The model is always trained anew and the checkpoint replaced, whole, when training has ended. Load it again:

    from landscape_lib import load_checkpoint
    checkpoint = load_checkpoint("mnist_linear_model.pth")  # .model (eval mode), .metadata

or with plain torch:

    import torch
    from train_mnist import LinearMNIST
    model = LinearMNIST()
    model.load_state_dict(torch.load("mnist_linear_model.pth")["model_state_dict"])
"""

from pathlib import Path
from typing import Any

from landscape_lib import (
    LinearMNIST,
    Training,
    build_model,
    cli,
    fit,
    load_dataset,
    save_checkpoint,
    seed_everything,
    select_device,
)

__all__ = ["LinearMNIST", "main"]


def main(
    dataset: str = "auto",
    data_dir: Path = Path("data"),
    limit: int | None = None,
    epochs: int = 10,
    batch_size: int = 64,
    lr: float = 0.01,
    seed: int = 42,
    device: str = "auto",
    out: Path = Path("mnist_linear_model.pth"),
) -> None:
    """Train a linear classifier on MNIST (SGD, cross-entropy) and save it as a checkpoint.

    Args:
        dataset: Data set: mnist, mnist-5k, fashion-mnist, digits, cifar10, folder:PATH, or auto (all of MNIST
            if it is there or can be downloaded, otherwise mnist-5k, with a warning).
        data_dir: Folder where data sets are looked for and downloaded to.
        limit: Train on the first LIMIT samples only; the test set stays whole.
        epochs: Passes over the training data.
        batch_size: Samples per step.
        lr: Learning rate of plain SGD.
        seed: Seed of the initial weights and of the order of the samples.
        device: auto (the first there of cuda, mps, cpu), cpu, cuda, cuda:N or mps.
        out: Checkpoint to write; an existing one is replaced.
    """
    settings: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    Training(**settings).check()
    cli.check_count("limit", limit)
    place = select_device(device)
    cli.prepare_checkpoint(out)
    seed_everything(seed)
    train = load_dataset(dataset, split="train", data_dir=data_dir, limit=limit)
    test = load_dataset(train.name, split="test", data_dir=data_dir)
    print(f"Data: {train.name}, {len(train):,} training and {len(test):,} test samples ({train.source})")
    print(f"Settings: {settings}, device {place}")

    arguments: dict[str, Any] = {"input_shape": tuple(train.inputs.shape[1:]), "classes": len(train.classes)}
    model = build_model("linear-mnist", **arguments)
    history = fit(model, train, test, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, device=device)
    save_checkpoint(
        out,
        model,
        model_name="linear-mnist",
        model_arguments=arguments,
        data={"name": train.name, "split": train.split, "limit": limit, "source": train.source},
        epoch=epochs,
        metrics=history[-1],
        settings=settings,
    )
    print(f"Wrote {out} ({train.name}, test accuracy {history[-1]['test_accuracy']:.2%})")


if __name__ == "__main__":
    cli.run_script(main)
