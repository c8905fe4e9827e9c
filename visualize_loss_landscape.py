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
from typing import Annotated

from tyro.conf import arg

from landscape_lib import (
    DEFAULT_CHECKPOINT,
    Checkpoint,
    Data,
    Evaluation,
    PlaneChoice,
    Surface,
    checkpoint_surface,
    describe,
    explore,
    is_first_rank,
    load_checkpoint_data,
    load_or_train,
    make_folder,
    plot_comparison,
    plot_contour,
    plot_slices,
    plot_spread,
    plot_surface,
    result_suffix,
    run_script,
    save_figure,
    settle_budget,
    settle_range,
    summarize,
    write_log,
)


def main(
    plane: PlaneChoice = PlaneChoice(),  # noqa: B008 (frozen)
    evaluation: Evaluation = Evaluation(),  # noqa: B008 (frozen)
    checkpoint: Path = DEFAULT_CHECKPOINT,
    model: str | None = None,
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
        out: Folder for the results.
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
    out = make_folder(out)
    figures = figures and is_first_rank()
    if from_file:
        surface = Surface.load(from_file)
        draw(surface, out, levels, log_scale)
        if html:
            wrote(explore(surface, out / f"explorer{suffix_of(surface)}.html"))
        return
    trained = load_or_train(checkpoint, data_dir=evaluation.data_dir, device=evaluation.device, model=model)
    suffix = result_suffix(trained.model_name)
    print(f"Checkpoint: {checkpoint} ({trained.model_name}, epoch {trained.metadata['epoch']})")
    settings = describe(
        plane, evaluation, budget=budget, subset=subset, minibatches=minibatches, direction_pairs=direction_pairs
    )
    print(f"Settings: {settings}")
    log = {"model": trained.description, "settings": settings.replace(", ", "\n")}

    data = {split: load_checkpoint_data(trained, split, evaluation.data_dir) for split in ("train", "test")}
    if subset is not None:
        data = {split: samples.subset(subset, seed=plane.seed) for split, samples in data.items()}
    plane, notes = settle_range(trained, data["train"], plane, evaluation)
    settled, surfaces = {}, {}
    for split, samples in data.items():
        path = out / f"loss_grid_{split}{suffix}.npz"
        [samples], chosen, planned = settle_budget(budget, [path], [trained], [samples], plane, evaluation)
        settled[split] = (samples, chosen, notes | planned)
        surfaces[split] = compute(path, trained, plane, *settled[split])
        log[f"{samples.name} {split}"] = summarize(surfaces[split])
        if figures:
            draw(surfaces[split], out, levels, log_scale)
    if html and is_first_rank():
        wrote(explore(surfaces, out / f"explorer{suffix}.html"))
    options = {"levels": levels, "log_scale": log_scale}
    if minibatches:
        path = out / f"landscape_train_minibatches{suffix}.png"
        single = compute_minibatches(out, trained, data["train"], minibatches, plane, evaluation, notes, budget)
        log |= {f"mini-batch {k}": summarize(surface) for k, surface in enumerate(single)}
        if figures:
            titles = [f"mini-batch {k}" for k in range(minibatches)]
            wrote(save_figure(plot_comparison(single, titles=titles, **options), path))
    if direction_pairs > 1:
        path = out / f"landscape_train_direction_pairs{suffix}.png"
        more = compute_pairs(out, trained, direction_pairs, plane, *settled["train"])
        log |= {f"directions {k}": summarize(surface) for k, surface in enumerate(more, start=1)}
        if figures:
            wrote(save_figure(plot_spread([surfaces["train"], *more], **options), path))
    wrote(write_log(out / f"experiment_log{suffix}.txt", log))


def compute(
    path: Path, trained: Checkpoint, plane: PlaneChoice, data: Data, evaluation: Evaluation, notes: dict
) -> Surface:
    """Evaluate the plane, or find that already done."""
    surface = checkpoint_surface(path, trained, data, plane, evaluation, notes)
    wrote(path)
    print(summarize(surface), flush=True)
    return surface


def compute_minibatches(out, trained, data, count, plane, evaluation, notes, budget) -> list[Surface]:
    """One surface for each of ``count`` mini-batches."""
    evaluation = evaluation.of_minibatches()
    batches = data.minibatches(count, evaluation.batch_size, seed=plane.seed)
    suffix = result_suffix(trained.model_name)
    paths = [out / f"loss_grid_train_minibatch{k}{suffix}.npz" for k in range(count)]
    batches, evaluation, planned = settle_budget(budget, paths, [trained] * count, batches, plane, evaluation)
    return [
        compute(path, trained, plane, batch, evaluation, {**notes, **planned, "minibatch": k})
        for k, (path, batch) in enumerate(zip(paths, batches, strict=True))
    ]


def compute_pairs(out, trained, count, plane, data, evaluation, notes) -> list[Surface]:
    """One surface for each of ``count`` pairs of directions but the first one."""
    name = f"loss_grid_train_seed{{}}{result_suffix(trained.model_name)}.npz"
    return [
        compute(out / name.format(pair.seed), trained, pair, data, evaluation, notes) for pair in plane.pairs(count)[1:]
    ]


def draw(surface: Surface, out: Path, levels: int, log_scale: bool) -> None:
    """The contour of any split; the 3-D surface and the slices of the training data."""
    split = surface.metadata.get("data", {}).get("split") or "data"
    suffix, name = suffix_of(surface), f"landscape_{split}"
    contour = plot_contour(surface, levels=levels, log_scale=log_scale)
    wrote(save_figure(contour, out / f"{name}_2d_contour{suffix}.png"))
    if split != "test":
        wrote(save_figure(plot_surface(surface, log_scale=log_scale), out / f"{name}_3d_surface{suffix}.png"))
        wrote(save_figure(plot_slices(surface, log_scale=log_scale), out / f"{name}_1d_slices{suffix}.png"))


def suffix_of(surface: Surface) -> str:
    return result_suffix(surface.metadata.get("checkpoint", {}).get("model", "linear-mnist"))


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    run_script(main)
