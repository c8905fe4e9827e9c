"""Train a small convolutional network on CIFAR-10, and keep its best epoch in a checkpoint.

    python train_cifar10_cnn.py                             # 50 epochs; 73-74 % on the original pixels
    python train_cifar10_cnn.py --epochs 1 --limit 5000 --out quick.pth         # a quick look
    python train_cifar10_cnn.py --dataset folder:images --out images.pth        # images/{train,test}/<class>/*

The best epoch is the one with the highest accuracy on the test set. The checkpoint is replaced as a whole after the
first epoch and after each better one. A checkpoint of another network or data set is refused and stays, unless
--force is given. The same command resumes a training that was interrupted. The checkpoint is loaded with

    from landscape_lib import load_checkpoint
    checkpoint = load_checkpoint("cifar10_cnn_model.pth")   # .model (eval mode), .metadata

or with plain torch:

    import torch
    from train_cifar10_cnn import TinyCNN
    model = TinyCNN()
    model.load_state_dict(torch.load("cifar10_cnn_model.pth")["model_state_dict"])
"""

from pathlib import Path

from landscape_lib import (
    TinyCNN,
    Training,
    cli,
    load_dataset,
    select_device,
)

__all__ = ["TinyCNN", "main"]


def main(
    dataset: str = "cifar10",
    data_dir: Path = Path("data"),
    limit: int | None = None,
    epochs: int = 50,
    batch_size: int = 128,
    lr: float = 0.01,
    momentum: float = 0.9,
    milestones: tuple[int, ...] = (25, 40),
    seed: int = 42,
    device: str = "auto",
    out: Path = Path("cifar10_cnn_model.pth"),
    force: bool = False,
) -> None:
    """Train TinyCNN (SGD with momentum, cross-entropy) and save its best epoch as a checkpoint.

    Args:
        dataset: Data set: cifar10, folder:PATH, mnist, mnist-5k, fashion-mnist or digits.
            A folder holds images in PATH/train/<class>/ and PATH/test/<class>/.
        data_dir: Folder of the data sets, also for downloads.
        limit: Train on the first LIMIT samples only; the test set stays whole.
        epochs: Passes over the training data.
        batch_size: Samples per step.
        lr: Learning rate of SGD at the start.
        momentum: Momentum of SGD.
        milestones: Epochs after which the learning rate falls to a tenth.
        seed: Seed of the initial weights and of the order of the samples.
        device: Device: cpu, cuda, cuda:N or mps. auto takes the first one available of cuda, mps, cpu.
        out: Checkpoint to write; that of the same network and data set is replaced, others are refused.
        force: Replace the checkpoint at OUT whatever it holds.
    """
    training = Training(
        epochs=epochs, batch_size=batch_size, lr=lr, momentum=momentum, milestones=milestones, seed=seed
    )
    training.check()
    cli.check_count("limit", limit)
    cli.check_folder("data_dir", data_dir)
    place = select_device(device)
    cli.prepare_checkpoint(out)
    train = load_dataset(dataset, split="train", data_dir=data_dir, limit=limit)
    test = load_dataset(train.name, split="test", data_dir=data_dir)
    if not force:
        with cli.advised("write into another file with --out FILE, or replace it with --force"):
            cli.check_replacement(out, "tiny-cnn", train)
    print(f"Data: {train.name}, {len(train):,} training and {len(test):,} test samples ({train.source})")
    print(f"Settings: {cli.describe(training)}, device {place}")
    cli.train_checkpoint(out, "tiny-cnn", train, test, training, limit=limit, device=device, keep="best")


if __name__ == "__main__":
    cli.run_script(main)
