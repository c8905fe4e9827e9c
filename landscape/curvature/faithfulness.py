"""The faithfulness of a plane: its curvature and gradient compared with those of the whole parameter space."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from landscape.checks import check_count, check_number, check_seed
from landscape.curvature.ends import End, spectrum_ends
from landscape.curvature.hutchinson import rademacher
from landscape.curvature.products import Product, hessian_product
from landscape.curvature.subject import Multiplications, counted
from landscape.errors import InputError
from landscape.objective.objectives import Objective, check_objective
from landscape.objective.settling import whole_slice
from landscape.points import Point, as_float64, as_point, check_match
from landscape.results import Faithfulness
from landscape.results.faithfulness import Verdict
from landscape.results.standard_errors import critical_value, effective_count, error_of_mean
from landscape.runtime import own_torch_state
from landscape.slices.planes import Slice, check_slice

__all__ = ["faithfulness"]

LEAST = 2  # samples that have a standard error
RESOLVED = 0.5  # of the eigenvalue of largest magnitude: more noise than that hides a saddle
ROUNDINGS = 64  # machine epsilons by which rounding may change a loss, or an eigenvalue relative to the largest one
ROUNDING = 0.25  # power of the machine epsilon that balances truncation and rounding of a second difference


@own_torch_state()
def faithfulness(
    objective: Objective,
    slice: Slice,
    *,
    step: nn.Module | Point | None = None,
    samples: int | None = None,
    probes: int = 10,
    tol: float = 1e-2,
    seed: int = 0,
    progress: bool = True,
) -> Faithfulness:
    """Compare curvature and gradient in ``slice`` with those in all directions, at the origin theta of the slice.

    Let H be the Hessian and g the gradient of the mean loss at theta, D the number of parameters, and u_1, u_2
    orthonormal vectors that span the plane. The result contains

    - the curvature along each axis, and the eigenvalues of H restricted to the plane;
    - for comparison tr H / D, the average curvature in a random direction, and the outermost eigenvalues of H;
    - the share (|H u_1|^2 + |H u_2|^2) / tr H^2 of the squared Hessian that belongs to the plane;
    - the shares of g and of the last training step that lie in the plane;
    - a verdict on theta.

    Traces are estimated from random probes z: tr H = E z^T H z and tr H^2 = E |H z|^2.

    The verdict is "no critical point" if the gain, the decrease of the loss along g, exceeds noise and rounding.
    With c = g^T H g / |g|^2 the gain is t (|g| - |c| t / 2) for a step of length
    t = min(|g| / |c|, max(1, |theta|)): slope and curvature are of the same size there, and the quadratic model is used
    no further than the weights are long. A negative c counts by its magnitude, as what it adds to the decrease is due
    to a saddle and not to the gradient (Dauphin et al. 2014, "Identifying and attacking the saddle point problem in
    high-dimensional non-convex optimization"). Rounding is the machine epsilon of the dtype times 64 |loss| or, if that
    is larger, times min(1, |c| / 2), where |c| / 2 is the change of the loss by a step of length 1. So a saddle that
    was reached up to rounding is a saddle.

    Noise is two standard errors over many samples, and more over few: the quantile of Student's t at the same level,
    with weights for the number of samples that are as certain without (Kish 1965, "Survey Sampling"). A single sample
    has no standard error, and counts as exact.

    Otherwise theta is a saddle if the curvature along the eigenvector of the smallest eigenvalue is negative by more
    than the noise. If not all samples are used, that is measured on other ones, because the eigenvector of a few
    samples follows their noise. A saddle is a "hidden saddle" if the plane itself has no significant negative
    curvature. If the noise of that curvature is more than half of the eigenvalue of largest magnitude, the samples are
    too few to tell a saddle from a minimum, and the verdict is "unknown". In all other cases theta is a "minimum",
    within the noise of the samples. Source: Boettcher & Wheeler 2024, "Visualizing high-dimensional loss landscapes
    with Hessian directions", sections 2 and 3 (random directions show the mean curvature, and saddles look like
    minima); Hutchinson 1990, "A Stochastic Estimator of the Trace of the Influence Matrix".

    Args:
        objective: The losses; its state is not changed.
        slice: A plane or a line, at whose origin everything is measured.
        step: The point before the last training step, which leads from there to the origin.
        samples: Number of random samples of the objective to use; by default all.
        probes: Number of probes for the traces, at least 2.
        tol: Residual of the outermost eigenvalues to reach, as a share of them, with up to 80 products.
        seed: Seed of the samples, the probes and the start vectors.
        progress: Show progress bars.

    Raises:
        InputError: The slice or the step belongs to another network, the directions of the slice are zero or parallel,
            or `hessian_product` refuses the arguments.
        InputTypeError: ``slice`` is not a slice.

    Example:
        >>> from landscape_lib import objective, random_plane
        >>> model, data = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
        >>> result = faithfulness(objective(model, data), random_plane(model), progress=False)
        >>> result.dimension, len(result.axis_curvatures)
        (15, 2)
    """
    check_objective(objective, "faithfulness(objective, plane)")
    check_slice(slice, "faithfulness(objective, plane)")
    check_count("probes", probes, 2)
    check_number("tol", tol, above=0)
    check_seed(seed)
    slice = whole_slice(objective.network, slice)
    check_match(slice.origin, dict(objective.model.named_parameters()), "slice")
    if step is not None:
        check_match(as_point(step), slice.origin, "step")
    settings = {"probes": probes, "tol": tol, "seed": seed, "all_samples": objective.size}
    objective, others = objective.for_slice(slice), None
    if samples is not None:
        check_count("samples", samples, LEAST)
        whole, objective = objective, objective.subset(samples, seed)
        if whole.size - objective.size >= LEAST:
            others = whole.subset(samples, seed, skip=objective.size)
    product = hessian_product(objective, slice.origin)
    try:
        result = _measured(objective, others, slice, product, step, probes, tol, seed, progress)
    finally:
        product.release()
    metadata = {"slice": slice.description, **product.description, **settings}
    return replace(result, metadata=metadata)


def _measured(
    objective: Objective,
    others: Objective | None,
    slice_: Slice,
    product: Product,
    step: nn.Module | Point | None,
    probes: int,
    tol: float,
    seed: int,
    progress: bool,
) -> Faithfulness:
    origin = _vector(slice_.origin, product)
    axes, basis = _bases(slice_, product)
    last_step = None if step is None else origin - _vector(as_point(step), product)
    sampled = _Sampled(objective, product, origin)
    with counted(product, "faithfulness", progress) as multiply:
        images = np.stack([multiply(vector) for vector in basis])
        traces, squares = _traces(multiply, product.dimension, probes, seed)
        slope = product.gradient()
        steepness = float(np.linalg.norm(slope))
        bend = float(slope @ multiply(slope / steepness)) / steepness if steepness else 0.0
        ends = spectrum_ends(multiply, tol=tol, seed=seed)
    outer, judging = _outermost(ends, sampled), sampled
    if ends and others:
        curvature, judging = _elsewhere(others, slice_, product, origin, ends[1][1])
        outer |= {"smallest_elsewhere": curvature, "smallest_elsewhere_error": judging.error(ends[1][1])}
    restricted = basis @ images.T
    values, vectors = np.linalg.eigh((restricted + restricted.T) / 2)
    errors = [sampled.error(coefficients @ basis) for coefficients in vectors.T]
    gain = _gain(steepness, bend, max(1.0, float(np.linalg.norm(origin))))
    bends_down = bool(values[0] < -sampled.noise(errors[0]))
    loss, precision = (
        float(as_float64(sampled.objective(product.point)).mean()),
        float(torch.finfo(objective.dtype).eps),
    )
    noise = max(sampled.noise(sampled.loss_error), _rounding(loss, bend, precision))
    share, share_error = _share_of_square(images, squares)
    return Faithfulness(
        axis_curvatures=tuple(float(c @ restricted @ c) for c in (basis @ axis for axis in axes)),
        plane_eigenvalues=tuple(map(float, values)),
        plane_errors=tuple(errors),
        average_eigenvalue=float(traces.mean()) / product.dimension,
        average_error=error_of_mean(traces) / product.dimension,
        **outer,
        hessian_share=share,
        hessian_share_error=share_error,
        gradient_share=_share(slope, basis),
        step_share=None if last_step is None else _share(last_step, basis),
        gradient_norm=steepness,
        gain=gain,
        loss=loss,
        loss_error=sampled.loss_error,
        dimension=product.dimension,
        verdict=_verdict(gain > noise, outer, bends_down, precision, judging),
    )


def _vector(point: Point, product: Product) -> np.ndarray:
    """The parameters of ``point`` that belong to the product, flattened and concatenated in float64."""
    check_match(point, product.point, "point")
    flat: np.ndarray = torch.cat([as_float64(point[name].detach()).flatten().cpu() for name in product.names]).numpy()
    return flat


def _bases(slice_: Slice, product: Product) -> tuple[list[np.ndarray], np.ndarray]:
    """Unit vectors along the axes, and orthonormal vectors [1 or 2, D] that span the slice."""
    axes = [_vector(direction, product) for direction in slice_.directions]
    lengths = [float(np.linalg.norm(axis)) for axis in axes]
    if not min(lengths) > 0:
        raise InputError("a direction of this slice is zero, so the slice is a single point; make another one")
    units = [axis / length for axis, length in zip(axes, lengths, strict=True)]
    basis, triangle = np.linalg.qr(np.stack(units, 1))
    if min(abs(np.diag(triangle))) < 1e-6:
        raise InputError("the directions of this slice are parallel, so they span no plane; make another one")
    return units, np.ascontiguousarray(basis.T)


def _traces(multiply: Multiplications, size: int, probes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unbiased estimates [probes] of tr H and of tr H^2, from the same random probes."""
    generator = np.random.default_rng(seed)
    traces, squares = [], []
    for _ in range(probes):
        probe = rademacher(generator, size)
        image = multiply(probe)
        traces.append(float(probe @ image))
        squares.append(float(image @ image))
    return np.array(traces), np.array(squares)


