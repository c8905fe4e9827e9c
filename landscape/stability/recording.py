"""A recorder of sharpness along training, which hooks of the optimizer call."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from landscape.checks import check_count, check_distinct, check_seed, check_type
from landscape.errors import InputError
from landscape.objective.objectives import Objective, check_objective
from landscape.points import Point, as_float64, check_match, named_parameters, parameters_of
from landscape.results import SharpnessHistory
from landscape.runtime import own_torch_state, ranks
from landscape.stability.critical import batch_sharpness, critical_step
from landscape.stability.preconditioned import check_kind, preconditioned_sharpness, preconditioner_of
from landscape.storage.files import make_folder
from landscape.storage.provenance import versions

__all__ = ["SharpnessRecorder"]

Measure = Literal["critical", "batch", "preconditioned"]
MEASURES = ("critical", "batch", "preconditioned")
COLUMNS = ("lr", "loss", "critical", "batch", "batch_error", "preconditioned", "threshold")


class SharpnessRecorder:
    """Measures the sharpness at the steps of an optimizer, beside 2 / lr for its learning rate lr.

    It works in any training loop and does not change it. Steps are counted as by a `TrajectoryRecorder`::

        recorder = ll.SharpnessRecorder(objective, model, optimizer, every=10)
        ...  # train: every call of optimizer.step() is a step
        ll.plot_sharpness(recorder.history)

    - "critical": 2 / (smallest learning rate with which the update raises the loss), see `critical_step`; about six
      forward passes over the data of the objective, and any optimizer with a learning rate. Weight decay and momentum
      are part of the update.
    - "batch": E[g^T H g / |g|^2] over mini-batches, see `batch_sharpness`.
    - "preconditioned": the largest eigenvalue of P^-1 H for SGD, Adam, AdamW and RMSprop, see `preconditioner_of`.

    A sharpness above 2 / lr makes plain gradient descent unstable, so that training often stays near this value, at the
    edge of stability; other optimizers do so for the measure that fits them and its threshold. Sources: Cohen et
    al. 2021 (full batches), Andreyev and Beneventano 2024 (mini-batches), Cohen et al. 2022 (adaptive optimizers),
    Kalra et al. 2026 (critical sharpness).

    Args:
        objective: The loss, on the training data or a part of them; it moves its own copy of the network.
        model: The network that is trained.
        optimizer: Its optimizer; hooks are added to it, which `close` removes.
        measures: Which of the three measures above are taken.
        every: Measure only every so many steps, counted from 0.
        path: File (.npz) that is written after every measurement.
        batch_size: Number of samples of a mini-batch, for "batch"; give that of the training.
        batches: Number of mini-batches that are averaged, for "batch".
        seed: Seed of the mini-batches, and of the start vector of the iteration for the eigenvalue.

    Raises:
        InputError: the optimizer has no learning rate or several, or moves other parameters than those of the model;
            a measure is unknown, or not known for this optimizer; the objective is of another network; ``path`` is a
            folder or does not end in .npz.

    Example:
        >>> from landscape_lib import objective
        >>> model, data = nn.Linear(4, 3), (torch.randn(50, 4), torch.arange(50) % 3)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> recorder = SharpnessRecorder(objective(model, data), model, optimizer)
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        ...     optimizer.step()
        >>> recorder.history.steps.tolist(), bool((recorder.history.critical < 20).all())
        ([0, 1, 2], True)
    """

    def __init__(
        self,
        objective: Objective,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        measures: Sequence[Measure] = ("critical",),
        every: int = 1,
        path: str | Path | None = None,
        batch_size: int | None = None,
        batches: int = 10,
        seed: int = 0,
    ):
        check_objective(objective, "SharpnessRecorder(objective, model, optimizer)")
        check_type(model, nn.Module, "SharpnessRecorder(objective, model, optimizer)", "the network that is trained")
        check_count("every", every)
        check_seed(seed)
        check_match(dict(named_parameters(model)), dict(objective.model.named_parameters()))
        self._settings = _checked_measures(measures, objective, batch_size, batches, seed)
        _check_optimizer(optimizer, model, measures)
        self.objective, self.model, self.optimizer, self.every = objective, model, optimizer, every
        check_type(path, str | Path | None, "SharpnessRecorder(path=)", "the path of a file")
        self.path = None if path is None else Path(path)
        if self.path:
            _check_file(self.path)
            make_folder(self.path.parent)
        self._calls, self._start = 0, 1.0
        self._rows: list[tuple[int, dict[str, float]]] = []  # step, and what was measured
        self._point: Point | None = None  # the point before a step that is measured
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    @property
    def history(self) -> SharpnessHistory:
        """All that has been measured so far."""
        steps = np.array([step for step, _ in self._rows], dtype=np.int64)
        columns = {name: np.array([row[name] for _, row in self._rows], dtype=np.float64) for name in COLUMNS}
        return SharpnessHistory(steps, **columns, metadata=self._description())

    def close(self) -> None:
        """Remove the hooks from the optimizer."""
        for handle in self._handles:
            handle.remove()

    def __repr__(self) -> str:
        return f"SharpnessRecorder({', '.join(self._settings['measures'])}; {len(self._rows):,} steps measured)"

    def _before_step(self, *_: Any) -> None:
        """Keep the point, if this step is measured."""
        measured = self._calls % self.every == 0 and ranks.is_first_rank()
        self._point = parameters_of(self.model) if measured else None

    @own_torch_state()
    def _after_step(self, *_: Any) -> None:
        """Measure at the point before the step that was made."""
        step, point = self._calls, self._point
        self._calls, self._point = step + 1, None
        if point is None:
            return
        has_buffers = any(True for _ in self.model.buffers())  # statistics of normalisation layers have moved on
        target = self.objective.of_network(self.model) if has_buffers else self.objective
        self._rows.append((step, self._measured(target, point)))
        if self.path:
            self.history.save(self.path)

    def _measured(self, objective: Objective, point: Point) -> dict[str, float]:
        rates, settings = _rates(self.optimizer), self._settings
        row = dict.fromkeys(COLUMNS, math.nan)
        row["lr"] = lr = rates.pop() if len(rates) == 1 else math.nan
        if "critical" in settings["measures"]:
            moved = parameters_of(self.model)
            update = {name: value - moved[name] for name, value in point.items() if not torch.equal(value, moved[name])}
            multiple, row["loss"], _ = critical_step(objective, point, update, start=self._start)
            self._start = multiple if 0 < multiple < math.inf else 1.0
            row["critical"] = _sharpness_of(multiple * lr)
        else:
            row["loss"] = float(as_float64(objective.for_slice(None)(point)).mean())
        if "batch" in settings["measures"]:
            options = {name: settings[name] for name in ("batch_size", "batches")}
            seed = settings["seed"] + settings["batches"] * len(self._rows)
            row["batch"], row["batch_error"] = batch_sharpness(objective, point, seed=seed, **options)
        if "preconditioned" in settings["measures"]:
            diagonal, row["threshold"] = preconditioner_of(self.optimizer, self.model)
            row["preconditioned"] = preconditioned_sharpness(objective, point, diagonal, seed=settings["seed"])
        return row

    def _description(self) -> dict[str, Any]:
        samples = self.objective.samples
        return {
            **self._settings,
            "every": self.every,
            "optimizer": type(self.optimizer).__name__,
            "data": {**samples.description, "size": self.objective.size},
            "objective": self.objective.for_slice(None).description,
            "versions": versions(),
        }


def _sharpness_of(rate: float) -> float:
    """2 / ``rate``, for the rates zero and infinity too."""
    return math.inf if rate == 0 else 2 / rate


def _checked_measures(
    measures: Sequence[str], objective: Objective, batch_size: int | None, batches: int, seed: int
) -> dict[str, Any]:
    """The settings of the measures, in JSON types.

    Raises:
        InputError: a measure is unknown or given twice, or mini-batches of this size cannot be drawn.
    """
    if (
        isinstance(measures, str)
        or not isinstance(measures, Sequence)
        or not measures
        or any(measure not in MEASURES for measure in measures)
    ):
        raise InputError(f"measures is {measures!r}; give a sequence of {', '.join(map(repr, MEASURES))}")
    check_distinct("measures", tuple(measures))
    check_count("batch_size", batch_size, most=objective.size)
    check_count("batches", batches, least=2)
    settings = {"measures": list(measures), "seed": seed}
    if "batch" not in measures:
        return settings
    if batch_size is None:
        raise InputError("the measure 'batch' is of mini-batches of the training: pass batch_size, their samples")
    if objective.batches_fixed:
        raise InputError(
            "the measure 'batch' draws mini-batches, but the batches of these data are fixed; pass tensors"
        )
    return settings | {"batch_size": batch_size, "batches": batches}


def _check_file(path: Path) -> None:
    if path.suffix != ".npz":
        raise InputError(f"cannot write {path}: a history of sharpness is an .npz file; give a name that ends so")
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; give the name of a file in it")


def _check_optimizer(optimizer: Optimizer, model: nn.Module, measures: Sequence[str]) -> None:
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"a recorder of sharpness needs a torch.optim.Optimizer, not {type(optimizer).__name__}")
    rates = [group.get("lr") for group in optimizer.param_groups]
    if any(not isinstance(rate, int | float | Tensor) for rate in rates):
        raise InputError(
            f"the optimizer {type(optimizer).__name__} has no learning rate ('lr' in its parameter groups), so that "
            "there is no 2 / lr to compare with; use an optimizer that has one"
        )
    if len(several := sorted(_rates(optimizer))) > 1:
        raise InputError(
            f"the parameter groups have the learning rates {', '.join(f'{rate:g}' for rate in several)}; sharpness is "
            "compared with one, so give all groups the same"
        )
    own = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) not in own for group in optimizer.param_groups for parameter in group["params"]):
        raise InputError("the optimizer moves parameters that are not those of the model; pass the model it trains")
    if "preconditioned" in measures:
        check_kind(optimizer)


def _rates(optimizer: Optimizer) -> set[float]:
    return {float(group["lr"]) for group in optimizer.param_groups}
