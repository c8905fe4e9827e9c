"""Where training went: its path in the plane in which it spread most, on the loss over that plane.

    python visualize_trajectory.py                                      # SimpleNet on 1,000 digits, 30 epochs
    python visualize_trajectory.py --seeds 1 2 3                        # three runs in one shared plane
    python visualize_trajectory.py --optimizers sgd adam --lrs 0.01 0.001 --epochs 20
    python visualize_trajectory.py --model resnet14 --dataset fashion-mnist --limit 500 --epochs 5 --tolerance 0.02
    python visualize_trajectory.py --checkpoints runs/resnet14_fashion-mnist/*.pth --subset 500
    python visualize_trajectory.py --animate                            # also a GIF, and an MP4 where ffmpeg is there

Records the parameters after every epoch, finds their two principal components, evaluates the loss over that plane in a
range that covers the path, and projects the path onto it. A plane has two dimensions and training has thousands: the
figures say how far off the plane each point lies, and show its true loss beside that of its shadow on the surface.

Writes into trajectory_results: trajectory_<run>.npz and .points (the recorded parameters), trajectory_surface.npz,
trajectory_contour.png, trajectory_losses.png, loss_landscape.html (3-D, turns in the browser, needs no network),
before_after.png (one random plane at initialisation and after training) with its two .npz, trajectory_log.txt. With
--checkpoints those of one folder are one run, in the order of their epochs. A run that is recorded already with the
same settings is not trained again.
"""

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from landscape_lib import (
    Checkpoint,
    Data,
    InputError,
    Objective,
    RecordedPoints,
    Surface,
    Training,
    Trajectory,
    animate_path,
    build_model,
    cli,
    load_checkpoint,
    load_dataset,
    load_or_evaluate,
    model_at,
    objective,
    pca_plane,
    plot_comparison,
    plot_path,
    plot_path_html,
    plot_path_losses,
    random_plane,
    save_figure,
)

DEFAULTS = Training(epochs=30, batch_size=64, lr=0.01, seed=42)