def _share_of_square(images: np.ndarray, squares: np.ndarray) -> tuple[float, float]:
    """(|H u_1|^2 + |H u_2|^2) / tr H^2 and its standard error, from the images H u and estimates of tr H^2."""
    total = float(squares.mean())
    if not total:
        return 0.0, 0.0
    share = float((images**2).sum()) / total
    return share, share * error_of_mean(squares) / total


def _outermost(ends: tuple[End, End] | None, sampled: "_Sampled") -> dict[str, Any]:
    """The fields of `Faithfulness` on the ``ends`` of the spectrum; all None if these are unknown."""
    fields: dict[str, Any] = {}
    for name, end in zip(("largest", "smallest"), ends or (None, None), strict=True):
        if end is None:
            fields |= {name: None, f"{name}_residual": None, f"{name}_error": None}
            continue
        value, vector, residual = end
        relative = residual / abs(value) if value else math.inf if residual else 0.0
        fields |= {name: value, f"{name}_residual": relative, f"{name}_error": sampled.error(vector)}
    return fields


def _elsewhere(
    others: Objective, slice_: Slice, product: Product, origin: np.ndarray, vector: np.ndarray
) -> tuple[float, "_Sampled"]:
    """The curvature on ``others`` along the eigenvector ``vector`` of the smallest eigenvalue, and their errors.

    The eigenvector of a few samples also follows their noise, so that the curvature along it is too low on these
    samples. On others it has no such bias.
    """
    elsewhere = hessian_product(others, slice_.origin)
    try:
        curvature = float(vector @ elsewhere.matvec(vector))
    finally:
        elsewhere.release()
    return curvature, _Sampled(others, product, origin)


