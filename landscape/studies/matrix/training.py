"""Training of the networks of a matrix in stacks, with one folder for each network."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from landscape.datasets import Data, load_dataset
from landscape.models import build_model
from landscape.runtime import kept_random_state, ranks
from landscape.runtime.progress import progress_bar
from landscape.runtime.tasks import run_tasks
from landscape.runtime.threads import one_thread
from landscape.storage.logs import write_json
from landscape.storage.records import (
    EXACT,
    clear_record,
    is_recorded,
    own_folder,
    plain,
    read_record,
    record_fault,
    whole_record,
    write_record,
)
from landscape.studies.matrix.plan import RunPlan
from landscape.studies.matrix.runs import RUN_FORM, SUMMARY
from landscape.training.checkpoints import save_checkpoint
from landscape.training.loop import score
from landscape.training.stacked import fit_stacked

__all__ = ["diverged_runs", "stacks_of", "train_matrix"]


def train_matrix(plans: Sequence[RunPlan], root: Path, *, jobs: int, device: str) -> Iterator[dict[str, Any]]:
    """Train the runs of ``plans`` that are missing below ``root``, and yield the summary of each when it is written.

    The folder of a run holds ``checkpoints/`` (init.pth, mid_<epoch>.pth, final.pth), ``metrics.json`` (loss and
    accuracy of every epoch; on training data running means over the epoch, except for epoch 0) and, written last,
    ``summary.json`` with all settings. A run whose summary has the same settings and whose files are complete is not
    trained again.
    """
    stacks = ranks.from_first(lambda: stacks_of(plans, root))
    with progress_bar(ranks.is_first_rank(), "Training", sum(map(len, stacks)), unit="runs") as bar:
        for summaries in run_tasks(partial(_train_stack, root=root, device=device), stacks, jobs):
            bar.update(len(summaries))
            yield from summaries


def diverged_runs(plans: Sequence[RunPlan], root: Path) -> list[str]:
    """The places of those of ``plans`` below ``root`` whose loss is not finite at the end."""
    finals = {plan.place: (read_record(root / plan.place / SUMMARY) or {}).get("final", {}) for plan in plans}
    return [place for place, final in finals.items() if None in final.values()]


def stacks_of(plans: Sequence[RunPlan], root: Path) -> list[list[RunPlan]]:
    """The stacks of runs to train, largest first, which contain all runs that are missing below ``root``.

    A stack that was killed before all its runs were stored is trained again completely: the products of a smaller stack
    may be rounded differently, and a restart must give the same numbers.
    """
    current = {plan.place for plan in plans if is_recorded(root / plan.place / SUMMARY, plan.recipe)}
    known, stacks = {plan.place: plan for plan in plans}, {}
    for plan in plans:
        if plan.place in current:
            continue
        if mates := _mates(plan, plans, current, root):
            stacks[tuple(mates)] = [known[place] for place in mates]
        else:
            stacks.setdefault(plan.shape, []).append(plan)
    return sorted(stacks.values(), key=lambda stack: -_work(stack[0]) * len(stack))


def _mates(plan: RunPlan, plans: Sequence[RunPlan], current: set[str], root: Path) -> list[str]:
    """The folders of the stack in which ``plan`` was trained before it was killed; [] if there is none."""
    for other in plans:
        if other.place in current and other.shape == plan.shape:
            stack = (read_record(root / other.place / SUMMARY, RUN_FORM) or {}).get("trained_together") or []
            if plan.place in stack and {p.place for p in plans}.issuperset(stack):
                return stack
    return []


def _work(plan: RunPlan) -> int:
    """The cost of a step of the run, up to a factor."""
    sizes = plan.recipe["architecture"]
    return int(sizes["width"] * (4 + (sizes["depth"] - 1) * sizes["width"]))


def _train_stack(stack: Sequence[RunPlan], root: Path, device: str) -> list[dict[str, Any]]:
    """Train the runs of ``stack`` together, write their folders, and return their summaries.

    If another process is working on one of them, wait for it; runs that it has stored are not trained again.
    """
    with contextlib.ExitStack() as held:
        for place in sorted(
            plan.place for plan in stack
        ):  # always in the same order, so that two processes never wait for each other
            held.enter_context(own_folder(root / place / SUMMARY))
        return _train_owned(stack, root, device)


def _train_owned(stack: Sequence[RunPlan], root: Path, device: str) -> list[dict[str, Any]]:
    places = [plan.place for plan in stack]
    pending = [plan for plan in stack if record_fault(root / plan.place / SUMMARY, plan.recipe)]
    if not pending:
        return []
    folders = [clear_record(root / plan.place / SUMMARY) for plan in pending]
    with one_thread():
        trains, tests = ([load_dataset(plan.points.name, split=split) for plan in stack] for split in ("train", "test"))
        models = [_new_model(plan) for plan in stack]
        kept = [(plan, folder, places.index(plan.place)) for plan, folder in zip(pending, folders, strict=True)]

        def snapshot(epoch: int, metrics: list[dict[str, Any]]) -> None:
            for plan, folder, m in kept:
                if epoch in plan.snapshots:
                    _save(folder, plan, models[m], trains[m], epoch, metrics[m])

        scores = [_scores(*parts) for parts in zip(models, trains, tests, strict=True)]
        snapshot(0, scores)
        history = fit_stacked(
            models, trains, tests, [plan.training for plan in stack], device=device, on_epoch=snapshot
        )
        return [
            _finish(plan, folder, models[m].cpu(), (trains[m], tests[m]), [scores[m], *history[m]], places)
            for plan, folder, m in kept
        ]


def _finish(
    plan: RunPlan,
    folder: Path,
    model: torch.nn.Module,
    data: tuple[Data, Data],
    history: list[dict[str, Any]],
    places: list[str],
) -> dict[str, Any]:
    """Write metrics.json and, last, summary.json."""
    epochs = [{"epoch": epoch, **metrics} for epoch, metrics in enumerate(history)]
    files = [folder / plan.checkpoint(epoch) for epoch in plan.snapshots]
    files.append(write_json(folder / "metrics.json", plain({"epochs": epochs}, EXACT)))
    content = {
        "place": plan.place,
        "dataset": plan.points.kind,
        "architecture": plan.architecture,
        **{key: plan.recipe["architecture"][key] for key in ("depth", "width")},
        "activation": plan.activation,
        "optimizer": plan.training.optimizer,
        "seed": plan.training.seed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "checkpoints": {str(epoch): plan.checkpoint(epoch) for epoch in plan.snapshots},
        "final": plain(_scores(model, *data), EXACT),
        "data": {"train": data[0].fingerprint, "test": data[1].fingerprint},
        "trained_together": places,
    }
    write_record(folder / SUMMARY, plan.recipe, content, files)
    return whole_record(folder / SUMMARY)


def _new_model(plan: RunPlan) -> torch.nn.Module:
    with kept_random_state(draws=True):
        torch.manual_seed(plan.training.seed)
        return build_model(plan.architecture, **plan.model_arguments)


def _scores(model: torch.nn.Module, train: Data, test: Data) -> dict[str, float]:
    """Loss and accuracy on both splits."""
    splits = {"train": train, "test": test}
    scores = {split: score(model, data, device="cpu") for split, data in splits.items()}
    return {f"{split}_{name}": value for split, values in scores.items() for name, value in values.items()}


def _save(folder: Path, plan: RunPlan, model: torch.nn.Module, data: Data, epoch: int, metrics: dict[str, Any]) -> None:
    path = folder / plan.checkpoint(epoch)
    save_checkpoint(
        path,
        model,
        model_name=plan.architecture,
        model_arguments=plan.model_arguments,
        data={"name": data.name, "split": "train", "limit": None, "source": data.source},
        epoch=epoch,
        metrics=metrics,
        settings=plan.recipe["training"],
    )