def main(
    training: Training = DEFAULTS,
    network: cli.ModelOptions = cli.ModelOptions(),  # noqa: B008 (frozen)
    model: str | None = None,
    dataset: str = "auto",
    data_dir: Path = Path("data"),
    limit: int | None = 1000,
    seeds: tuple[int, ...] = (),
    optimizers: tuple[Literal["sgd", "adam"], ...] = (),
    lrs: tuple[float, ...] = (),
    checkpoints: tuple[Path, ...] = (),
    subset: int | None = None,
    filter_norm: bool = False,
    origin: Literal["last", "first"] = "last",
    resolution: int = 51,
    margin: float = 0.2,
    tolerance: float | Literal["noise"] | None = None,
    batch_norm: Literal["batch", "recalibrate"] | None = None,
    log_scale: bool = False,
    smoothing: float = 0.0,
    before_after: bool = True,
    animate: bool = False,
    device: str = "auto",
    force: bool = False,
    accept_mismatch: bool = False,
    out: Path = Path("trajectory_results"),
) -> None:
    """The path of one or more training runs in its PCA plane, on the loss over that plane.

    Args:
        training: How the runs are trained.
        network: What the network is made of.
        model: Model by name, as for train_classifier.py; None is simplenet, or what the checkpoints name. The file of
            FILE.py:FUNCTION is run.
        dataset: Data set: mnist, fashion-mnist, cifar10, mnist-5k, digits, folder:PATH, or auto (all of MNIST if it
            is there or can be downloaded, otherwise mnist-5k, with a warning).
        data_dir: Folder where data sets are looked for and downloaded to.
        limit: Train on the first LIMIT samples only; None is all of them.
        seeds: One run each, in one shared plane.
        optimizers: One run each.
        lrs: Learning rates, one run each.
        checkpoints: Draw these instead of training: three or more; those of one folder are one run.
        subset: Random samples of the training data to evaluate on, instead of all.
        filter_norm: Rescale the two directions filter by filter, as in a random plane; the path then lies farther off.
        origin: Point of the path at (0, 0).
        resolution: Grid points along both axes, of all planes.
        margin: Space around the path, as a share of its extent.
        tolerance: Interpolate where errors stay below this share of the loss (0.01), or a third of its standard error.
        batch_norm: Statistics of BatchNorm layers at every point: re-estimated on the data (default), or of each batch.
        log_scale: Colours and losses on a logarithmic scale.
        smoothing: Gaussian smoothing of before_after.png, in grid steps, for display only; the files stay raw.
        before_after: Also evaluate a random plane at initialisation and one after training (before_after.png).
        animate: Also write the path as an animation.
        device: auto (the first there of cuda, mps, cpu), cpu, cuda, cuda:N or mps.
        force: Train and compute again even where the same result is already there.
        accept_mismatch: Go on where the last checkpoint does not reach the test loss and accuracy stored in it.
        out: Folder for the results; those of other networks stay, and the names of the new ones tell them.
    """
    evaluation = cli.Evaluation(
        tolerance=tolerance, batch_norm=batch_norm, device=device, data_dir=data_dir, force=force
    )
    evaluation.check()
    check_view(resolution, margin, smoothing, subset, before_after)
    if checkpoints:
        unused: dict[str, tuple[Any, Any]] = {
            "limit": (limit, 1000),
            "dataset": (dataset, "auto"),
            "seeds": (seeds, ()),
            "lrs": (lrs, ()),
        }
        unused["optimizers"] = (optimizers, ())
        trained = (replace(training, seed=DEFAULTS.seed), DEFAULTS)
        cli.refuse_unused("with --checkpoints", trained, (network, cli.ModelOptions()), **unused)
        cli.check_seed(training.seed)
    else:
        cli.refuse_unused("without --checkpoints", accept_mismatch=(accept_mismatch, False))
        check_training(training, network, model, limit, seeds, optimizers, lrs)
    out = cli.make_folder(out)
    settings = cli.describe(
        training, network, model=model, dataset=dataset, limit=limit, seeds=seeds, optimizers=optimizers, lrs=lrs,
        checkpoints=[str(path) for path in checkpoints], subset=subset, filter_norm=filter_norm, origin=origin,
        resolution=resolution, margin=margin, tolerance=tolerance, batch_norm=batch_norm, device=device,
    )  # fmt: skip
    print(f"Settings: {settings}")
    if checkpoints:
        runs, net, train, suffix, remark = from_checkpoints(out, checkpoints, model, evaluation, accept_mismatch)
    else:
        options = variants(training, seeds, optimizers, lrs)
        runs, net, train, suffix = train_runs(
            out, options, model or "simplenet", network.arguments, dataset, data_dir, limit, device, force
        )
        remark = {}
    data = train if subset is None else train.subset(subset, seed=training.seed)
    every = cli.JoinedPoints(list(runs.values()))
    net = model_at(net, every[-1])
    plane = pca_plane(every, origin=origin, normalize="filter" if filter_norm else None)
    shares = plane.recipe["explained_variance"][:2]
    print(f"The first two components hold {shares[0]:.1%} and {shares[1]:.1%} of the variance of the path")

    target = objective(net, data, batch_norm=batch_norm, device=device)
    if batch_norm and not target.has_batch_norm:
        print(f"Note: there is no BatchNorm layer; --batch-norm {batch_norm} changes nothing", flush=True)
    paths = []
    for name, points in runs.items():
        path = out / f"trajectory_{cli.plain_name(name)}{suffix}.npz"
        paths.append(cli.load_or_project(path, points, plane, target, name=name, force=force))
        wrote(path)
        print(path_summary(paths[-1]), flush=True)
    grid: dict[str, Any] = {
        **cli.covering_ranges(paths, margin=margin),
        "resolution": resolution,
        "tolerance": tolerance,
    }
    path = out / f"trajectory_surface{suffix}.npz"
    remarks = {"inputs": cli.input_scaling(data), **remark}
    surface = load_or_evaluate(path, target, plane, force=force, remarks=remarks, **grid)
    wrote(path)
    draw(surface, paths, out, suffix, log_scale, animate)
    log = {"settings": settings.replace(", ", "\n"), "surface": cli.summarize(surface)}
    log |= {name: path_summary(path) for name, path in zip(runs, paths, strict=True)}
    if before_after:
        if target.has_batch_norm:  # whose running statistics are those of no single point here
            target = objective(net, data, batch_norm=batch_norm or "recalibrate", device=device)
        grid = {"resolution": resolution, "tolerance": tolerance, "force": force}
        ends = evaluate_ends(next(iter(runs.values())), net, target, training.seed, out, suffix, **grid)
        log["before and after training"] = cli.surface_table(list(ends.values()), list(ends))
        print(log["before and after training"])
        shown = [cli.smooth(end, smoothing) if smoothing else end for end in ends.values()]
        titles = [f"{label} training ({next(iter(runs))})" for label in ends]
        figure = plot_comparison(shown, titles=titles, log_scale=log_scale)
        wrote(save_figure(figure, out / f"before_after{suffix}.png"))
    wrote(cli.write_log(out / f"trajectory_log{suffix}.txt", log))