class _Sampled:
    """Standard errors of u^T H u over samples, from second differences of the losses of single samples.

    The losses are scaled by the weights of the samples and contain no regularizer, which has no error.
    """

    def __init__(self, objective: Objective, product: Product, origin: np.ndarray):
        self.objective, self.product, self.origin = objective.for_slice(None), product, origin
        self.single = self.objective.without_regularizer()
        weights = self.objective.weights_of(0, objective.size)
        self.weights = None if weights is None else weights.numpy()
        self.count = float(objective.size) if self.weights is None else effective_count(self.weights)
        self.losses = self._losses(np.zeros_like(origin))
        self.loss_error = self._standard_error(self.losses)
        scale = max(1.0, float(np.linalg.norm(origin)))
        precision = float(torch.finfo(objective.dtype).eps)
        self.length = precision**ROUNDING * scale
        self.rounding = 4 * precision * float(abs(self.losses).max()) / self.length**2  # of a second difference

    def error(self, direction: np.ndarray) -> float | None:
        """The standard error over samples of u^T H u for the unit vector u = ``direction``."""
        if not self.objective.independent:
            return None
        ahead, behind = (self._losses(sign * self.length * direction) for sign in (1, -1))
        return self._standard_error((ahead - 2 * self.losses + behind) / self.length**2)

    def noise(self, error: float | None) -> float:
        """The deviation from zero up to which a mean over the samples is not significant; 0 without an ``error``."""
        return critical_value(self.count) * error if error else 0.0

    def _losses(self, move: np.ndarray) -> np.ndarray:
        moved = self.product.unflatten(self.origin + move)
        losses: np.ndarray = as_float64(self.single(self.product.point | moved)).numpy()
        return losses

    def _standard_error(self, values: np.ndarray) -> float | None:
        if not self.objective.independent or len(values) < 2:
            return None
        return error_of_mean(values, self.weights)


