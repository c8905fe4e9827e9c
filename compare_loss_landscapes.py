"""Compare the loss landscapes of several checkpoints: the same seed, the same data, one colour scale.

    python compare_loss_landscapes.py epoch_0.pth epoch_1.pth epoch_9.pth --log-scale       # one run at three times
    python compare_loss_landscapes.py relu.pth sigmoid.pth tanh.pth --names ReLU sigmoid tanh --split test
    python compare_loss_landscapes.py resnet14.pth vgg11.pth --subset 1000 --style heatmap --html
    python compare_loss_landscapes.py resnet14.pth vgg11.pth --subset 1000 --zoom 0.01        # 100 times closer

Every checkpoint gets a random plane through its own weights, drawn from the same seed. Writes a figure with one panel
each, for two checkpoints of one architecture also one with their difference (.png), the numbers of each surface (.npz),
a table (.json), a log, and with --html a page to look around in, with a slider over the checkpoints. Checkpoints of
other data are refused, as their losses are not of one kind; --anyway draws them with a warning. Panels whose losses
span a factor of 100 and more need --log-scale. A surface that is already there with the same recipe is drawn again, not
computed again.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from landscape_lib import (
    Checkpoint,
    InputError,
    Surface,
    animate_surfaces,
    cli,
    explore,
    load_checkpoint,
    plot_comparison,
    plot_difference,
    save_figure,
)


def main(
    checkpoints: Positional[tuple[Path, ...]],
    plane: cli.PlaneChoice = cli.PlaneChoice(),  # noqa: B008 (frozen)
    evaluation: cli.Evaluation = cli.Evaluation(),  # noqa: B008 (frozen)
    model: str | None = None,
    accept_mismatch: bool = False,
    split: Literal["train", "test"] = "train",
    budget: str | None = None,
    subset: int | None = None,
    names: tuple[str, ...] = (),
    style: Literal["contour", "heatmap"] = "contour",
    levels: int = 30,
    log_scale: bool = False,
    figures: bool = True,
    animate: bool = False,
    html: bool = False,
    anyway: bool = False,
    out: Path = Path("comparison_results"),
) -> None:
    """Loss landscapes of several checkpoints side by side.

    Args:
        checkpoints: Trained models (.pth), in the order of the panels.
        plane: Which plane, through the weights of every checkpoint; a range that is found is that of the first one.
        evaluation: How it is evaluated.
        model: FILE.py:FUNCTION that built the networks of all checkpoints, if they are your own; THAT FILE IS RUN.
        accept_mismatch: Go on where networks do not reach the test loss and accuracy in their checkpoints.
        split: Data to evaluate on.
        budget: Time for each surface, such as 60s or 10min, instead of --tolerance: picks samples and tolerance, both
            errors of one size, the same for all checkpoints.
        subset: Random samples to use instead of all (drawn from the seed).
        names: Titles of the panels; default: model, arguments and epochs that differ, or the file names.
        style: Filled contours, or a heat map with one cell per grid point.
        levels: Bands of the contours.
        log_scale: Colours on a logarithmic scale; the difference becomes a ratio.
        figures: Draw figures; --no-figures only computes.
        animate: Also write one plane after the other as an animation: GIF, and MP4 where ffmpeg is installed.
        html: Also write a page with all surfaces, which opens in a browser without a network.
        anyway: Compare checkpoints of different data all the same; the figure says so.
        out: Folder for the results; those of other checkpoints stay, and the names of the new ones tell them.
    """
    check_options(plane, evaluation, checkpoints, names, budget, subset, levels, style, figures, animate)
    out = cli.make_folder(out)
    trained = [load_checkpoint(path, model=model) for path in checkpoints]
    names = names or tuple(cli.distinct_names(trained))
    settings = cli.describe(
        plane, evaluation, budget=budget, split=split, subset=subset, levels=levels, log_scale=log_scale, style=style
    )
    print(f"Settings: {settings}")
    cli.note_unused_batch_norm(evaluation, trained)
    data = cli.load_shared_data(trained, split, evaluation.data_dir, subset=subset, seed=plane.seed)
    if not anyway:
        with cli.advised("--anyway compares them all the same"):
            cli.check_comparable([{"data": samples.description} for samples in data], names)
    remarks = [cli.confirm_metrics(checkpoint, evaluation, accept=accept_mismatch) for checkpoint in trained]
    view = split if plane.zoom == 1 else f"{split}_zoom{plane.zoom:g}"
    label = label_of(out, view, trained, evaluation.force)
    paths = [out / f"{checkpoint.path.stem}_{checkpoint.sha256[:8]}_{view}.npz" for checkpoint in trained]
    plane, notes = cli.settle_range(paths[0], trained[0], data[0], plane, evaluation)
    data, evaluation, planned = cli.settle_budget(budget, paths, trained, data, plane, evaluation)
    surfaces = []
    for checkpoint, name, samples, path, remark in zip(trained, names, data, paths, remarks, strict=True):
        print(f"{name}: {checkpoint.path}", flush=True)
        surfaces.append(cli.checkpoint_surface(path, checkpoint, samples, plane, evaluation, notes | planned, remark))
        wrote(path)
    table = cli.surface_table(surfaces, names)
    print(table)
    if figures and cli.is_first_rank():
        draw(surfaces, out, label, titles=names, levels=levels, log_scale=log_scale, style=style)
        for suffix in cli.animation_formats() if animate else ():
            path = out / f"comparison_{label}{suffix}"
            wrote(animate_surfaces(surfaces, path, titles=names, levels=levels, log_scale=log_scale))
    if html and cli.is_first_rank():
        wrote(explore(surfaces, out / f"explorer_{label}.html", names=names))
    record = {
        "settings": settings,
        "differences": cli.differences([surface.metadata for surface in surfaces]),
        "checkpoints": [
            {"name": name, "file": str(checkpoint.path), **checkpoint.identity, **cli.surface_numbers(surface)}
            for checkpoint, name, surface in zip(trained, names, surfaces, strict=True)
        ],
    }
    wrote(cli.write_json(out / f"comparison_{label}.json", record))
    log = {"settings": settings, "comparison": table}
    log |= {name: cli.summarize(surface) for name, surface in zip(names, surfaces, strict=True)}
    wrote(cli.write_log(out / f"comparison_log_{label}.txt", log))


def check_options(
    plane: cli.PlaneChoice,
    evaluation: cli.Evaluation,
    checkpoints: tuple[Path, ...],
    names: tuple[str, ...],
    budget: str | None,
    subset: int | None,
    levels: int,
    style: str,
    figures: bool,
    animate: bool,
) -> None:
    """Refuse what cannot be used before anything is loaded or evaluated."""
    plane.check()
    evaluation.check()
    if not checkpoints or (names and len(names) != len(checkpoints)):
        raise InputError(
            f"{len(checkpoints)} checkpoints and {len(names)} names: give one checkpoint or more, one name each"
        )
    cli.check_distinct("names", names)
    cli.check_budget(budget, evaluation)
    cli.check_count("subset", subset)
    cli.check_levels(levels)
    if style == "heatmap" and levels != 30:
        print("Note: a heat map has no levels", flush=True)
    if not figures:
        cli.refuse_unused("with --no-figures", animate=(animate, False))


def label_of(out: Path, view: str, trained: list[Checkpoint], force: bool) -> str:
    """What the figures and the table of these checkpoints are called: ``view``, and their names where it is taken."""
    key = " ".join(sorted(checkpoint.sha256 for checkpoint in trained))
    names = cli.plain_name("_".join(checkpoint.path.stem for checkpoint in trained))[:60]
    longer = [f"{view}_{names}", f"{view}_{names}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"]
    return cli.own_suffix(
        [view, *longer],
        lambda label: cli.file_owner(out / f"comparison_{label}.json", cli.owners_in_json),
        key,
        force=force,
    )


def draw(surfaces: list[Surface], out: Path, label: str, *, log_scale: bool, **options: Any) -> None:
    """The panels, the difference where there is one, and advice where colours hide what there is to see."""
    wrote(save_figure(plot_comparison(surfaces, log_scale=log_scale, **options), out / f"comparison_{label}.png"))
    if len(surfaces) == 2:
        try:
            figure = plot_difference(*surfaces, log_scale=log_scale, **options)
            wrote(save_figure(figure, out / f"difference_{label}.png"))
        except InputError as error:
            print(f"No figure of the difference: {error}")
    if not log_scale and (hint := cli.range_hint(surfaces)):
        print(f"{hint}, --log-scale shows them")


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    cli.run_script(main)
