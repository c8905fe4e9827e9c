"""Measure the curvature of the loss at a trained network: eigenvalues, trace, spectral density, sharpness, a plane.

    python measure_curvature.py                                             # the linear MNIST model, trained if missing
    python measure_curvature.py --checkpoint cifar10_cnn_model.pth --samples 1000
    python measure_curvature.py --checkpoint runs/resnet14_fashion-mnist/epoch_009.pth --parameters "layer3.*" "fc.*"
    python measure_curvature.py --which smallest --tol 0.01                 # the most negative eigenvalues
    python measure_curvature.py --operator ggn --relative-error 0.02 --no-plane

Writes the eigenvalues, the trace, the density and measures of sharpness (.json), eigenvectors, probes and quadrature
nodes (.npz), and figures: eigenvalues with the bars of their residuals, density on a logarithmic scale, sharpness, and
the loss over the plane along the first two eigenvectors. Everything is of the training samples that --samples picks.
What has not converged is said, marked in the figure and flagged in the .json. Products are computed one after the
other; the time of the first one tells how long all of it will take at most.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from landscape_lib import (
    Eigenpairs,
    Objective,
    Product,
    Sharpness,
    SpectralDensity,
    Surface,
    TraceEstimate,
    cli,
    eigenvector_plane,
    ggn_product,
    hessian_product,
    load_or_evaluate,
    objective,
    plot_contour,
    plot_density,
    plot_eigenvalues,
    plot_sharpness,
    save_figure,
    spectral_density,
    top_eigenpairs,
    trace,
)

Result = TypeVar("Result", Eigenpairs, TraceEstimate, SpectralDensity)
MEASURES = ("sam", "ascent", "gaussian", "adaptive-sam", "adaptive-ascent", "adaptive-gaussian")


def main(
    evaluation: cli.Evaluation = cli.Evaluation(),  # noqa: B008 (frozen)
    checkpoint: Path = cli.DEFAULT_CHECKPOINT,
    model: str | None = None,
    accept_mismatch: bool = False,
    out: Path = Path("curvature_results"),
    split: Literal["train", "test"] = "train",
    samples: int | None = 1000,
    seed: int = 42,
    operator: Literal["hessian", "ggn"] = "hessian",
    parameters: tuple[str, ...] = ("*",),
    curvature: cli.CurvatureSettings = cli.CurvatureSettings(probes=3, steps=40),  # noqa: B008 (frozen)
    which: Literal["magnitude", "largest", "smallest"] = "magnitude",
    trace_method: Literal["hutch++", "hutchinson"] = "hutch++",
    measures: tuple[str, ...] = MEASURES,
    plane: bool = True,
    rise: float = 1.0,
    resolution: int = 21,
    figures: bool = True,
) -> None:
    """Second derivatives of the loss at a checkpoint.

    Args:
        evaluation: How losses are computed; the method and the tolerance are those of the plane.
        checkpoint: Trained model (.pth); the default one is trained first where it is missing.
        model: FILE.py:FUNCTION that built the network of the checkpoint, if it is your own; THAT FILE IS RUN.
        accept_mismatch: Go on where the network does not reach the test loss and accuracy in its checkpoint.
        out: Folder for the results; those of another checkpoint stay, and the names of the new ones tell it.
        split: Data to measure on.
        samples: Random samples to use (drawn from the seed); None is all.
        seed: Seed of samples, start vectors, probes and draws.
        operator: The Hessian, or its part without second derivatives of the network (Gauss-Newton).
        parameters: Patterns of parameter names: the curvature of these alone, such as "layer3.*".
        curvature: How many eigenvalues are computed, and how closely trace and spectral density are estimated.
        which: Eigenvalues of largest magnitude, the largest, or the most negative ones.
        trace_method: Random probes alone, or beside an exactly known subspace (hutch++).
        measures: Measures of sharpness; none with --measures alone.
        plane: Evaluate and draw the plane along the first two eigenvectors.
        rise: Rise of the loss up to which that plane reaches.
        resolution: Its grid points along each axis.
        figures: Draw figures; --no-figures only computes.
    """
    evaluation.check()
    curvature.check()
    check_options(samples, seed, measures, plane, rise, resolution)
    out = cli.make_folder(out)
    needed: dict[str, int] = {split: samples or 1}
    trained = cli.load_or_train(
        checkpoint, data_dir=evaluation.data_dir, device=evaluation.device, model=model, needed=needed
    )
    cli.check_parameters(trained.model, parameters)
    suffix = cli.checkpoint_suffix(out, trained, "curvature{}.json", cli.owners_in_json, force=evaluation.force)
    settings = cli.describe(
        evaluation, curvature, split=split, samples=samples, seed=seed, operator=operator, parameters=parameters,
        which=which, trace_method=trace_method, rise=rise, resolution=resolution,
    )  # fmt: skip
    print(f"Checkpoint: {checkpoint} ({trained.model_name}, epoch {trained.metadata['epoch']})\nSettings: {settings}")
    cli.note_unused_batch_norm(evaluation, [trained])
    data = cli.load_checkpoint_data(trained, split, evaluation.data_dir)
    remarks = cli.confirm_metrics(trained, evaluation, data if split == "test" else None, accept=accept_mismatch)
    data = data if samples is None else data.subset(samples, seed=seed)
    target = objective(trained.model, data, **evaluation.arguments)
    product = (ggn_product if operator == "ggn" else hessian_product)(target, trained.model, parameters=parameters)
    if curvature.k > product.dimension:
        print(f"Note: a matrix of dimension {product.dimension:,} has only that many eigenpairs; all are computed")
        curvature = replace(curvature, k=product.dimension)
    before = functools.cache(partial(announce, product, curvature.most_products))

    def measured(name: str, measure: Callable[..., Result], **options: Any) -> Result:
        path = out / f"{name}{suffix}.npz"
        options |= {"force": evaluation.force, "before": before, "seed": seed}
        found = cli.load_or_measure(path, measure, product, **options)
        wrote(path)
        return found

    pairs = measured("eigenpairs", top_eigenpairs, which=which, **curvature.of_eigenpairs)
    print(eigenvalue_lines(pairs))
    whole = measured("trace", trace, method=trace_method, **curvature.of_trace)
    print(trace_line(whole))
    density = measured("density", spectral_density, **curvature.of_density)
    product.release()
    path = out / f"sharpness{suffix}.json"
    found = cli.load_or_measure_sharpness(path, target, trained.model, measures, seed=seed, force=evaluation.force)
    if found:
        wrote(path)
    for result in found:
        print(f"{result.measure} sharpness, radius {result.radius:g}: {result.value:.4g}", flush=True)
    surface = None
    if plane and len(pairs.values) > 1:
        path = out / f"eigenvector_plane{suffix}.npz"
        notes = {"checkpoint": trained.identity}
        surface = evaluated_plane(path, target, product, pairs, evaluation, rise, resolution, notes)
    record = {
        "checkpoint": {"file": str(checkpoint), **trained.identity, **remarks, "inputs": cli.input_scaling(data)},
        "settings": settings,
        "matrix": product.description,
        **record_of(pairs, whole, density),
        "sharpness": {"caution": cli.SHARPNESS_CAUTION, "measures": [result.record for result in found]},
    }
    wrote(cli.write_json(out / f"curvature{suffix}.json", record))
    if figures and cli.is_first_rank():
        draw(out, suffix, pairs, density, found, surface)
    print(cli.SHARPNESS_CAUTION)


def check_options(
    samples: int | None,
    seed: int,
    measures: tuple[str, ...],
    plane: bool,
    rise: float,
    resolution: int,
) -> None:
    """Refuse what cannot be used before anything is trained or measured."""
    cli.check_seed(seed)
    cli.check_count("samples", samples)
    cli.check_measures(measures)
    cli.check_resolution(resolution)
    cli.check_number("rise", rise, above=0)
    if not plane and (rise, resolution) != (1.0, 21):
        print("Note: --no-plane leaves no use for --rise and --resolution", flush=True)


def announce(product: Product, products: int) -> None:
    """The dimension, and how long that many products take."""
    product.matvec([1.0] * product.dimension)  # the first one makes what the others share
    began = time.perf_counter()
    product.matvec([1.0] * product.dimension)
    seconds = time.perf_counter() - began
    print(
        f"Matrix: {product.kind} of {len(product.names)} parameter tensors, dimension {product.dimension:,}; "
        f"{seconds:.3g} s a product, about {seconds * products:.0f} s for at most {products:,} or so",
        flush=True,
    )


def evaluated_plane(
    path: Path,
    target: Objective,
    product: Product,
    pairs: Eigenpairs,
    evaluation: cli.Evaluation,
    rise: float,
    resolution: int,
    notes: dict[str, Any],
) -> Surface:
    """The loss over the plane along the first two eigenvectors, as far as it rises by ``rise``."""
    slice_ = eigenvector_plane(product, pairs)
    found = cli.load_or_find_span(path, target, slice_, rise=rise, force=evaluation.force)
    span, notes = found["span"], {**notes, "range": found}
    surface = load_or_evaluate(
        path, target, slice_, force=evaluation.force, notes=notes, method=evaluation.method,
        tolerance=evaluation.tolerance, resolution=resolution, alpha_range=(-span, span), beta_range=(-span, span),
    )  # fmt: skip
    wrote(path)
    return surface


def eigenvalue_lines(pairs: Eigenpairs) -> str:
    rows = zip(pairs.values, pairs.residuals, pairs.converged, strict=True)
    lines = [
        f"  {value:12.6g}  residual {residual:.1e}{'' if done else '  NOT CONVERGED'}" for value, residual, done in rows
    ]
    return "\n".join([f"Eigenvalues ({pairs.products} products)", *lines])


def trace_line(found: TraceEstimate) -> str:
    mark = "" if found.converged else ": NOT CONVERGED, raise --max-products"
    return f"Trace {found.value:.6g} +- {found.standard_error:.2g} ({found.products} products){mark}"


def record_of(pairs: Eigenpairs, whole: TraceEstimate, density: SpectralDensity) -> dict[str, Any]:
    """The numbers without vectors, as JSON types."""
    return {
        "eigenvalues": {
            "values": pairs.values.tolist(),
            "residuals": pairs.residuals.tolist(),
            "converged": pairs.converged.tolist(),
            "products": pairs.products,
        },
        "trace": {
            "value": whole.value,
            "standard_error": whole.standard_error,
            "converged": whole.converged,
            "products": whole.products,
        },
        "density": {
            "nodes": density.nodes.tolist(),
            "weights": density.weights.tolist(),
            "products": density.products,
        },
    }


def draw(
    out: Path,
    suffix: str,
    pairs: Eigenpairs,
    density: SpectralDensity,
    found: list[Sharpness],
    surface: Surface | None,
) -> None:
    wrote(save_figure(plot_eigenvalues(pairs), out / f"eigenvalues{suffix}.png"))
    wrote(save_figure(plot_density(density), out / f"density{suffix}.png"))
    if found:
        wrote(save_figure(plot_sharpness(found), out / f"sharpness{suffix}.png"))
    if surface:
        wrote(save_figure(plot_contour(surface), out / f"eigenvector_plane{suffix}.png"))


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    cli.run_script(main)