def _gain(steepness: float, bend: float, longest: float) -> float:
    """The decrease of the loss along the gradient, of norm ``steepness``, at which the curvature is ``bend``.

    Slope and curvature are of the same size at the end of the step, unless it is ``longest``, see `faithfulness`.
    """
    step = min(longest, steepness / abs(bend)) if bend else longest
    return step * (steepness - abs(bend) * step / 2)


def _rounding(loss: float, bend: float, precision: float) -> float:
    """The change of ``loss`` that counts as rounding, also if terms cancel so that the loss is about zero."""
    return precision * max(ROUNDINGS * abs(loss), min(1.0, abs(bend) / 2))


def _share(vector: np.ndarray, basis: np.ndarray) -> float | None:
    """The squared length of the projection of ``vector`` onto the span of ``basis``, as a share of its own."""
    square = float(vector @ vector)
    return float(((basis @ vector) ** 2).sum() / square) if square else None


def _verdict(
    descends: bool, outer: Mapping[str, float | None], bends_down: bool, precision: float, judging: _Sampled
) -> Verdict:
    """The verdict on the origin.

    ``descends`` says whether the gain along the gradient is significant, ``bends_down`` whether the plane has
    significant negative curvature. ``judging`` are the samples on which the smallest eigenvalue is judged.
    """
    if descends:
        return "no critical point"
    largest, smallest = outer["largest"], outer["smallest"]
    if smallest is None or largest is None:
        return "saddle" if bends_down else "unknown"
    magnitude = max(abs(largest), abs(smallest))
    elsewhere = outer.get("smallest_elsewhere")
    kind, curvature = ("smallest", smallest) if elsewhere is None else ("smallest_elsewhere", elsewhere)
    noise = judging.noise(outer[f"{kind}_error"])
    if curvature < -ROUNDINGS * precision * magnitude - noise:
        return "saddle" if bends_down else "hidden saddle"
    return "unknown" if noise > max(RESOLVED * magnitude, judging.rounding) else "minimum"