def check_view(resolution: int, margin: float, smoothing: float, subset: int | None, before_after: bool) -> None:
    """Refuse planes that cannot be evaluated or drawn."""
    cli.check_resolution(resolution)
    cli.check_number("margin", margin, least=0)
    cli.check_number("smoothing", smoothing, least=0)
    if smoothing > resolution:
        raise InputError(f"smoothing is {smoothing} grid steps; the planes have {resolution}")
    cli.check_count("subset", subset)
    if not before_after:
        cli.refuse_unused("with --no-before-after", smoothing=(smoothing, 0.0))


def check_training(
    training: Training,
    network: cli.ModelOptions,
    model: str | None,
    limit: int | None,
    seeds: tuple[int, ...],
    optimizers: tuple[str, ...],
    lrs: tuple[float, ...],
) -> None:
    """Refuse runs that cannot be trained, or that have too few points for a plane."""
    for name, values in (("seeds", seeds), ("optimizers", optimizers), ("lrs", lrs)):
        cli.check_distinct(name, values)
    cli.check_count("limit", limit)
    runs = variants(training, seeds, optimizers, lrs)
    if (points := (training.epochs + 1) * len(runs)) < 3:
        raise InputError(f"epochs is {training.epochs}, which gives {points} points; a plane takes at least three")
    cli.check_model(model or "simplenet", **network.arguments)


def train_runs(
    out: Path,
    options: dict[str, Training],
    model: str,
    arguments: dict[str, Any],
    dataset: str,
    data_dir: Path,
    limit: int | None,
    device: str,
    force: bool,
) -> tuple[dict[str, RecordedPoints], nn.Module, Data, str]:
    """The recorded runs, the network, its training data, and what the names of all files end with."""
    train = load_dataset(dataset, split="train", data_dir=data_dir, limit=limit)
    test = load_dataset(train.name, split="test", data_dir=data_dir)
    arguments = {"input_shape": tuple(train.inputs.shape[1:]), "classes": len(train.classes), **arguments}
    net = build_model(model, **arguments)
    notes = {
        name: cli.run_notes(model, arguments, train, test, training, device=device)
        for name, training in options.items()
    }
    suffix = suffix_of(out, notes, cli.plain_name(f"{model}_{train.name}"), force)
    runs = {}
    for name, training in options.items():
        print(f"{name}: {model} on {train.name}, {len(train):,} samples", flush=True)
        path = points_path(out, name, suffix)
        runs[name] = cli.load_or_record(path, model, arguments, train, test, training, device=device, force=force)
        wrote(path)
    return runs, net, train, suffix


def suffix_of(out: Path, notes: dict[str, dict[str, Any]], label: str, force: bool) -> str:
    """What the names of all files of runs with these ``notes`` end with: nothing, where others do not have that."""
    key = hashlib.sha256(json.dumps(notes, sort_keys=True).encode()).hexdigest()[:8]
    return cli.own_suffix(
        ["", f"_{label}", f"_{label}_{key}"],
        lambda suffix: cli.recorded_owner({points_path(out, name, suffix): run for name, run in notes.items()}, key),
        key,
        force=force,
    )


def points_path(out: Path, name: str, suffix: str) -> Path:
    return out / f"trajectory_{cli.plain_name(name)}{suffix}.points"


