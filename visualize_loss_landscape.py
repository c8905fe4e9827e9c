"""Draw the loss of a trained network over a random plane through its weights, on training and test data.

    python visualize_loss_landscape.py                                   # the linear MNIST model, trained if missing
    python visualize_loss_landscape.py --checkpoint cifar10_cnn_model.pth --subset 2000
    python visualize_loss_landscape.py --checkpoint runs/resnet14_fashion-mnist/epoch_009.pth --subset 1000 --range auto
    python visualize_loss_landscape.py --resolution 101 --log-scale --seed 7 --zoom 0.01
    python visualize_loss_landscape.py --minibatches 4 --batch-size 256 --direction-pairs 5
    python visualize_loss_landscape.py --from loss_landscape_results/loss_grid_train.npz --levels 50
    python visualize_loss_landscape.py --html                             # also explorer.html, to look around in

Writes contours, a 3-D surface and slices (.png), the numbers (.npz) and experiment_log.txt. A grid that is already
there with the same recipe is drawn again, not computed again; an interrupted one goes on where it stopped. Several
processes share the points: torchrun --nproc-per-node=2 visualize_loss_landscape.py ...
"""

from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from landscape_lib import (
    Checkpoint,
    Data,
    InputError,
    Surface,
    cli,
    explore,
    plot_comparison,
    plot_contour,
    plot_slices,
    plot_surface,
    save_figure,
)


