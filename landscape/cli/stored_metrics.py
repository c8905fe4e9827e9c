"""Whether a network still does on the data of its checkpoint what the checkpoint says of it."""

import math

import torch
from torch.nn import functional as F

from landscape.cli.settings import Evaluation
from landscape.datasets import Data, load_dataset
from landscape.errors import InputError
from landscape.runtime import kept_random_state, ranks
from landscape.runtime.devices import select_device
from landscape.training.checkpoints import Checkpoint

__all__ = ["confirm_metrics", "input_scaling"]

SAMPLES, BATCH = 2000, 500
DEVIATIONS = 5.0  # standard errors that a random subset may well be off
ROUNDING = 0.01  # relative, and a thousandth at least: other devices and precisions, and numbers cut to a few digits


def input_scaling(data: Data) -> str:
    """How the inputs of ``data`` were made from what is in their files."""
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (data.mean, data.std))
    return f"(value - mean) / std with mean {mean} and std {std}" if data.mean else "as they are"


def confirm_metrics(
    checkpoint: Checkpoint, evaluation: Evaluation, data: Data | None = None, *, accept: bool = False
) -> dict[str, str]:
    """Compare test_loss and test_accuracy of ``checkpoint`` with those on its test data; a remark for the surfaces.

    A network that was trained on inputs of another normalisation than those of `load_dataset` gives other numbers.

    Args:
        checkpoint: its metrics are those in eval mode, of the cross-entropy.
        evaluation: the device, and the folder of the data sets.
        data: the whole test data, where they are loaded already.
        accept: do not refuse numbers that differ.

    Raises:
        InputError: they differ by more than five standard errors of the random subset, and 1 % of rounding.
    """
    stored = {name: checkpoint.metadata["metrics"].get(f"test_{name}") for name in ("loss", "accuracy")}
    stored = {name: value for name, value in stored.items() if isinstance(value, int | float) and math.isfinite(value)}
    if not stored:
        return {"stored_metrics": "not compared: the checkpoint holds no test_loss and no test_accuracy"}
    source = checkpoint.metadata["data"]["name"]
    if data is None:
        data = ranks.first_ahead(lambda: load_dataset(source, split="test", data_dir=evaluation.data_dir))
    try:
        computed = _measured(checkpoint, data, evaluation.device)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        # Whoever evaluates the network next tells what is wrong with it, or knows its output.
        return {"stored_metrics": f"not compared: no cross-entropy of this network ({type(error).__name__})"}
    finally:
        checkpoint.model.cpu()
    texts, wrong = [], []
    for name, value in stored.items():
        mean, deviation = computed[name]
        texts.append(f"test {name} {mean:.4g}, {value:.4g} in the checkpoint")
        if not abs(mean - value) <= DEVIATIONS * deviation + max(ROUNDING * abs(value), ROUNDING / 10):
            wrong.append(texts[-1])
    if wrong and not accept:
        raise InputError(
            f"{checkpoint.path} does not reach on {source} what it says: {'; '.join(wrong)}. Inputs here are "
            f"{input_scaling(data)}: was it trained on others? Let the network rescale them, or give --accept-mismatch"
        )
    return {"stored_metrics": "; ".join(texts) + (", a mismatch that was accepted" if wrong else "")}


def _measured(checkpoint: Checkpoint, data: Data, device: str) -> dict[str, tuple[float, float]]:
    """Mean loss and accuracy over at most `SAMPLES` random samples, with their standard errors."""
    part = data if len(data) <= SAMPLES else data.subset(SAMPLES, seed=0)
    model, losses, hits = checkpoint.model.to(place := select_device(device)), [], []
    with kept_random_state(), torch.no_grad():
        for picked in torch.arange(len(part)).split(BATCH):
            logits, targets = model(part.inputs[picked].to(place)), part.targets[picked].to(place)
            losses.append(F.cross_entropy(logits, targets, reduction="none").double().cpu())
            hits.append((logits.argmax(1) == targets).double().cpu())
    left_out = math.sqrt(1 - len(part) / len(data))  # nothing is uncertain where all samples are taken
    by_name = {"loss": torch.cat(losses), "accuracy": torch.cat(hits)}
    return {
        name: (float(values.mean()), left_out * float(values.std()) / math.sqrt(len(part)))
        for name, values in by_name.items()
    }
