"""A resumable training loop for language models: AdamW with a learning rate that warms up and decays like a cosine."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from landscape.checks import check_count, check_number, check_seed
from landscape.datasets.text import Text
from landscape.errors import InputError
from landscape.runtime import own_torch_state
from landscape.runtime.devices import select_device
from landscape.runtime.progress import progress_bar
from landscape.training.state import TrainingState

__all__ = ["LanguageTraining", "fit_language_model", "token_loss"]

SCORED = 16  # sequences in a forward pass for scores; larger batches are slower on a CPU, whose cache they exceed
BETAS, CLIP = (0.9, 0.99), 1.0  # betas of AdamW, and the largest norm of a gradient
FLOOR = 0.05  # share of the highest learning rate at the end of the cosine

OnPoint = Callable[[int, nn.Module, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class LanguageTraining:
    """The training of a language model."""

    steps: int = 1000
    """Number of training steps."""
    batch_size: int = 8
    """Number of sequences in a training step, drawn with replacement."""
    lr: float = 3e-3
    """Highest learning rate of AdamW. It is reached after a twentieth of the steps, and then decays like a cosine."""
    weight_decay: float = 0.1
    """Weight decay of matrices; biases and normalisation layers have none."""
    points: int = 10
    """Number of points of the path that are recorded after the initial one, at equal distances."""
    seed: int = 42
    """Seed of the initial weights, the training sequences, the random directions and the choice of sequences."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, if a value is out of range."""
        check_count("steps", self.steps)
        check_count("batch_size", self.batch_size)
        check_number("lr", self.lr, above=0)
        check_number("weight_decay", self.weight_decay, least=0)
        check_seed(self.seed)
        if not 2 <= self.points <= self.steps:
            raise InputError(
                f"points is {self.points}; it must be at least 2, for a plane, and at most the {self.steps:,} steps"
            )

    def learning_rate(self, step: int) -> float:
        """The learning rate of ``step``, counted from 1.

        It is lr min(1, 20 step / steps) (c + (1 - c) (1 + cos(pi (step - 1) / steps)) / 2) with c = `FLOOR`.
        """
        warm = min(1.0, step / max(1, self.steps // 20))
        return self.lr * warm * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * (step - 1) / self.steps)) / 2)

    @property
    def recorded_steps(self) -> list[int]:
        """The steps after which a point is recorded, from 0 to the last one."""
        return [round(k * self.steps / self.points) for k in range(self.points + 1)]


@own_torch_state()
@torch.enable_grad()
def fit_language_model(
    model: nn.Module,
    train: Text,
    held_out: Text,
    training: LanguageTraining,
    *,
    device: str | torch.device = "auto",
    on_point: OnPoint | None = None,
    state: str | Path | None = None,
    notes: dict[str, Any] | None = None,
) -> list[dict[str, float]]:
    """Minimise the mean cross-entropy of the next token on ``train`` and return the metrics of every recorded point.

    The metrics are step, train_loss (average since the previous point, while the weights change), held_out_loss and lr.
    Only parameters that require a gradient are trained. Sequences are drawn on the CPU from the seed, so they are the
    same on every device.

    Args:
        model: Maps tokens [batch, T] (``input_ids``) to logits [batch, T, V], or to an output with the attribute
            ``logits``. Training starts from its present weights and changes them in place; the model is left on the
            device and in eval mode.
        train: Sequences for training.
        held_out: Sequences whose loss is computed at every recorded point.
        training: Settings of the training.
        device: See ``select_device``.
        on_point: Called as ``on_point(step, model, metrics)`` at every recorded point, including the initial one.
        state: File of the training state. If it exists, training is resumed from it; on the CPU the result has the same
            bits as an uninterrupted run.
        notes: Further settings (plain values) that must equal those stored in ``state`` for the run to be resumed.

    Raises:
        InputError: A setting is out of range, the device is unknown, or ``state`` belongs to another run.
    """
    training.check()
    place = select_device(device)
    model.to(place).eval()
    tokens = train.tokens.to(place)
    optimizer = _optimizer(model, training)
    generator = torch.Generator().manual_seed(training.seed)
    data = {"training data": train.fingerprint, "held-out data": held_out.fingerprint, "device": place.type}
    identity = asdict(training) | data | (notes or {})
    saved = TrainingState(Path(state), identity, model, optimizer, generator) if state else None
    history = saved.restore() if saved else []

    def keep(step: int, running: float) -> None:
        loss = token_loss(model, held_out, device=place)
        lr = training.learning_rate(max(1, step))
        history.append({"step": step, "train_loss": running, "held_out_loss": loss, "lr": lr})
        if on_point:
            on_point(step, model, history[-1])
        if saved:
            saved.save(history)

    if not history:
        keep(0, math.nan)
    first = int(history[-1]["step"])
    losses, began = torch.zeros(()), time.perf_counter()  # the sum of losses is read from the device for reports only
    with progress_bar(True, "Training", training.steps, unit="steps", initial=first, lines=False) as bar:
        for step in range(first + 1, training.steps + 1):
            rows = torch.randint(len(tokens), (training.batch_size,), generator=generator)
            losses = losses + _step(model, tokens[rows.to(place)], optimizer, training.learning_rate(step))
            bar.update()
            if step in training.recorded_steps:
                keep(step, float(losses) / (step - history[-1]["step"]))
                losses = torch.zeros(())
                remaining = (time.perf_counter() - began) / (step - first) * (training.steps - step)
                tqdm.write(
                    f"step {step:,} of {training.steps:,}: loss {history[-1]['train_loss']:.4f} a token, held out "
                    f"{history[-1]['held_out_loss']:.4f}; {remaining:.0f} s left"
                )
    return history


@own_torch_state()
@torch.no_grad()
def token_loss(model: nn.Module, text: Text, *, device: str | torch.device = "auto") -> float:
    """Mean cross-entropy of the predicted tokens of ``text``, summed in float64, in the present mode of ``model``.

    Raises:
        InputError: The device is unknown.
    """
    place, total = select_device(device), 0.0
    model.to(place)
    for tokens in text.tokens.split(SCORED):
        total += float(_losses(model, tokens.to(place)).double().sum())
    return total / text.predicted


def _losses(model: nn.Module, tokens: Tensor) -> Tensor:
    """Cross-entropy of every token except the first one of each sequence."""
    outputs = model(input_ids=tokens)
    logits: Tensor = getattr(outputs, "logits", outputs)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")


def _step(model: nn.Module, tokens: Tensor, optimizer: torch.optim.Optimizer, lr: float) -> Tensor:
    """Take one step of the optimizer and return the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    model.train()
    loss = _losses(model, tokens).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), CLIP)
    optimizer.step()
    model.eval()
    return loss.detach().cpu()


def _optimizer(model: nn.Module, training: LanguageTraining) -> torch.optim.Optimizer:
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in moved if parameter.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [parameter for parameter in moved if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.lr, betas=BETAS)
