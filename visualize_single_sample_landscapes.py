"""Draw the loss of single samples over one random plane through the weights of a trained network.

    python visualize_single_sample_landscapes.py                                # 10 random MNIST training images
    python visualize_single_sample_landscapes.py --checkpoint cifar10_cnn_model.pth --color-scale individual
    python visualize_single_sample_landscapes.py --indices 3 141 59 --split test --html

All samples share the plane of visualize_loss_landscape.py (same seed, same directions), so that the mean of all
single surfaces is the surface drawn there. Writes the tiles (.png, .pdf), the numbers of every sample (.npz), the
chosen samples (.json), a log, and with --html a page to look around in.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from landscape_lib import (
    Data,
    InputError,
    Surface,
    cli,
    explore,
    plot_tiles,
    predict,
    save_figure,
)


def main(
    plane: cli.PlaneChoice = cli.PlaneChoice(),  # noqa: B008 (frozen)
    evaluation: cli.Evaluation = cli.Evaluation(),  # noqa: B008 (frozen)
    checkpoint: Path = cli.DEFAULT_CHECKPOINT,
    model: str | None = None,
    accept_mismatch: bool = False,
    out: Path = Path("loss_landscape_results"),
    split: Literal["train", "test"] = "train",
    samples: int = 10,
    indices: tuple[int, ...] | None = None,
    color_scale: Literal["global", "quantile", "individual"] = "global",
    log_scale: bool = False,
    html: bool = False,
) -> None:
    """Loss of single samples over one random plane.

    Args:
        plane: Which plane.
        evaluation: How it is evaluated.
        checkpoint: Trained model (.pth); the default one is trained first where it is missing.
        model: FILE.py:FUNCTION that builds the network, for a checkpoint of your own network; that file is run.
        accept_mismatch: Go on where the network does not reach the test loss and accuracy in its checkpoint.
        out: Folder for the results; those of another checkpoint stay, and the names of the new ones tell it.
        split: Which samples to choose from.
        samples: Number of random samples (drawn from the seed).
        indices: These samples of the split instead of random ones.
        color_scale: Colours from the smallest to the largest loss of all tiles, over the 2nd to 98th percentile of
            all, or over each tile's own range.
        log_scale: Colours on a logarithmic scale.
        html: Also write a page with all surfaces and their images, which opens in a browser without a network.
    """
    check_options(plane, evaluation, samples, indices)
    out, needed = cli.make_folder(out), max(indices) + 1 if indices else samples
    trained = cli.load_or_train(
        checkpoint, data_dir=evaluation.data_dir, device=evaluation.device, model=model, needed={split: needed}
    )
    suffix = cli.checkpoint_suffix(out, trained, "samples_loss_grid{}.npz", cli.owner_in_npz, force=evaluation.force)
    settings = cli.describe(plane, evaluation, split=split, samples=samples, indices=indices, color_scale=color_scale)
    print(f"Checkpoint: {checkpoint} ({trained.model_name}, epoch {trained.metadata['epoch']})\nSettings: {settings}")
    cli.note_unused_batch_norm(evaluation, [trained])

    data = cli.load_checkpoint_data(trained, split, evaluation.data_dir)
    remarks = cli.confirm_metrics(trained, evaluation, data if split == "test" else None, accept=accept_mismatch)
    data = data.select(indices) if indices else data.subset(samples, seed=plane.seed)
    path = out / f"samples_loss_grid{suffix}.npz"
    plane, notes = cli.settle_range(path, trained, data, plane, evaluation)
    surface = cli.checkpoint_surface(path, trained, data, plane, evaluation, notes, remarks, per_sample=True)
    wrote(path)
    surfaces, records = single_surfaces(surface, data, predict(trained.model, data))
    for single, record in zip(surfaces, records, strict=True):
        record["file"] = f"sample_{record['index']}_loss_grid{suffix}.npz"
        wrote(single.save(out / record["file"]))
    chosen = {"seed": plane.seed, "data": data.name, "split": split, "checkpoint": trained.identity, "samples": records}
    wrote(cli.write_json(out / f"selected_samples{suffix}.json", chosen))
    if cli.is_first_rank():
        images, titles = [data.image(i) for i in range(len(data))], [title(record) for record in records]
        figure = plot_tiles(surfaces, images=images, titles=titles, color_scale=color_scale, log_scale=log_scale)
        for ending in ("png", "pdf"):
            wrote(save_figure(figure, out / f"samples_landscape_grid{suffix}.{ending}"))
        if html:
            wrote(explore(surfaces, out / f"samples_explorer{suffix}.html", names=titles, pictures=images))
    log = {"model": trained.description, "settings": settings.replace(", ", "\n")}
    log |= {"mean of the samples": cli.summarize(surface), "samples": "\n".join(map(one_line, records))}
    wrote(cli.write_log(out / f"single_sample_experiment_log{suffix}.txt", log))


def check_options(
    plane: cli.PlaneChoice, evaluation: cli.Evaluation, samples: int, indices: tuple[int, ...] | None
) -> None:
    """Refuse what cannot be used before anything is trained or evaluated."""
    plane.check()
    evaluation.check()
    cli.check_count("samples", samples, most=cli.MOST_LEVELS)
    if indices is None:
        return
    if samples not in (10, len(indices)):
        print(f"Note: --indices names {len(indices)} samples; their number is not --samples", flush=True)
    if not 0 < len(indices) <= cli.MOST_LEVELS or min(indices) < 0:
        raise InputError(f"indices are {list(indices)}; give 1 to {cli.MOST_LEVELS:,} positions from 0 on")


def single_surfaces(surface: Surface, data: Data, probabilities: Tensor) -> tuple[list[Surface], list[dict[str, Any]]]:
    """One surface and one record for every sample."""
    surfaces, records = [], []
    for i, index in enumerate(data.indices.tolist()):
        single = surface.sample(i)
        predicted = int(probabilities[i].argmax())
        record = {
            "index": index,
            "true_class": data.classes[data.targets[i]],
            "predicted_class": data.classes[predicted],
            "probability": float(probabilities[i, predicted]),
            "centre_loss": float(single.loss[single.centre]),
            "smallest_loss": float(single.loss.min()),
            "largest_loss": float(single.loss.max()),
        }
        surfaces.append(replace(single, metadata={**single.metadata, "sample": record}))
        records.append(record)
    return surfaces, records


def title(record: dict[str, Any]) -> str:
    """Three lines, narrow enough for a tile."""
    verdict = f"predicted {record['predicted_class']} {record['probability']:.0%}"
    return f"{record['index']}: {record['true_class']}\n{verdict}\nloss {record['centre_loss']:.3g}"


def one_line(record: dict[str, Any]) -> str:
    spread = f"loss {record['smallest_loss']:.4g} to {record['largest_loss']:.4g}"
    return f"{title(record)} at the centre, {spread}".replace("\n", ", ")


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    cli.run_script(main)
