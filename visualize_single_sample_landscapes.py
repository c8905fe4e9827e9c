"""Draw the loss of single samples over one random plane through the weights of a trained network.

    python visualize_single_sample_landscapes.py                                # 10 random MNIST training images
    python visualize_single_sample_landscapes.py --checkpoint cifar10_cnn_model.pth --color-scale individual
    python visualize_single_sample_landscapes.py --indices 3 141 59 --split test --html

All samples share the plane of visualize_loss_landscape.py (the same seed and directions), so that the mean of the
surfaces of all samples is the surface that it draws. The script writes the tiles (.png, .pdf), the losses of every
sample (.npz), the chosen samples (.json), a log and, with --html, an interactive page.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import landscape_lib as ll
from landscape_lib import cli


def main(
    plane: cli.PlaneChoice = cli.PlaneChoice(),  # noqa: B008 (frozen)
    evaluation: cli.Evaluation = cli.Evaluation(),  # noqa: B008 (frozen)
    subject: cli.Subject = cli.Subject(),  # noqa: B008 (frozen)
    split: Literal["train", "test"] = "train",
    samples: int = 10,
    indices: tuple[int, ...] | None = None,
    color_scale: Literal["global", "quantile", "individual"] = "global",
    log_scale: bool = False,
    html: bool = False,
    files: cli.FigureFiles = cli.FigureFiles(format=("png", "pdf")),  # noqa: B008 (frozen)
    out: Path = Path("loss_landscape_results"),
) -> None:
    """Loss of single samples over one random plane.

    Args:
        plane: The plane.
        evaluation: The computation of the losses.
        subject: The trained network.
        split: The split that the samples are chosen from.
        samples: Number of random samples (drawn from the seed).
        indices: Indices of samples of the split that are drawn instead of random ones.
        color_scale: Range of the colours: global, quantile or individual.
            global is that of all tiles, quantile from their 2nd to 98th percentile, individual that of each tile.
        log_scale: Colours on a logarithmic scale.
        html: Also write a page with all surfaces and their images; it opens in a browser, also offline.
        files: The files of the figure.
        out: Folder for the results; those of another checkpoint stay, and the new ones get its name.
    """
    check_options(plane, evaluation, samples, indices)
    files.check()
    out, needed = cli.make_folder(out), max(indices) + 1 if indices else samples
    trained, data, remarks = cli.load_subject(subject, evaluation, {split: needed})
    plane.check_networks(trained.model)
    suffix = cli.checkpoint_suffix(out, trained, "samples_loss_grid{}.npz", cli.owner_in_npz, force=evaluation.force)
    settings = cli.describe(plane, evaluation, split=split, samples=samples, indices=indices, color_scale=color_scale)
    chosen = data[split].select(indices) if indices else data[split].subset(samples, seed=plane.seed)
    print(f"Settings: {settings}")
    path = out / f"samples_loss_grid{suffix}.npz"
    conditions = cli.settle_range(path, trained, chosen, cli.Conditions(plane, evaluation, remarks=remarks))
    surface = cli.checkpoint_surface(path, trained, chosen, conditions, per_sample=True)
    surfaces, records = single_surfaces(surface, chosen, cli.predicted_classes(trained.model, chosen))
    for single, record in zip(surfaces, records, strict=True):
        record["file"] = f"sample_{record['index']}_loss_grid{suffix}.npz"
        cli.wrote(single.save(out / record["file"]))
    of = {"seed": plane.seed, "data": chosen.name, "split": split, "checkpoint": trained.identity}
    cli.wrote(cli.write_json(out / f"selected_samples{suffix}.json", {**of, "samples": records}))
    if cli.is_first_rank():
        images, titles = cli.images_of(chosen), [title(record) for record in records]
        options: dict[str, Any] = {"color_scale": color_scale, "log_scale": log_scale}
        files.draw(
            out / f"samples_landscape_grid{suffix}", ll.plot_tiles, surfaces, images=images, titles=titles, **options
        )
        if html:
            page = out / f"samples_explorer{suffix}.html"
            cli.wrote(ll.explore(surfaces, page, names=titles, pictures=images, log_scale=log_scale or None))
    log = {"model": trained.description, "settings": settings.replace(", ", "\n")}
    log |= {"mean of the samples": cli.summarize(surface), "samples": "\n".join(map(one_line, records))}
    cli.wrote(cli.write_log(out / f"single_sample_experiment_log{suffix}.txt", log))


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
        raise ll.InputError(f"indices are {list(indices)}; give 1 to {cli.MOST_LEVELS:,} positions from 0 on")


def single_surfaces(
    surface: ll.Surface, data: cli.SampleSet, classes: list[dict[str, Any]]
) -> tuple[list[ll.Surface], list[dict[str, Any]]]:
    """One surface and one record for every sample."""
    surfaces, records = [], []
    for i, index in enumerate(data.indices.tolist()):
        single = surface.sample(i)
        record = {
            "index": index,
            **classes[i],
            "centre_loss": float(single.loss[single.centre]),
            "smallest_loss": float(single.loss.min()),
            "largest_loss": float(single.loss.max()),
        }
        surfaces.append(replace(single, metadata={**single.metadata, "sample": record}))
        records.append(record)
    return surfaces, records


def title(record: dict[str, Any]) -> str:
    """Three lines, narrow enough for a tile; two if the targets are no classes."""
    loss = f"loss {record['centre_loss']:.3g}"
    if "true_class" not in record:
        return f"sample {record['index']}\n{loss}"
    verdict = f"predicted {record['predicted_class']} {record['probability']:.0%}"
    return f"sample {record['index']}, class {record['true_class']}\n{verdict}\n{loss}"


def one_line(record: dict[str, Any]) -> str:
    spread = f"loss {record['smallest_loss']:.4g} to {record['largest_loss']:.4g}"
    return f"{title(record)} at the centre, {spread}".replace("\n", ", ")


if __name__ == "__main__":
    cli.run_script(main)
