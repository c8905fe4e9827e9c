"""Measure the curvature of the loss at a trained network: eigenvalues, trace, spectral density, sharpness, a plane.

    python measure_curvature.py                                             # the linear MNIST model, trained if missing
    python measure_curvature.py --checkpoint cifar10_cnn_model.pth --samples 1000
    python measure_curvature.py --checkpoint runs/resnet14_fashion-mnist/epoch_009.pth --parameters "layer3.*" "fc.*"
    python measure_curvature.py --which smallest --tol 0.01                 # the most negative eigenvalues
    python measure_curvature.py --operator ggn --relative-error 0.02 --no-plane

The script writes the eigenvalues, the trace, the density and the measures of sharpness (.json), the eigenvectors, the
probes and the quadrature nodes (.npz), and figures: the eigenvalues with bars of their residuals, the density on a
logarithmic scale, the sharpness, and the loss over the plane along the first two eigenvectors. Everything is computed
on the training samples that --samples selects. Estimates that have not converged are printed, and they are marked in
the figures and in the .json files. Where it takes a small part of the time of the plane, the script also measures what
the plane leaves out.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import landscape_lib as ll
from landscape_lib import cli

SAMPLES = 1000


@dataclass(frozen=True)
class Measured(cli.JudgedPlane):
    """The measurements."""

    operator: Literal["hessian", "ggn"] = "hessian"
    """The Hessian, or its part without second derivatives of the network (Gauss-Newton)."""
    which: Literal["magnitude", "largest", "smallest"] = "magnitude"
    """Eigenvalues of largest magnitude, the largest, or the most negative ones."""
    trace_method: Literal["hutch++", "hutchinson"] = "hutch++"
    """Random probes alone, or beside an exactly known subspace (hutch++)."""
    measures: tuple[cli.MeasureName, ...] = (
        "sam",
        "ascent",
        "gaussian",
        "adaptive-sam",
        "adaptive-ascent",
        "adaptive-gaussian",
    )
    """Measures of sharpness; none with --measures alone."""
    plane: bool = True
    """Evaluate and draw the plane along the first two eigenvectors."""
    rise: float = 1.0
    """Rise of the loss up to which that plane reaches."""
    resolution: int = 21
    """Its grid points along each axis."""

    def check(self) -> None:
        """Refuse what cannot be measured."""
        cli.check_measures(self.measures)
        cli.check_resolution(self.resolution)
        cli.check_number("rise", self.rise, above=0)
        if not self.plane:
            unused = {
                name: (getattr(self, name), getattr(Measured, name)) for name in ("rise", "resolution", "faithfulness")
            }
            cli.note_unused("with --no-plane", **unused)


def main(
    evaluation: cli.Evaluation = cli.Evaluation(),  # noqa: B008 (frozen)
    subject: cli.Subject = cli.Subject(),  # noqa: B008 (frozen)
    measured: Measured = Measured(),
    curvature: cli.CurvatureSettings = cli.CurvatureSettings(probes=3, steps=40),  # noqa: B008 (frozen)
    split: Literal["train", "test"] = "train",
    samples: int | None = SAMPLES,
    seed: int = 42,
    figures: bool = True,
    files: cli.FigureFiles = cli.FigureFiles(),  # noqa: B008 (frozen)
    out: Path = Path("curvature_results"),
) -> None:
    """Second derivatives of the loss at a checkpoint.

    Args:
        evaluation: The computation of the losses; method and tolerance apply to the plane.
        subject: The trained network.
        measured: The measurements.
        curvature: The number of eigenvalues, and the precision of trace and spectral density.
        split: Data to measure on.
        samples: Number of random samples, drawn from the seed. None takes all, and so does a number above theirs.
        seed: Seed of samples, start vectors, probes and draws.
        figures: Draw figures; with --no-figures results are only computed.
        files: The files of the figures.
        out: Folder for the results; those of another checkpoint stay, and the new ones get its name.
    """
    cli.check_seed(seed)
    cli.check_count("samples", samples)
    cli.check_all(evaluation, measured, curvature, files)
    out, force = cli.make_folder(out), evaluation.force
    trained, data, remark = cli.load_subject(subject, evaluation, {split: samples or 1})
    if samples == SAMPLES > len(data[split]):
        samples = None
    measured.check_networks(trained.model)
    suffix = cli.checkpoint_suffix(out, trained, "curvature{}.json", cli.owners_in_json, force=force)
    settings = cli.describe(evaluation, measured, curvature, split=split, samples=samples, seed=seed)
    chosen = data[split] if samples is None else data[split].subset(samples, seed=seed)
    target = evaluation.objective_of(trained.model, chosen)
    print(f"Settings: {settings}")
    operator = ll.ggn_product if measured.operator == "ggn" else ll.hessian_product
    product = operator(target, trained.model, parameters=measured.chosen or ("*",))
    if curvature.k > product.dimension:
        print(f"Note: a matrix of dimension {product.dimension:,} has only that many eigenpairs; all are computed")
        curvature = replace(curvature, k=product.dimension)
    before = functools.cache(lambda: print(cli.time_estimate(product, curvature.most_products), flush=True))

    def keep(name: str, measure: Callable[..., Any], **options: Any) -> Any:
        path = out / f"{name}{suffix}.npz"
        result = cli.load_or_measure(path, measure, product, force=force, before=before, seed=seed, **options)
        cli.wrote(path)
        return result

    def named(result: Any) -> Any:
        """The result with the file of its network, for the titles of figures."""
        return replace(result, metadata={**result.metadata, "checkpoint_file": str(trained.path)})

    pairs = keep("eigenpairs", ll.top_eigenpairs, which=measured.which, **curvature.of_eigenpairs)
    print(cli.eigenvalue_lines(pairs))
    trace = keep("trace", ll.trace, method=measured.trace_method, **curvature.of_trace)
    print(cli.trace_line(trace))
    density = keep("density", ll.spectral_density, **curvature.of_density)
    product.release()
    path, measures = out / f"sharpness{suffix}.json", measured.measures
    sharpness = cli.load_or_measure_sharpness(
        path, target, trained.model, measures, seed=seed, parameters=measured.chosen, force=force
    )  # fmt: skip
    if sharpness:
        print(cli.sharpness_lines(sharpness))
        cli.wrote(path)
    surface = None
    if measured.plane and curvature.k > 1:
        path = out / f"eigenvector_plane{suffix}.npz"
        along, notes = ll.eigenvector_plane(product, pairs), {"checkpoint": trained.identity}
        surface = cli.rising_surface(path, target, along, evaluation, measured.rise, measured.resolution, notes)
        surface = cli.with_faithfulness(path, surface, target, along, measured.faithfulness, seed=seed)
    origin = {"file": str(trained.path), **trained.identity, **remark, "inputs": cli.input_scaling(chosen)}
    record = {"checkpoint": origin, "settings": settings, "matrix": product.description}
    record |= cli.curvature_record(pairs, trace, density, sharpness)
    if surface and surface.faithfulness:
        print(surface.faithfulness.box)
        record["faithfulness"] = surface.faithfulness.record
    cli.wrote(cli.write_json(out / f"curvature{suffix}.json", record))
    if figures and cli.is_first_rank():
        files.draw(out / f"eigenvalues{suffix}", ll.plot_spectrum, named(pairs))
        files.draw(out / f"density{suffix}", ll.plot_spectrum, named(density))
        if sharpness:
            files.draw(out / f"sharpness{suffix}", ll.plot_sharpness, [*map(named, sharpness)])
        if surface:
            files.draw(out / f"eigenvector_plane{suffix}", ll.plot_contour, named(surface))
    print(cli.SHARPNESS_CAUTION)


if __name__ == "__main__":
    cli.run_script(main)
