"""Train a ResNet, a VGG, NormCNN, a torchvision model or a network of your own, and keep checkpoints of its epochs.

    python train_classifier.py                                          # ResNet-14 on Fashion-MNIST, 10 epochs
    python train_classifier.py --model resnet20 --no-shortcuts --dataset cifar10 --augment crop-flip --epochs 100
    python train_classifier.py --model vgg9 --normalization none --lr 0.01 --save-epochs all
    python train_classifier.py --model simplenet --hidden 50 --dataset mnist-5k --optimizer adam --lr 0.001
    python train_classifier.py --model nets/mine.py:build --dataset digits --name first-try
    python train_classifier.py --resume                                 # go on after a crash, to the same numbers

The models are resnet14, resnet20, resnet32, resnet56, resnet110 (any resnet<6n+2>, of He et al. for CIFAR), vgg9,
vgg11, vgg16, simplenet, mlp (shallow-small, shallow-wide, medium, deep-small, deep-large), norm-cnn (with any of seven
normalisations), tiny-cnn, linear-mnist, torchvision:NAME (resnet18, mobilenet_v3_small, ...; for colour images), and
FILE.py:FUNCTION: that file is run, and its function is called with input_shape and classes if it takes them.

The script writes into runs/<model>_<dataset>: epoch_000.pth (the initial weights) and the checkpoints of the chosen
epochs and of the last one, for the landscape scripts; metrics.json (settings; losses, accuracies, learning rate and
seconds of every epoch); and state.pth, from which --resume continues. A folder that holds a run is never overwritten:
without --resume it is refused, and so is --resume without a run. On the CPU, a resumed run gives the same bits as one
without an interruption.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from landscape_lib import (
    Training,
    build_model,
    cli,
    fit,
    load_dataset,
    select_device,
)

DEFAULTS = Training(epochs=10, batch_size=128, lr=0.1, seed=42, momentum=0.9, weight_decay=5e-4, schedule="cosine")


def main(
    training: Training = DEFAULTS,
    network: cli.ModelOptions = cli.ModelOptions(),  # noqa: B008 (frozen)
    model: str = "resnet14",
    dataset: str = "fashion-mnist",
    data_dir: Path = Path("data"),
    limit: int | None = None,
    device: str = "auto",
    save_epochs: tuple[int, ...] | Literal["all"] = (0,),
    out: Path = Path("runs"),
    name: str | None = None,
    resume: bool = False,
) -> None:
    """Train a classifier (cross-entropy) and save checkpoints of its epochs.

    Args:
        training: The training.
        network: The network.
        model: Name of the model, see above; THE FILE of FILE.py:FUNCTION IS RUN.
        dataset: mnist, fashion-mnist, cifar10, mnist-5k, digits, folder:PATH, moons, circles, gaussians, xor or auto.
            auto is all of MNIST if it is there or can be downloaded, otherwise mnist-5k, with a warning.
        data_dir: Folder of the data sets, also for downloads.
        limit: Train on the first LIMIT samples only; the test set stays whole.
        device: Device: cpu, cuda, cuda:N or mps. auto takes the first one available of cuda, mps, cpu.
        save_epochs: Epochs that get a checkpoint (0: before training), or all; the last one always does.
        out: Folder for the folders of all runs.
        name: Name of the folder of this run. None stands for <model>_<dataset>.
        resume: Continue the run in that folder after a crash; a finished run stays as it is.
    """
    cli.check_training(training, DEFAULTS)
    cli.check_count("limit", limit)
    cli.check_folder("data_dir", data_dir)
    cli.check_model(model, **network.arguments)
    cli.epochs_to_save(save_epochs, training.epochs)
    device = str(select_device(device))
    if name or dataset != "auto":  # whose name is known only when it is loaded
        cli.check_run(cli.path_inside(out, name or cli.plain_name(f"{model}_{dataset}")), resume=resume)
    if cli.is_own(model):
        cli.import_own(model, **network.arguments)
    out = cli.make_folder(out)
    cli.seed_everything(training.seed)
    train = load_dataset(dataset, split="train", data_dir=data_dir, limit=limit)
    test = load_dataset(train.name, split="test", data_dir=data_dir)
    arguments = {"input_shape": tuple(train.inputs.shape[1:]), "classes": len(train.classes), **network.arguments}
    settings = asdict(training)
    print(f"Data: {train.name}, {len(train):,} training and {len(test):,} test samples ({train.source})")
    print(f"Model: {model} {arguments}\nSettings: {settings}, device {device}")
    classifier = build_model(model, **arguments)
    run = cli.Run(
        cli.path_inside(out, name or cli.plain_name(f"{model}_{train.name}")),
        epochs=training.epochs,
        save_epochs=save_epochs,
        resume=resume,
        checkpoint={
            "model_name": model,
            "model_arguments": arguments,
            "data": {"name": train.name, "split": train.split, "limit": limit, "source": train.source},
            "settings": settings,
        },
    )
    print(f"{sum(parameter.numel() for parameter in classifier.parameters()):,} parameters; writing into {run.folder}")
    history = fit(
        classifier,
        train,
        test,
        device=device,
        on_epoch=run.keep,
        epoch_zero=True,
        state=run.state,
        notes=run.notes,
        **settings,
    )
    print(f"{len(history)} epochs are in {run.metrics}, test accuracy {history[-1]['test_accuracy']:.2%}")


if __name__ == "__main__":
    cli.run_script(main)
