"""Draw the path of training in its PCA plane, the plane of its largest variance, on the loss over that plane.

    python visualize_trajectory.py                                      # SimpleNet on 1,000 digits, 30 epochs
    python visualize_trajectory.py --seeds 1 2 3                        # three runs in one shared plane
    python visualize_trajectory.py --optimizers sgd adam --lrs 0.01 0.001 --epochs 20
    python visualize_trajectory.py --model resnet14 --dataset fashion-mnist --limit 500 --epochs 5 --tolerance 0.02
    python visualize_trajectory.py --checkpoints runs/resnet14_fashion-mnist/*.pth --subset 500
    python visualize_trajectory.py --animate                            # also films, in contours and in 3-D

The script records the parameters after every epoch, computes their two principal components, evaluates the loss over
the plane of these components in a range that covers the path, and projects the path onto it. A plane has two
dimensions, while training has thousands: the figures show the distance of each point from the plane, and its true loss
beside the loss of its projection.

The script writes into trajectory_results: trajectory_<run>.npz and .points (the recorded parameters),
trajectory_surface.npz, trajectory_contour.png, trajectory_losses.png, loss_landscape.html (interactive and in 3-D, also
offline), before_after.png (one random plane at initialisation and after training) with its two .npz, and
trajectory_log.txt. The files of --checkpoints that are in one folder are one run, in the order of their epochs. A run
that is recorded with the same settings is not trained again.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import landscape_lib as ll
from landscape_lib import cli

FILMS: dict[Literal["contour", "surface"], str] = {"contour": "trajectory", "surface": "trajectory_3d"}
DEFAULTS = ll.Training(epochs=30, batch_size=64, lr=0.01, seed=42)


@dataclass(frozen=True)
class PathPlane(cli.JudgedPlane):
    """The planes, what they move, and how the loss is evaluated over them."""

    filter_norm: bool = False
    """Rescale the two directions filter by filter, as in a random plane; the path then lies farther off."""
    origin: Literal["last", "first"] = "last"
    """Point of the path at (0, 0)."""
    resolution: int = 51
    """Grid points along both axes, of all planes."""
    margin: float = 0.2
    """Space around the path, as a share of its extent."""
    tolerance: float | Literal["noise"] | None = None
    """Interpolate some points, with errors below this share of the loss, such as 0.01.
    noise: with errors below a third of the standard error of the loss."""
    batch_norm: Literal["batch", "recalibrate"] | None = None
    """Statistics of BatchNorm layers: recalibrate (estimated from all samples at every point; default), or batch.
    batch takes those of each batch."""

    def check(self) -> None:
        """Refuse planes that cannot be evaluated."""
        cli.check_resolution(self.resolution)
        cli.check_number("margin", self.margin, least=0)
        cli.check_tolerance(self.tolerance)


@dataclass(frozen=True)
class PathDrawing(cli.FigureFiles):
    """What is drawn, and how."""

    log_scale: bool = False
    """Colours and losses on a logarithmic scale."""
    before_after: bool = True
    """Also evaluate a random plane at initialisation and one after training (before_after.png)."""
    smoothing: float = 0.0
    """Gaussian smoothing of before_after.png, in grid steps, for display only; the files stay raw."""
    animate: bool = False
    """Also write films of the path that grows on the contours and on the surface: GIF, and MP4 where ffmpeg is."""

    def check(self) -> None:
        """Refuse what cannot be drawn."""
        super().check()
        cli.check_number("smoothing", self.smoothing, least=0)
        if not self.before_after:
            cli.refuse_unused("with --no-before-after", smoothing=(self.smoothing, 0.0))


def main(
    training: ll.Training = DEFAULTS,
    network: cli.ModelOptions = cli.ModelOptions(),  # noqa: B008 (frozen)
    source: cli.PathSource = cli.PathSource(),  # noqa: B008 (frozen)
    plane: PathPlane = PathPlane(),
    drawing: PathDrawing = PathDrawing(),
    loss: str = "cross_entropy",
    subset: int | None = None,
    device: str = "auto",
    force: bool = False,
    out: Path = Path("trajectory_results"),
) -> None:
    """The path of one or more training runs in its PCA plane, on the loss over that plane.

    Args:
        training: The training of the runs.
        network: The network.
        source: The runs.
        plane: The planes.
        drawing: The figures.
        loss: cross_entropy, mse, language_model, model (the loss that the network returns), or FILE.py:FUNCTION.
            That function takes (model, batch), see `objective`; THAT FILE IS RUN.
        subset: Random samples of the training data to evaluate on, instead of all.
        device: Device: cpu, cuda, cuda:N or mps. auto takes the first one available of cuda, mps, cpu.
        force: Train and compute again even if the same result is stored.
        out: Folder for the results; those of other networks stay, and the new ones get their names.
    """
    evaluation = cli.Evaluation(
        loss=loss, batch_norm=plane.batch_norm, device=device, data_dir=source.data_dir, force=force
    )
    cli.check_all(evaluation, plane, drawing)
    cli.check_count("subset", subset)
    if drawing.smoothing > plane.resolution:
        raise ll.InputError(f"smoothing is {drawing.smoothing} grid steps; the planes have {plane.resolution}")
    source.check(training, DEFAULTS, network)
    runs = source.settings(training, network)
    settings = cli.describe(plane, drawing, **runs, loss=loss, subset=subset, device=device)
    recorded = cli.record_paths(
        cli.make_folder(out), source, training, network, settings, chosen=plane, device=device, force=force
    )  # fmt: skip
    data = recorded.data if subset is None else recorded.data.subset(subset, seed=training.seed)
    points = cli.JoinedPoints(list(recorded.runs.values()))
    net = ll.model_at(recorded.network, points[-1])
    normalize: Literal["filter"] | None = "filter" if plane.filter_norm else None
    principal = ll.pca_plane(points, origin=plane.origin, parameters=plane.chosen_in_points(net), normalize=normalize)
    shares = principal.recipe["explained_variance"][:2]
    print(f"The first two components hold {shares[0]:.1%} and {shares[1]:.1%} of the variance of the path")
    target = evaluation.objective_of(net, data)
    if plane.batch_norm and not target.has_batch_norm:
        print(f"Note: there is no BatchNorm layer; --batch-norm {plane.batch_norm} changes nothing", flush=True)
    paths = recorded.projected(principal, target, force=force)
    grid: dict[str, Any] = {"resolution": plane.resolution, "tolerance": plane.tolerance, "force": force}
    path, ranges = recorded.file("trajectory_surface", ".npz"), cli.covering_ranges(paths, margin=plane.margin)
    remarks = {"inputs": cli.input_scaling(data), **recorded.remarks}
    surface = ll.load_or_evaluate(path, target, principal, remarks=remarks, **grid | ranges)
    step = points[-2] if plane.origin == "last" else None
    surface = cli.with_faithfulness(path, surface, target, principal, plane.faithfulness, seed=training.seed, step=step)
    if surface.faithfulness:
        print(surface.faithfulness.box)
    cli.wrote(path)
    log = {"settings": settings.replace(", ", "\n"), "surface": cli.summarize(surface)}
    log |= {path.metadata["name"]: cli.path_summary(path) for path in paths}
    if cli.is_first_rank():
        draw(surface, paths, recorded, drawing)
    if drawing.before_after:
        if target.has_batch_norm:  # whose running statistics are those of no single point here
            target = replace(evaluation, batch_norm=plane.batch_norm or "recalibrate").objective_of(net, data)
        ends = recorded.end_surfaces(target, training.seed, plane.chosen, **grid)
        log["before and after training"] = cli.surface_table([*ends.values()], [*ends])
        print(log["before and after training"])
        shown = [cli.smooth(end, drawing.smoothing) if drawing.smoothing else end for end in ends.values()]
        place = recorded.file("before_after", "")
        drawing.draw(place, ll.plot_comparison, shown, titles=[*ends], log_scale=drawing.log_scale)
    cli.wrote(cli.write_log(recorded.file("trajectory_log", ".txt"), log))


def draw(
    surface: ll.Surface, paths: list[ll.results.Trajectory], recorded: cli.RecordedPaths, drawing: PathDrawing
) -> None:
    """The path on contours, its losses, and the page and the film of it."""
    log_scale, file = drawing.log_scale, recorded.file
    drawing.draw(file("trajectory_contour", ""), ll.plot_path, surface, paths, log_scale=log_scale)
    drawing.draw(file("trajectory_losses", ""), ll.plot_path_losses, paths, log_scale=log_scale)
    page = file("loss_landscape", ".html")
    cli.wrote(ll.explore(surface, page, trajectories=paths, view="path", log_scale=log_scale or None))
    for ending in cli.animation_formats() if drawing.animate else ():
        for view, name in FILMS.items():
            with drawing.styled():
                film = ll.animate(surface, file(name, ending), trajectories=paths, view=view, log_scale=log_scale)
            cli.wrote(film)


if __name__ == "__main__":
    cli.run_script(main)
