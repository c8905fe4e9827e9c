"""A training loop for language models: AdamW, a learning rate that warms up and falls by a cosine, resumable."""

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

SCORED = 16  # sequences of a forward pass; larger batches are slower on a CPU, once they leave its cache
BETAS, CLIP = (0.9, 0.99), 1.0  # of AdamW; largest norm of a gradient
FLOOR = 0.05  # share of the learning rate that is left at the end

OnPoint = Callable[[int, nn.Module, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class LanguageTraining:
    """How a language model is trained."""

    steps: int = 1000
    """Training steps."""
    batch_size: int = 8
    """Sequences of a training step, drawn with replacement."""
    lr: float = 3e-3
    """Highest learning rate of AdamW, reached after a twentieth of the steps; it then falls by a cosine."""
    weight_decay: float = 0.1
    """Decay of the weights, not of biases and normalisation layers."""
    points: int = 10
    """Points of the path that are recorded, beside the initial one, at equal distances."""
    seed: int = 42
    """Seed of the initial weights and of the order of the sequences, of random directions and choices of sequences."""

    def check(self) -> None:
        """Raise InputError, with one line that says what to change, where a value is out of range."""
        check_count("steps", self.steps)
        check_count("batch_size", self.batch_size)
        check_number("lr", self.lr, above=0)
        check_number("weight_decay", self.weight_decay, least=0)
        check_seed(self.seed)
        if not 2 <= self.points <= self.steps:
            raise InputError(f"points is {self.points}; choose from 2, for a plane, to the {self.steps:,} steps")

    def learning_rate(self, step: int) -> float:
        """That of ``step``, counted from 1: lr times a line from 0 to 1, times a cosine from 1 to a twentieth."""
        warm = min(1.0, step / max(1, self.steps // 20))
        return self.lr * warm * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * (step - 1) / self.steps)) / 2)

    @property
    def recorded_steps(self) -> list[int]:
        """The steps after which a point is recorded; the first one is 0, the last one the end."""
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
    """Minimise the mean cross-entropy of the next token on ``train``; the metrics of every recorded point.

    These are step, train_loss (running, since the point before), held_out_loss, lr. Only parameters that require a
    gradient move. Sequences are drawn on the CPU from the seed, so that every device sees the same.

    Args:
        model: maps tokens [batch, T] (``input_ids``) to logits [batch, T, V], or to an output that holds ``logits``;
            its present weights are the initial ones. Left on the device, in eval mode.
        train: the sequences to learn.
        held_out: scored at every recorded point.
        training: the settings.
        device: as for ``select_device``.
        on_point: called as ``on_point(step, model, metrics)`` at every recorded point, the initial one among them.
        state: file from which training goes on, on the CPU to the same bits as without a break.
        notes: more settings (plain values) that a run must share with ``state`` to go on from it.

    Raises:
        InputError: a setting out of range, unknown device, ``state`` of another run.
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
        held = token_loss(model, held_out, device=place)
        lr = training.learning_rate(max(1, step))
        history.append({"step": step, "train_loss": running, "held_out_loss": held, "lr": lr})
        if on_point:
            on_point(step, model, history[-1])
        if saved:
            saved.save(history)

    if not history:
        keep(0, math.nan)
    first = int(history[-1]["step"])
    losses, began = torch.zeros(()), time.perf_counter()  # the sum of losses is read from the device to report only
    with progress_bar(True, "Training", training.steps, unit="steps", initial=first, lines=False) as bar:
        for step in range(first + 1, training.steps + 1):
            rows = torch.randint(len(tokens), (training.batch_size,), generator=generator)
            losses = losses + _step(model, tokens[rows.to(place)], optimizer, training.learning_rate(step))
            bar.update()
            if step in training.recorded_steps:
                keep(step, float(losses) / (step - history[-1]["step"]))
                losses = torch.zeros(())
                left = (time.perf_counter() - began) / (step - first) * (training.steps - step)
                tqdm.write(
                    f"step {step:,} of {training.steps:,}: loss {history[-1]['train_loss']:.4f} a token, held out "
                    f"{history[-1]['held_out_loss']:.4f}; {left:.0f} s left"
                )
    return history


@own_torch_state()
@torch.no_grad()
def token_loss(model: nn.Module, text: Text, *, device: str | torch.device = "auto") -> float:
    """Mean cross-entropy of the predicted tokens of ``text``, summed in float64; in the mode the model is in."""
    place, total = select_device(device), 0.0
    model.to(place)
    for tokens in text.tokens.split(SCORED):
        total += float(_losses(model, tokens.to(place)).double().sum())
    return total / text.predicted


def _losses(model: nn.Module, tokens: Tensor) -> Tensor:
    """Cross-entropy of every token but the first of each sequence."""
    outputs = model(input_ids=tokens)
    logits: Tensor = getattr(outputs, "logits", outputs)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")


def _step(model: nn.Module, tokens: Tensor, optimizer: torch.optim.Optimizer, lr: float) -> Tensor:
    """One step of the optimizer; the loss before it."""
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
