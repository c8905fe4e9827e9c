"""The comparison of the metrics stored in a checkpoint with those of its network on its data."""

import math

import torch
from torch.nn import functional as F

from landscape.cli.own_data import OwnData, SampleSet
from landscape.cli.settings import Evaluation
from landscape.datasets import Data, load_dataset
from landscape.errors import InputError
from landscape.runtime import kept_random_state, ranks
from landscape.runtime.devices import select_device
from landscape.training.checkpoints import Checkpoint

__all__ = ["confirm_metrics", "input_scaling"]

SAMPLES, BATCH = 2000, 500
DEVIATIONS = 5.0  # largest acceptable difference, in standard errors of the random subset
ROUNDING = 0.01  # relative difference that is accepted besides (at least 0.001), for other devices and rounded numbers


def input_scaling(data: SampleSet) -> str:
    """A description of how the inputs of ``data`` were computed from the values in their files."""
    if isinstance(data, OwnData):
        return f"those of {data.name}"
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (data.mean, data.std))
    return f"(value - mean) / std with mean {mean} and std {std}" if data.mean else "as they are"


def confirm_metrics(
    checkpoint: Checkpoint, evaluation: Evaluation, data: Data | None = None, *, accept: bool = False
) -> dict[str, str]:
    """Compare test_loss and test_accuracy of ``checkpoint`` with the values of its network on its test data.

    They differ, for example, if the network was trained on inputs that were scaled otherwise than by `load_dataset`.

    Args:
        checkpoint: The checkpoint; its metrics are for eval mode and cross-entropy.
        evaluation: The device, and the folder of the data sets.
        data: The whole test data, if they are loaded already.
        accept: Accept values that differ.

    Returns:
        A remark on the comparison for the metadata of surfaces.

    Raises:
        InputError: The values differ by more than five standard errors of the random subset and 1 % for rounding.
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
        # The evaluation that follows reports what is wrong with the network, or can use its outputs.
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
            f"the network of {checkpoint.path} does not have its stored metrics on {source}: {'; '.join(wrong)}. "
            f"Inputs here are {input_scaling(data)}; if it was trained on inputs scaled otherwise, let the network "
            "rescale them; to continue nevertheless, give --accept-mismatch"
        )
    return {"stored_metrics": "; ".join(texts) + (", a mismatch that was accepted" if wrong else "")}


def _measured(checkpoint: Checkpoint, data: Data, device: str) -> dict[str, tuple[float, float]]:
    """Mean loss and accuracy over at most `SAMPLES` random samples, with their standard errors.

    All samples count alike, as they do in the metrics of `fit`. The variance of a mean over n of N samples, drawn
    without replacement, is (1 - n / N) s^2 / n (Cochran 1977, "Sampling Techniques", section 2.6).
    """
    part = data if len(data) <= SAMPLES else data.subset(SAMPLES, seed=0)
    model, losses, hits = checkpoint.model.to(place := select_device(device)), [], []
    with kept_random_state(), torch.no_grad():
        for picked in torch.arange(len(part)).split(BATCH):
            logits, targets = model(part.inputs[picked].to(place)), part.targets[picked].to(place)
            losses.append(F.cross_entropy(logits, targets, reduction="none").double().cpu())
            hits.append((logits.argmax(1) == targets).double().cpu())
    left_out = math.sqrt(1 - len(part) / len(data))  # finite-population correction: 0 if all samples are used
    by_name = {"loss": torch.cat(losses), "accuracy": torch.cat(hits)}
    return {
        name: (float(values.mean()), left_out * float(values.std()) / math.sqrt(len(part)))
        for name, values in by_name.items()
    }