def main(
    plane: cli.PlaneChoice = cli.PlaneChoice(),  # noqa: B008 (frozen)
    evaluation: cli.Evaluation = cli.Evaluation(),  # noqa: B008 (frozen)
    checkpoint: Path = cli.DEFAULT_CHECKPOINT,
    model: str | None = None,
    accept_mismatch: bool = False,
    out: Path = Path("loss_landscape_results"),
    budget: str | None = None,
    subset: int | None = None,
    minibatches: int = 0,
    direction_pairs: int = 1,
    levels: int = 30,
    log_scale: bool = False,
    figures: bool = True,
    html: bool = False,
    from_file: Annotated[Path | None, arg(name="from")] = None,
) -> None:
    """Loss over a filter-normalised random plane.

    Args:
        plane: Which plane; a range that is found is that of the training data.
        evaluation: How it is evaluated.
        checkpoint: Trained model (.pth); the default one is trained first where it is missing.
        model: FILE.py:FUNCTION that built the network of the checkpoint, if it is your own; THAT FILE IS RUN.
        accept_mismatch: Go on where the network does not reach the test loss and accuracy in its checkpoint.
        out: Folder for the results; those of another checkpoint stay, and the names of the new ones tell it.
        budget: Time for each surface, such as 60s or 10min, instead of --tolerance: picks samples and tolerance, both
            errors of one size.
        subset: Random samples of each split to use instead of all (drawn from the seed).
        minibatches: Also draw the loss of that many single mini-batches of --batch-size training samples, as a
            training step sees it: BatchNorm by batch unless --batch-norm says otherwise.
        direction_pairs: Evaluate the training data on that many planes (seeds from --seed on); mean and spread.
        levels: Bands of the contour figure.
        log_scale: Colours and heights on a logarithmic scale.
        figures: Draw figures; --no-figures only computes.
        html: Also write a page to look around in, which opens in a browser without a network.
        from_file: Draw a surface (.npz) that is already computed, and compute nothing.
    """
    if from_file:
        unused: dict[str, tuple[Any, Any]] = {
            "checkpoint": (checkpoint, cli.DEFAULT_CHECKPOINT),
            "model": (model, None),
            "budget": (budget, None),
        }
        unused |= {"subset": (subset, None), "minibatches": (minibatches, 0), "direction_pairs": (direction_pairs, 1)}
        unused["accept_mismatch"] = (accept_mismatch, False)
        cli.refuse_unused("with --from", (plane, cli.PlaneChoice()), (evaluation, cli.Evaluation()), **unused)
        redraw(from_file, out, levels, log_scale, figures, html)
        return
    check_options(plane, evaluation, budget, subset, minibatches, direction_pairs, levels)
    out = cli.make_folder(out)
    needed = {"train": max(subset or 1, minibatches * minibatch_size(evaluation)), "test": subset or 1}
    trained = cli.load_or_train(
        checkpoint, data_dir=evaluation.data_dir, device=evaluation.device, model=model, needed=needed
    )
    suffix = cli.checkpoint_suffix(out, trained, "loss_grid_train{}.npz", cli.owner_in_npz, force=evaluation.force)
    print(f"Checkpoint: {checkpoint} ({trained.model_name}, epoch {trained.metadata['epoch']})")
    settings = cli.describe(
        plane, evaluation, budget=budget, subset=subset, minibatches=minibatches, direction_pairs=direction_pairs
    )
    print(f"Settings: {settings}")
    cli.note_unused_batch_norm(evaluation, [trained])
    log = {"model": trained.description, "settings": settings.replace(", ", "\n")}

    data = {split: cli.load_checkpoint_data(trained, split, evaluation.data_dir) for split in ("train", "test")}
    if subset is not None:
        data = {split: samples.subset(subset, seed=plane.seed) for split, samples in data.items()}
    batches = draw_minibatches(data["train"], minibatches, plane, evaluation)
    remarks = cli.confirm_metrics(trained, evaluation, data["test"] if subset is None else None, accept=accept_mismatch)
    plane, notes = cli.settle_range(out / f"loss_grid_train{suffix}.npz", trained, data["train"], plane, evaluation)
    settled, surfaces = {}, {}
    for split, samples in data.items():
        path = out / f"loss_grid_{split}{suffix}.npz"
        [samples], chosen, planned = cli.settle_budget(budget, [path], [trained], [samples], plane, evaluation)
        settled[split] = (samples, chosen, notes | planned)
        surfaces[split] = compute(path, trained, plane, *settled[split], remarks)
        log[f"{samples.name} {split}"] = cli.summarize(surfaces[split])
        if figures:
            draw(surfaces[split], out, split, suffix, levels, log_scale)
    if html and cli.is_first_rank():
        wrote(explore(surfaces, out / f"explorer{suffix}.html"))
    options: dict[str, Any] = {"levels": levels, "log_scale": log_scale}
    if minibatches:
        path = out / f"landscape_train_minibatches{suffix}.png"
        single = compute_minibatches(out, suffix, trained, batches, plane, evaluation, notes, budget)
        log |= {f"mini-batch {k}": cli.summarize(surface) for k, surface in enumerate(single)}
        if figures:
            titles = [f"mini-batch {k}" for k in range(minibatches)]
            wrote(save_figure(plot_comparison(single, titles=titles, **options), path))
    if direction_pairs > 1:
        path = out / f"landscape_train_direction_pairs{suffix}.png"
        more = compute_pairs(out, suffix, trained, direction_pairs, plane, *settled["train"])
        log |= {f"directions {k}": cli.summarize(surface) for k, surface in enumerate(more, start=1)}
        if figures:
            wrote(save_figure(cli.plot_spread([surfaces["train"], *more], **options), path))
    wrote(cli.write_log(out / f"experiment_log{suffix}.txt", log))


def check_options(
    plane: cli.PlaneChoice,
    evaluation: cli.Evaluation,
    budget: str | None,
    subset: int | None,
    minibatches: int,
    direction_pairs: int,
    levels: int,
) -> None:
    """Refuse what cannot be used before anything is trained or evaluated."""
    plane.check()
    evaluation.check()
    cli.check_budget(budget, evaluation)
    cli.check_count("subset", subset)
    cli.check_count("minibatches", minibatches, least=0, most=cli.MOST_LEVELS)
    cli.check_count("direction_pairs", direction_pairs, most=cli.MOST_LEVELS)
    cli.check_seed(plane.seed + direction_pairs - 1, "the seed of the last pair of directions")
    cli.check_levels(levels)


