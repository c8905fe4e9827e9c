"""Train a linear classifier on MNIST, and keep it in a checkpoint for the landscape scripts.

    python train_mnist.py                                   # all of MNIST, 10 epochs, 92-93 % on the test set
    python train_mnist.py --dataset mnist-5k --out digits.pth   # 5,000 digits that need no download
    python train_mnist.py --dataset fashion-mnist --out fashion.pth
    python train_mnist.py --epochs 2 --limit 5000 --out quick.pth   # a quick look

The model is always trained anew; the checkpoint is replaced as a whole at the end of training. A checkpoint of another
network or data set is refused and stays, unless --force is given. The same command resumes a training
that was interrupted. The checkpoint is loaded with

    from landscape_lib import load_checkpoint
    checkpoint = load_checkpoint("mnist_linear_model.pth")  # .model (eval mode), .metadata

or with plain torch:

    import torch
    from train_mnist import LinearMNIST
    model = LinearMNIST()
    model.load_state_dict(torch.load("mnist_linear_model.pth")["model_state_dict"])
"""

from pathlib import Path

from landscape_lib import (
    LinearMNIST,
    Training,
    cli,
    load_dataset,
    select_device,
)

__all__ = ["LinearMNIST", "main"]
DEFAULTS = cli.DEFAULT_TRAINING  # the scripts that draw train the same network where its checkpoint is missing


def main(
    dataset: str = "auto",
    data_dir: Path = Path("data"),
    limit: int | None = None,
    epochs: int = DEFAULTS.epochs,
    batch_size: int = DEFAULTS.batch_size,
    lr: float = DEFAULTS.lr,
    seed: int = DEFAULTS.seed,
    device: str = "auto",
    out: Path = cli.DEFAULT_CHECKPOINT,
    force: bool = False,
) -> None:
    """Train a linear classifier on MNIST (SGD, cross-entropy) and save it as a checkpoint.

    Args:
        dataset: Data set: mnist, mnist-5k, fashion-mnist, digits, cifar10, folder:PATH, or auto.
            auto is all of MNIST if it is there or can be downloaded, otherwise mnist-5k, with a warning.
        data_dir: Folder of the data sets, also for downloads.
        limit: Train on the first LIMIT samples only; the test set stays whole.
        epochs: Passes over the training data.
        batch_size: Samples per step.
        lr: Learning rate of plain SGD.
        seed: Seed of the initial weights and of the order of the samples.
        device: Device: cpu, cuda, cuda:N or mps. auto takes the first one available of cuda, mps, cpu.
        out: Checkpoint to write; that of the same network and data set is replaced, others are refused.
        force: Replace the checkpoint at OUT whatever it holds.
    """
    training = Training(epochs=epochs, batch_size=batch_size, lr=lr, seed=seed)
    training.check()
    cli.check_count("limit", limit)
    cli.check_folder("data_dir", data_dir)
    place = select_device(device)
    cli.prepare_checkpoint(out)
    train = load_dataset(dataset, split="train", data_dir=data_dir, limit=limit)
    test = load_dataset(train.name, split="test", data_dir=data_dir)
    if not force:
        with cli.advised("write into another file with --out FILE, or replace it with --force"):
            cli.check_replacement(out, "linear-mnist", train)
    print(f"Data: {train.name}, {len(train):,} training and {len(test):,} test samples ({train.source})")
    print(f"Settings: {cli.describe(training)}, device {place}")
    cli.train_checkpoint(out, "linear-mnist", train, test, training, limit=limit, device=device)


if __name__ == "__main__":
    cli.run_script(main)
