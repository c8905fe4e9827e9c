"""Compare the loss landscapes of several checkpoints: the same seed, the same data, one colour scale.

    python compare_loss_landscapes.py epoch_0.pth epoch_1.pth epoch_9.pth --log-scale       # one run at three times
    python compare_loss_landscapes.py runs/resnet14_fashion-mnist/epoch_*.pth --basins       # which appear, which end
    python compare_loss_landscapes.py relu.pth sigmoid.pth tanh.pth --names ReLU sigmoid tanh --split test
    python compare_loss_landscapes.py resnet14.pth vgg11.pth --subset 1000 --style heatmap --html
    python compare_loss_landscapes.py resnet14.pth vgg11.pth --subset 1000 --zoom 0.01        # 100 times closer

Every checkpoint gets a random plane through its own weights, drawn from the same seed. The script writes a figure with
one panel for each checkpoint and, for two checkpoints of one architecture, a figure of their difference (.png), the
values of each surface (.npz), a table (.json), a log, with --basins the basins over the checkpoints (.png, .npz) and,
with --html, an interactive page with a slider over the checkpoints. Checkpoints that were trained on different data are
refused, because their losses cannot be compared; --anyway draws them with a warning. Panels whose losses span a factor
of 100 or more need --log-scale. A surface that is stored with the same settings is drawn again without a new
computation.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import landscape_lib as ll
from landscape_lib import cli

FILMS: dict[Literal["contour", "surface"], str] = {"contour": "comparison", "surface": "comparison_3d"}


@dataclass(frozen=True)
class Panels(cli.Drawing):
    """On a logarithmic scale the difference becomes a ratio."""

    style: Literal["contour", "heatmap"] = "contour"
    """Filled contours, or a heat map with one cell per grid point."""
    animate: bool = False
    """Also write films of one plane after the other, in contours and in 3-D: GIF, and MP4 where ffmpeg is there."""
    basins: bool = False
    """Also follow the basins from each checkpoint to the next: how deep they are, and which appear and end."""

    def check(self) -> None:
        """Refuse what cannot be drawn."""
        super().check()
        if not self.figures:
            cli.refuse_unused("with --no-figures", animate=(self.animate, False), style=(self.style, "contour"))
        if self.style == "heatmap":
            cli.note_unused("with --style heatmap", levels=(self.levels, Panels.levels))


def main(
    checkpoints: cli.Positional[tuple[Path, ...]],
    plane: cli.PlaneChoice = cli.PlaneChoice(),  # noqa: B008 (frozen)
    evaluation: cli.Evaluation = cli.Evaluation(),  # noqa: B008 (frozen)
    panels: Panels = Panels(),
    state: tuple[Path, ...] = (),
    model: str | None = None,
    data: str | None = None,
    accept_mismatch: bool = False,
    split: Literal["train", "test"] = "train",
    budget: str | None = None,
    subset: int | None = None,
    names: tuple[str, ...] = (),
    anyway: bool = False,
    out: Path = Path("comparison_results"),
) -> None:
    """Loss landscapes of several checkpoints side by side.

    Args:
        checkpoints: Trained models (.pth), in the order of the panels.
        plane: The plane, through the weights of every checkpoint; with --range auto, its range is that of the first.
        evaluation: The computation of the losses.
        panels: The figures.
        state: Weights of your own networks, with --model and --data; checkpoints of these scripts need neither.
            A file is a state dict, a Lightning .ckpt, safetensors, or an archive of torch.export.
        model: FILE.py:FUNCTION that builds all networks, if they are your own; THAT FILE IS RUN.
        data: FILE.py:FUNCTION that returns (training data, test data) of your own, for all networks; THAT FILE IS RUN.
        accept_mismatch: Continue where networks do not reach the test loss and accuracy stored in their checkpoints.
        split: Data to evaluate on.
        budget: Time for each surface, such as 60s or 10min, instead of --tolerance.
            It chooses one number of samples and one tolerance for all, so that sampling and interpolation err alike.
        subset: Random samples to use instead of all (drawn from the seed).
        names: Titles of the panels; default: model, arguments and epochs that differ, or the file names.
        anyway: Compare checkpoints of different data all the same; the figure says so.
        out: Folder for the results; those of other checkpoints stay, and the new ones get their names.
    """
    checkpoints = (*checkpoints, *state)
    check_options(plane, evaluation, panels, checkpoints, names, budget, subset)
    cli.check_own_files(model, data)
    out, own = cli.make_folder(out), cli.load_own_data(data) if data else None
    trained = [cli.load_network(path, model, own) for path in checkpoints]
    plane.check_networks(*(checkpoint.model for checkpoint in trained))
    names = names or tuple(cli.distinct_names(trained))
    settings = cli.describe(plane, evaluation, panels, budget=budget, split=split, subset=subset)
    parts = cli.load_shared_data(trained, split, evaluation.data_dir, own, subset=subset, seed=plane.seed)
    if not anyway:
        with cli.advised("--anyway compares them all the same"):
            cli.check_comparable([{"data": samples.description} for samples in parts], names)
    print(f"Settings: {settings}")
    cli.note_unused_batch_norm(evaluation, trained)
    remarks: list[dict[str, str]] = [{} for _ in trained]
    if own is None:
        remarks = [cli.confirm_metrics(checkpoint, evaluation, accept=accept_mismatch) for checkpoint in trained]
    view = split if plane.zoom == 1 else f"{split}_zoom{plane.zoom:g}"
    label = cli.comparison_label(out, view, trained, force=evaluation.force)
    paths = [out / f"{checkpoint.path.stem}_{checkpoint.sha256[:8]}_{view}.npz" for checkpoint in trained]
    conditions = cli.settle_range(paths[0], trained[0], parts[0], cli.Conditions(plane, evaluation))
    parts, conditions = cli.settle_budget(budget, paths, trained, parts, conditions)
    surfaces = []
    for name, path, checkpoint, samples, remark in zip(names, paths, trained, parts, remarks, strict=True):
        print(f"{name}: {checkpoint.path}", flush=True)
        surfaces.append(cli.checkpoint_surface(path, checkpoint, samples, replace(conditions, remarks=remark)))
    table = cli.surface_table(surfaces, names)
    print(table)
    if cli.is_first_rank():
        draw(surfaces, names, out, label, panels)
    rows = [
        {"name": name, "file": str(checkpoint.path), **checkpoint.identity, **cli.surface_numbers(surface)}
        for checkpoint, name, surface in zip(trained, names, surfaces, strict=True)
    ]
    differences = cli.differences([surface.metadata for surface in surfaces])
    record = {"settings": settings, "differences": differences, "checkpoints": rows}
    cli.wrote(cli.write_json(out / f"comparison_{label}.json", record))
    log = {"settings": settings, "comparison": table, **dict(zip(names, map(cli.summarize, surfaces), strict=True))}
    if panels.basins:
        log["basins"] = follow_basins(surfaces, names, out, label, panels)
    cli.wrote(cli.write_log(out / f"comparison_log_{label}.txt", log))


def follow_basins(surfaces: list[ll.Surface], names: tuple[str, ...], out: Path, label: str, panels: Panels) -> str:
    """Store and draw the basins over the checkpoints, and return what happens to them, which is also printed."""
    history = ll.follow_basins(surfaces, names=names)
    cli.wrote(history.save(out / f"basins_{label}.npz"))
    events = "\n".join([str(history), *history.events])
    print(events)
    if panels.figures and cli.is_first_rank():
        where = partial(ll.plot_topology, history, view="position")
        drawn = {"Persistence of each basin": partial(ll.plot_topology, history), "Place of its minimum": where}
        figure = cli.plot_panels(drawn, columns=2, size=(5.4, 4.2))
        figure.suptitle(cli.basins_title(history), fontsize=11)
        cli.wrote(ll.save_figure(figure, out / f"basins_{label}.png"))
    return events


def check_options(
    plane: cli.PlaneChoice,
    evaluation: cli.Evaluation,
    panels: Panels,
    checkpoints: tuple[Path, ...],
    names: tuple[str, ...],
    budget: str | None,
    subset: int | None,
) -> None:
    """Refuse what cannot be used before anything is loaded or evaluated."""
    cli.check_all(plane, evaluation, panels)
    if not checkpoints:
        raise ll.InputError("no checkpoints to compare: name their files, such as a.pth b.pth")
    if names and len(names) != len(checkpoints):
        counts = f"{cli.plural(len(checkpoints), 'checkpoint')} but {cli.plural(len(names), 'name')}"
        raise ll.InputError(f"{counts}: --names takes one name for each checkpoint, or leave it out")
    if panels.basins and len(checkpoints) < 2:
        raise ll.InputError("--basins follows the basins from one checkpoint to the next: give two or more")
    cli.check_stored(*checkpoints)
    cli.check_distinct("names", names)
    cli.check_budget(budget, evaluation)
    cli.check_count("subset", subset)


def draw(surfaces: list[ll.Surface], names: tuple[str, ...], out: Path, label: str, panels: Panels) -> None:
    """The panels, the difference where there is one, film and page; advice where colours hide what there is to see."""
    options: dict[str, Any] = {"titles": names, "levels": panels.levels, "log_scale": panels.log_scale}
    if panels.figures:
        panels.draw(out / f"comparison_{label}", ll.plot_comparison, surfaces, style=panels.style, **options)
        if len(surfaces) == 2:
            with cli.optional("figure of the difference"):
                panels.draw(out / f"difference_{label}", ll.plot_difference, *surfaces, style=panels.style, **options)
        for suffix in cli.animation_formats() if panels.animate else ():
            films: dict[str, Any] = {"names": names, "levels": panels.levels, "log_scale": panels.log_scale}
            for view, name in FILMS.items() if len(surfaces) > 1 else ():
                with panels.styled():
                    cli.wrote(ll.animate(surfaces, out / f"{name}_{label}{suffix}", view=view, **films))
        if not panels.log_scale and (hint := cli.range_hint(surfaces)):
            print(f"{hint}, --log-scale shows them")
    if panels.html:
        page = out / f"explorer_{label}.html"
        cli.wrote(ll.explore(surfaces, page, names=names, log_scale=panels.log_scale or None))


if __name__ == "__main__":
    cli.run_script(main)