def minibatch_size(evaluation: cli.Evaluation) -> int:
    """The samples of a mini-batch."""
    return int(evaluation.of_minibatches().arguments["batch_size"])


def draw_minibatches(data: Data, count: int, plane: cli.PlaneChoice, evaluation: cli.Evaluation) -> list[Data]:
    """``count`` mini-batches, also none."""
    return data.minibatches(count, minibatch_size(evaluation), seed=plane.seed) if count else []


def compute(
    path: Path,
    trained: Checkpoint,
    plane: cli.PlaneChoice,
    data: Data,
    evaluation: cli.Evaluation,
    notes: dict[str, Any],
    remarks: dict[str, Any] | None = None,
) -> Surface:
    """Evaluate the plane, or find that already done."""
    surface = cli.checkpoint_surface(path, trained, data, plane, evaluation, notes, remarks)
    wrote(path)
    print(cli.summarize(surface), flush=True)
    return surface


def compute_minibatches(
    out: Path,
    suffix: str,
    trained: Checkpoint,
    batches: list[Data],
    plane: cli.PlaneChoice,
    evaluation: cli.Evaluation,
    notes: dict[str, Any],
    budget: str | None,
) -> list[Surface]:
    """One surface for each mini-batch."""
    evaluation, count = evaluation.of_minibatches(), len(batches)
    paths = [out / f"loss_grid_train_minibatch{k}{suffix}.npz" for k in range(count)]
    batches, evaluation, planned = cli.settle_budget(budget, paths, [trained] * count, batches, plane, evaluation)
    return [
        compute(path, trained, plane, batch, evaluation, {**notes, **planned, "minibatch": k})
        for k, (path, batch) in enumerate(zip(paths, batches, strict=True))
    ]


def compute_pairs(
    out: Path,
    suffix: str,
    trained: Checkpoint,
    count: int,
    plane: cli.PlaneChoice,
    data: Data,
    evaluation: cli.Evaluation,
    notes: dict[str, Any],
) -> list[Surface]:
    """One surface for each of ``count`` pairs of directions but the first one."""
    name = f"loss_grid_train_seed{{}}{suffix}.npz"
    return [
        compute(out / name.format(pair.seed), trained, pair, data, evaluation, notes) for pair in plane.pairs(count)[1:]
    ]


def redraw(source: Path, out: Path, levels: int, log_scale: bool, figures: bool, html: bool) -> None:
    """The figures of a surface in a file, under names that tell which one it is."""
    cli.check_levels(levels)
    if not figures and not html:
        raise InputError("--from only draws: leave out --no-figures, or add --html")
    surface, out = Surface.load(source), cli.make_folder(out)
    split = surface.metadata.get("data", {}).get("split")
    split = split if split in ("train", "test") else "data"
    name = cli.plain_name(source.stem)
    suffix = name.removeprefix(f"loss_grid_{split}") if name.startswith(f"loss_grid_{split}") else f"_{name}"
    if figures and cli.is_first_rank():
        draw(surface, out, split, suffix, levels, log_scale)
    if html and cli.is_first_rank():
        wrote(explore(surface, out / f"explorer{suffix}.html"))


def draw(surface: Surface, out: Path, split: str, suffix: str, levels: int, log_scale: bool) -> None:
    """The contour of any split; the 3-D surface and the slices of the training data."""
    name = f"landscape_{split}"
    contour = plot_contour(surface, levels=levels, log_scale=log_scale)
    wrote(save_figure(contour, out / f"{name}_2d_contour{suffix}.png"))
    if split != "test":
        wrote(save_figure(plot_surface(surface, log_scale=log_scale), out / f"{name}_3d_surface{suffix}.png"))
        wrote(save_figure(plot_slices(surface, log_scale=log_scale), out / f"{name}_1d_slices{suffix}.png"))


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    cli.run_script(main)
