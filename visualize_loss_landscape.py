"""Draw the loss of a trained network over a random plane through its weights, on training and test data.

    python visualize_loss_landscape.py                                   # the linear MNIST model, trained if missing
    python visualize_loss_landscape.py --checkpoint cifar10_cnn_model.pth --subset 2000
    python visualize_loss_landscape.py --resolution 101 --log-scale --seed 7
    python visualize_loss_landscape.py --from loss_landscape_results/loss_grid_train.npz --levels 50

Writes contours, a 3-D surface and slices (.png), the numbers (.npz) and experiment_log.txt. A grid that is already
there with the same recipe is drawn again, not computed again; an interrupted one goes on where it stopped.
"""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from landscape_lib import (
    DEFAULT_CHECKPOINT,
    Checkpoint,
    Evaluation,
    PlaneChoice,
    Surface,
    describe,
    load_checkpoint_data,
    load_or_evaluate,
    load_or_train,
    make_folder,
    objective,
    plot_contour,
    plot_slices,
    plot_surface,
    random_plane,
    result_suffix,
    run_script,
    save_figure,
    summarize,
    write_log,
)


def main(
    plane: PlaneChoice = PlaneChoice(),  # noqa: B008 (frozen)
    evaluation: Evaluation = Evaluation(),  # noqa: B008 (frozen)
    checkpoint: Path = DEFAULT_CHECKPOINT,
    model: str | None = None,
    out: Path = Path("loss_landscape_results"),
    subset: int | None = None,
    levels: int = 30,
    log_scale: bool = False,
    figures: bool = True,
    from_file: Annotated[Path | None, arg(name="from")] = None,
) -> None:
    """Loss over a filter-normalised random plane.

    Args:
        plane: Which plane.
        evaluation: How it is evaluated.
        checkpoint: Trained model (.pth); the default one is trained first where it is missing.
        model: FILE.py:FUNCTION that builds the network, for a checkpoint of your own network; that file is run.
        out: Folder for the results.
        subset: Random samples of each split to use instead of all (drawn from the seed).
        levels: Bands of the contour figure.
        log_scale: Colours and heights on a logarithmic scale.
        figures: Draw figures; --no-figures only computes.
        from_file: Draw a surface (.npz) that is already computed, and compute nothing.
    """
    out = make_folder(out)
    if from_file:
        draw(Surface.load(from_file), out, levels, log_scale)
        return
    trained = load_or_train(checkpoint, data_dir=evaluation.data_dir, device=evaluation.device, model=model)
    print(f"Checkpoint: {checkpoint} ({trained.model_name}, epoch {trained.metadata['epoch']})")
    settings = describe(plane, evaluation, subset=subset, levels=levels, log_scale=log_scale)
    print(f"Settings: {settings}")
    log = {"model": trained.description, "settings": settings.replace(", ", "\n")}
    for split in ("train", "test"):
        surface = evaluate_split(trained, split, plane, evaluation, subset, out)
        log[f"{surface.metadata['data']['name']} {split}"] = summarize(surface)
        if figures:
            draw(surface, out, levels, log_scale)
    wrote(write_log(out / f"experiment_log{result_suffix(trained.model_name)}.txt", log))


def evaluate_split(trained: Checkpoint, split: str, plane: PlaneChoice, evaluation: Evaluation, subset, out) -> Surface:
    """Load one split of the checkpoint's data and evaluate the plane on it, or find that already done."""
    data = load_checkpoint_data(trained, split, evaluation.data_dir)
    if subset:
        data = data.subset(subset, seed=plane.seed)
    path = out / f"loss_grid_{split}{result_suffix(trained.model_name)}.npz"
    surface = load_or_evaluate(
        path,
        objective(trained.model, data, batch_norm=evaluation.batch_norm, device=evaluation.device),
        random_plane(trained.model, **plane.directions),
        force=evaluation.force,
        notes={"checkpoint": trained.identity},
        method=evaluation.method,
        **plane.grid,
    )
    wrote(path)
    print(summarize(surface), flush=True)
    return surface


def draw(surface: Surface, out: Path, levels: int, log_scale: bool) -> None:
    """The contour of any split; the 3-D surface and the slices of the training data."""
    split = surface.metadata.get("data", {}).get("split") or "data"
    suffix = result_suffix(surface.metadata.get("checkpoint", {}).get("model", "linear-mnist"))
    name = f"landscape_{split}"
    contour = plot_contour(surface, levels=levels, log_scale=log_scale)
    wrote(save_figure(contour, out / f"{name}_2d_contour{suffix}.png"))
    if split != "test":
        wrote(save_figure(plot_surface(surface, log_scale=log_scale), out / f"{name}_3d_surface{suffix}.png"))
        wrote(save_figure(plot_slices(surface, log_scale=log_scale), out / f"{name}_1d_slices{suffix}.png"))


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    run_script(main)