def evaluate_ends(
    run: RecordedPoints, net: nn.Module, target: Objective, seed: int, out: Path, suffix: str, **options: Any
) -> dict[str, Surface]:
    """One random plane through the first point of a run, and one through the last."""
    ends = {}
    for label, at in (("before", 0), ("after", -1)):
        path = out / f"surface_{label}{suffix}.npz"
        ends[label] = load_or_evaluate(path, target, random_plane(model_at(net, run[at]), seed=seed), **options)
        wrote(path)
    return ends


def variants(
    training: Training, seeds: tuple[int, ...], optimizers: tuple[str, ...], lrs: tuple[float, ...]
) -> dict[str, Training]:
    """One run for every combination, named by what differs."""
    lists: dict[str, tuple[Any, ...]] = {"seed": seeds, "optimizer": optimizers, "lr": lrs}
    chosen = {key: values or (getattr(training, key),) for key, values in lists.items()}
    told = [key for key, values in chosen.items() if len(values) > 1] or ["seed"]
    runs = {}
    for values in itertools.product(*chosen.values()):
        options = dict(zip(chosen, values, strict=True))
        run = replace(training, **options)
        run.check()  # of all, before the first one is trained
        runs[", ".join(f"{key} {options[key]}" for key in told)] = run
    return runs


def from_checkpoints(
    out: Path, paths: tuple[Path, ...], model: str | None, evaluation: cli.Evaluation, accept: bool
) -> tuple[dict[str, RecordedPoints], nn.Module, Data, str, dict[str, Any]]:
    """The runs, the network, its data, the end of all names, and a remark; checkpoints of one folder are one run."""
    folders: dict[Path, list[Checkpoint]] = {}
    for path in paths:
        if path.name == "state.pth":  # of train_classifier.py, no checkpoint; runs/NAME/*.pth matches it
            continue
        folders.setdefault(path.parent, []).append(load_checkpoint(path, model=model))
    names = [folder.name or "." for folder in folders]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    runs = dict(zip(names, folders.values(), strict=True))
    loaded = [checkpoint for run in runs.values() for checkpoint in run]
    if len(loaded) < 3:
        raise InputError(f"a path takes at least three checkpoints, not {len(loaded)}")
    data = cli.load_shared_data(loaded, "train", evaluation.data_dir, seed=0)
    if len({samples.fingerprint for samples in data}) > 1:
        raise InputError("the checkpoints were trained on different data, so they share no loss; give those of one")
    remark = cli.confirm_metrics(loaded[-1], evaluation, accept=accept)
    notes = {name: cli.checkpoint_notes(run) for name, run in runs.items()}
    suffix = suffix_of(out, notes, cli.plain_name("_".join(runs))[:60], evaluation.force)
    recorded = {}
    for name, run in runs.items():
        path = points_path(out, name, suffix)
        recorded[name] = cli.record_checkpoints(path, run)
        wrote(path)
    return recorded, loaded[-1].model, data[0], suffix, remark


def draw(surface: Surface, paths: list[Trajectory], out: Path, suffix: str, log_scale: bool, animate: bool) -> None:
    """The path on contours, its losses, and the pages and films of it."""
    wrote(save_figure(plot_path(surface, paths, log_scale=log_scale), out / f"trajectory_contour{suffix}.png"))
    wrote(save_figure(plot_path_losses(paths, log_scale=log_scale), out / f"trajectory_losses{suffix}.png"))
    wrote(plot_path_html(surface, paths, out / f"loss_landscape{suffix}.html"))
    if animate:
        for ending in cli.animation_formats():
            wrote(animate_path(surface, paths, out / f"trajectory{suffix}{ending}", log_scale=log_scale))


def path_summary(path: Trajectory) -> str:
    """Loss at start and end, and how far off the plane the path goes."""
    meta, farthest = path.metadata, path.distance.argmax()
    return (
        f"{meta['name']}: {meta['unit']} {path.steps[0]} to {path.steps[-1]}, loss {path.loss[0]:.4g} to "
        f"{path.loss[-1]:.4g}; farthest off the plane at {meta['unit']} {path.steps[farthest]}: by "
        f"{path.distance[farthest]:.3g}, {path.share_off_plane[farthest]:.1%} of the path's extent, where the point "
        f"has loss {path.loss[farthest]:.4g} and its shadow {path.shadow_loss[farthest]:.4g}"
    )


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    cli.run_script(main)
