"""Draw the loss of a trained network over a random plane through its weights, on training and test data.

    python visualize_loss_landscape.py                                   # the linear MNIST model, trained if missing
    python visualize_loss_landscape.py --checkpoint cifar10_cnn_model.pth --subset 2000
    python visualize_loss_landscape.py --checkpoint runs/resnet14_fashion-mnist/epoch_009.pth --subset 1000 --range auto
    python visualize_loss_landscape.py --resolution 101 --log-scale --seed 7 --zoom 0.01
    python visualize_loss_landscape.py --minibatches 4 --batch-size 256 --direction-pairs 5
    python visualize_loss_landscape.py --from loss_landscape_results/loss_grid_train.npz --levels 50
    python visualize_loss_landscape.py --figure-style paper --format pdf  # 3.3 inches wide, for a column of a paper
    python visualize_loss_landscape.py --html --animate                   # also an interactive page, and a film
    torchrun --nproc-per-node=2 visualize_loss_landscape.py               # shares the points among processes

The script writes contours, a 3-D surface and slices (.png, or as --format says), the values (.npz) and
experiment_log.txt. A surface that is stored with the same settings is drawn again without a new computation, and an
interrupted one is continued.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import landscape_lib as ll
from landscape_lib import cli


@dataclass(frozen=True)
class Choice:
    """The samples, and the number of planes."""

    budget: str | None = None
    """Time for each surface, such as 60s or 10min, instead of --tolerance.
    It chooses the number of samples and the tolerance so that sampling and interpolation err alike."""
    subset: int | None = None
    """Random samples of each split to use instead of all (drawn from the seed)."""
    minibatches: int = 0
    """Also draw the loss of that many single mini-batches of --batch-size training samples, as a training step sees it.
    BatchNorm then uses the statistics of the batch unless --batch-norm says otherwise."""
    direction_pairs: int = 1
    """Number of planes, with successive seeds from --seed on, whose mean and spread on the training data are drawn."""

    def check(self, plane: cli.PlaneChoice, evaluation: cli.Evaluation) -> None:
        """Refuse what cannot be used before anything is trained or evaluated."""
        cli.check_budget(self.budget, evaluation)
        cli.check_count("subset", self.subset)
        cli.check_count("minibatches", self.minibatches, least=0, most=cli.MOST_LEVELS)
        cli.check_count("direction_pairs", self.direction_pairs, most=cli.MOST_LEVELS)
        cli.check_seed(plane.seed + self.direction_pairs - 1, "the seed of the last pair of directions")


@dataclass(frozen=True)
class Figures(cli.Drawing):
    """The figures and films."""

    share_scale: bool = True
    """Draw training and test data in the same colours, unless one would look flat in them; the title says so.
    With --no-share-scale each has a scale of its own."""
    animate: bool = False
    """Also write the 3-D surface as a film in which it turns: GIF, and MP4 where ffmpeg is installed."""

    def check(self) -> None:
        """Refuse what cannot be drawn."""
        super().check()
        if not self.figures:
            cli.refuse_unused("with --no-figures", animate=(self.animate, False))


def main(
    plane: cli.PlaneChoice = cli.PlaneChoice(),  # noqa: B008 (frozen)
    evaluation: cli.Evaluation = cli.Evaluation(),  # noqa: B008 (frozen)
    subject: cli.Subject = cli.Subject(),  # noqa: B008 (frozen)
    choice: Choice = Choice(),
    drawing: Figures = Figures(),
    out: Path = Path("loss_landscape_results"),
    from_file: Annotated[Path | None, cli.arg(name="from")] = None,
) -> None:
    """Loss over a filter-normalised random plane.

    Args:
        plane: The plane; with --range auto, its range is determined on the training data.
        evaluation: The computation of the losses.
        subject: The trained network.
        choice: The samples, and the number of planes.
        drawing: The figures.
        out: Folder for the results; those of another checkpoint stay, and the new ones get its name.
        from_file: Draw a surface (.npz) that is already computed, and compute nothing.
    """
    if from_file:
        cli.refuse_unused("with --from", *((one, type(one)()) for one in (plane, evaluation, subject, choice)))
        redraw(from_file, out, drawing)
        return
    cli.check_all(plane, evaluation, drawing)
    choice.check(plane, evaluation)
    out, small = cli.make_folder(out), evaluation.of_minibatches()
    size, count = small.arguments["batch_size"], choice.minibatches
    needed = {"train": max(choice.subset or 1, count * size), "test": choice.subset or 1}
    trained, data, remarks = cli.load_subject(subject, evaluation, needed)
    plane.check_networks(trained.model)
    suffix = cli.checkpoint_suffix(out, trained, "loss_grid_train{}.npz", cli.owner_in_npz, force=evaluation.force)
    if choice.subset is not None:
        data = {split: samples.subset(choice.subset, seed=plane.seed) for split, samples in data.items()}
    batches = data["train"].minibatches(count, size, seed=plane.seed) if count else []
    print(f"Settings: {cli.describe(plane, evaluation, choice)}")
    surfaces: dict[str, ll.Surface] = {}

    def place(name: str) -> Path:
        return out / f"loss_grid_{name}{suffix}.npz"

    def compute(name: str, samples: cli.SampleSet, conditions: cli.Conditions) -> None:
        surfaces[name] = cli.checkpoint_surface(place(name), trained, samples, conditions)
        print(cli.summarize(surfaces[name]), flush=True)

    conditions = cli.Conditions(plane, evaluation, remarks=remarks)
    conditions = cli.settle_range(place("train"), trained, data["train"], conditions)
    for split, samples in data.items():
        [part], settled = cli.settle_budget(choice.budget, [place(split)], [trained], [samples], conditions)
        compute(split, part, settled)
        for pair in settled.plane.pairs(choice.direction_pairs)[1:] if split == "train" else ():
            compute(f"train_seed{pair.seed}", part, replace(settled, plane=pair))
    names = [f"train_minibatch{k}" for k in range(count)]
    conditions = replace(conditions, evaluation=small, plane=replace(conditions.plane, faithfulness="never"))
    batches, settled = cli.settle_budget(choice.budget, [*map(place, names)], [trained] * count, batches, conditions)
    for name, batch in zip(names, batches, strict=True):
        compute(name, batch, settled)
    if cli.is_first_rank():
        draw(surfaces, out, suffix, drawing)
    log = {"model": trained.description, "settings": cli.describe(plane, evaluation, choice).replace(", ", "\n")}
    log |= {name: cli.summarize(surface) for name, surface in surfaces.items()}
    cli.wrote(cli.write_log(out / f"experiment_log{suffix}.txt", log))


def redraw(source: Path, out: Path, drawing: Figures) -> None:
    """The figures of a surface in a file, under names that tell which one it is."""
    drawing.check()
    if not drawing.figures and not drawing.html:
        raise ll.InputError("--from only draws: leave out --no-figures, or add --html")
    surface, out = ll.Surface.load(source), cli.make_folder(out)
    split = {"train": "train", "test": "test"}.get(surface.metadata.get("data", {}).get("split"), "data")
    name = cli.plain_name(source.stem)
    suffix = name.removeprefix(f"loss_grid_{split}") if name.startswith(f"loss_grid_{split}") else f"_{name}"
    if cli.is_first_rank():
        draw({split: surface}, out, suffix, drawing)


def draw(surfaces: dict[str, ll.Surface], out: Path, suffix: str, drawing: Figures) -> None:
    """The figures of every split, the spread over pairs of directions, and the mini-batches, as far as they exist."""
    splits = {name: surface for name, surface in surfaces.items() if name in ("train", "test", "data")}
    if drawing.html:
        cli.wrote(ll.explore(splits, out / f"explorer{suffix}.html", log_scale=drawing.log_scale or None))
    if not drawing.figures:
        return

    def save(name: str, plot: Callable[..., Any], *drawn: Any, **options: Any) -> None:
        drawing.draw(out / f"landscape_{name}{suffix}", plot, *drawn, log_scale=drawing.log_scale, **options)

    colored, limits = cli.shared_colors(splits, drawing.log_scale) if drawing.share_scale else (splits, {})
    for split, surface in splits.items():
        save(f"{split}_2d_contour", ll.plot_contour, colored[split], levels=drawing.levels, **limits)
        if split != "test":
            save(f"{split}_3d_surface", ll.plot_surface, surface)
            save(f"{split}_1d_slices", ll.plot_slices, surface)
        for ending in cli.animation_formats() if drawing.animate and split != "test" else ():
            film = out / f"landscape_{split}_3d_surface{suffix}{ending}"
            with drawing.styled():
                cli.wrote(ll.animate(surface, film, log_scale=drawing.log_scale))
    if pairs := [surface for name, surface in surfaces.items() if name.startswith("train_seed")]:
        save("train_direction_pairs", cli.plot_spread, [surfaces["train"], *pairs], levels=drawing.levels)
    if single := [surface for name, surface in surfaces.items() if name.startswith("train_minibatch")]:
        titles = [f"mini-batch {number}" for number in range(len(single))]
        save("train_minibatches", ll.plot_comparison, single, titles=titles, levels=drawing.levels)


if __name__ == "__main__":
    cli.run_script(main)
