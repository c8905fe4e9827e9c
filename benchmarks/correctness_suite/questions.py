"""The questions: what is asked, where the exact answer comes from, and the comparisons that decide."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.correctness_suite.protocol import Axes, CannotAnswer, Density, Subject, Tool
from benchmarks.correctness_suite.subjects import (
    MEAN_FACTOR,
    SIZES,
    Logarithm,
    classifier,
    dense_matrices,
    flat_directions,
    quadratic,
    quadratic_losses,
    softmax_regression,
)
from landscape.selftest.checks.quadratics import hessian
from landscape.selftest.comparison import Comparison, compared
from landscape.selftest.models import relu_network

__all__ = ["GROUPS", "QUESTIONS", "Question"]

SINGLE = 1e-5  # allowed relative difference of losses in float32
ITERATIVE = 2e-3  # of eigenvalues in float32, whose iterations stop at a tolerance of their own
SQUARE = (np.linspace(-1, 1, 5), np.linspace(-1, 1, 5))
OFFSET = (np.linspace(-1.5, -0.25, 5), np.linspace(0.5, 2.0, 5))
OBLONG = (np.linspace(-1.5, -0.25, 4), np.linspace(0.5, 2.0, 7))
DRAWN = 8  # the seed of the larger quadratics; probes drawn from seed 0 must not repeat their entries
SEEDS = range(40)  # of the trace estimates


@dataclass(frozen=True)
class Question:
    """What is asked of every tool that can express it."""

    name: str
    asked: str
    answer: str  # where the exact answer comes from
    run: Callable[[Tool], Iterator[Comparison]]


def _grid(axes: Axes) -> Callable[[Tool], Iterator[Comparison]]:
    def run(tool: Tool) -> Iterator[Comparison]:
        subject = quadratic()
        yield from _compared_picture(tool, subject, axes, SINGLE)

    return run


def _compared_picture(tool: Tool, subject: Subject, axes: Axes, allowed: float) -> Iterator[Comparison]:
    """Is the loss at the tool's own coordinates the exact one, and are these the coordinates asked for?"""
    directions = flat_directions(subject)
    picture = tool.surface(copy.deepcopy(subject), directions, axes)
    exact = quadratic_losses(subject, directions, (picture.alphas, picture.betas))
    yield compared("losses at their coordinates", picture.loss, exact, allowed)
    for number, (own, asked) in enumerate(zip((picture.alphas, picture.betas), axes, strict=True), 1):
        yield compared(f"axis {number}", own, asked, SINGLE)


def mean_over_samples(tool: Tool) -> Iterator[Comparison]:
    subject = quadratic(batches=SIZES)
    exact = quadratic_losses(subject, flat_directions(subject), (np.zeros(1), np.zeros(1)))[0, 0]
    yield compared("loss", tool.loss(subject), exact, SINGLE)


def softmax_loss(tool: Tool) -> Iterator[Comparison]:
    subject, _ = softmax_regression()
    yield compared("loss", tool.loss(subject), math.log(3), SINGLE)


def line(tool: Tool) -> Iterator[Comparison]:
    subject, other = classifier(), relu_network(2).float()
    path = tool.line(copy.deepcopy(subject), copy.deepcopy(other), 5)
    exact = []
    for share in path.places:
        between = copy.deepcopy(subject.model).double()
        with torch.no_grad():
            for a, b in zip(between.parameters(), other.parameters(), strict=True):
                a.lerp_(b.double(), float(share))
        inputs, targets = subject.whole
        exact.append(float(F.cross_entropy(between(inputs.double()), targets).detach()))
    yield compared("losses at their places", path.loss, exact, SINGLE)


def filter_norms(tool: Tool) -> Iterator[Comparison]:
    subject = classifier()
    ratios: list[list[float]] = []
    for direction in tool.directions(copy.deepcopy(subject)):
        ratios.append([])
        for name, weight in subject.model.named_parameters():
            if weight.ndim > 1:
                ratios[-1] += (direction[name].flatten(1).norm(dim=1) / weight.flatten(1).norm(dim=1)).tolist()
    for number, values in enumerate(ratios, 1):
        spread = np.array(values) / np.mean(values)
        yield compared(f"|d_f| / |theta_f| of direction {number}, up to one factor", spread, np.ones(len(values)), 1e-4)


def ignored_parameters(tool: Tool) -> Iterator[Comparison]:
    subject = classifier("batch norm")
    for number, direction in enumerate(tool.directions(copy.deepcopy(subject)), 1):
        for name, weight in subject.model.named_parameters():
            if weight.ndim == 1:
                moved = float(direction[name].norm() / weight.detach().norm())
                yield compared(f"direction {number}, |d| / |theta| of {name}", moved, 0.0, 1e-6, scale=1.0)


def batch_norm_statistics(tool: Tool) -> Iterator[Comparison]:
    subject, buffers = classifier("batch norm"), []
    before = {name: value.clone() for name, value in subject.model.named_buffers()}
    subject.model.register_forward_pre_hook(
        lambda model, _: buffers.append({name: value.clone() for name, value in model.named_buffers()})
    )
    picture = tool.random_picture(subject, seed=0)
    yield compared("share of finite losses", np.isfinite(picture).mean(), 1.0, 0.0)
    for name in ("1.running_mean", "1.running_var"):
        off = max(float((values[name] - before[name]).abs().max()) for values in buffers)
        yield compared(f"largest change of {name} at a point", off, 0.0, 1e-6, scale=1.0)


def orthogonality(tool: Tool) -> Iterator[Comparison]:
    if not tool.says_orthogonal:
        raise CannotAnswer("does not say that they are")
    first, second = tool.directions(classifier())
    a, b = (torch.cat([value.flatten() for value in d.values()]).double() for d in (first, second))
    yield compared("cosine", float(a @ b / (a.norm() * b.norm())), 0.0, 1e-3, scale=1.0)


def _unchanged(call: Callable[[Tool, Subject], object], training: bool) -> Callable[[Tool], Iterator[Comparison]]:
    def run(tool: Tool) -> Iterator[Comparison]:
        subject = classifier("batch norm")
        model = subject.model.train(training)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        call(tool, subject)
        for name, value in model.state_dict().items():
            yield compared(name, value, before[name], 0.0, scale=1.0)
        yield compared("training mode", all(module.training == training for module in model.modules()), True, 0.0)
        yield compared("gradients required", all(value.requires_grad for value in model.parameters()), True, 0.0)

    return run


def float64_losses(tool: Tool) -> Iterator[Comparison]:
    subject = quadratic(dtype=torch.float64)
    exact = quadratic_losses(subject, flat_directions(subject), (np.zeros(1), np.zeros(1)))[0, 0]
    try:
        pictured, *_ = _compared_picture(tool, subject, SQUARE, 1e-12)
    except CannotAnswer:
        pictured = None
    if pictured is not None and pictured.difference < SINGLE:
        yield pictured
    else:  # no picture, or one at other points than it says, which another question tells
        yield compared("loss", tool.loss(subject), exact, 1e-12)


def gaps(tool: Tool) -> Iterator[Comparison]:
    subject = quadratic(np.diag([1.0, -4.0] * 6))
    subject = Subject(subject.model, criterion := Logarithm(), subject.batches)
    with torch.no_grad():
        (weight,) = subject.model.parameters()
        weight.copy_(torch.tensor([1.0, 0.2] * 6).view_as(weight))
    directions = [{"weight": 2 * value["weight"]} for value in flat_directions(subject)]
    with np.errstate(invalid="ignore"):
        exact = int(np.isnan(np.log(quadratic_losses(subject, directions, SQUARE))).sum())
    assert 0 < exact < SQUARE[0].size ** 2
    loss = tool.surface(subject, directions, SQUARE).loss
    # A tool that is at other points than it says is asked for the gaps that its own evaluations had.
    expected = exact if np.isnan(loss).sum() == exact else criterion.gaps
    yield compared("number of NaN points", np.isnan(loss).sum(), expected, 0.0, scale=1.0)


def seeds(tool: Tool) -> Iterator[Comparison]:
    subject = classifier()
    first, again, other = (tool.random_picture(copy.deepcopy(subject), seed=seed) for seed in (1, 1, 2))
    yield compared("the same seed twice", again, first, 1e-7)
    yield compared("another seed gives another picture", float(np.abs(other - first).max()) > 1e-4, True, 0.0)


def weighted(tool: Tool) -> Iterator[Comparison]:
    subject = classifier(batches=(9, 14))
    weights = torch.rand(23, generator=torch.Generator().manual_seed(4)) + 0.1
    inputs, targets = subject.whole
    losses = F.cross_entropy(subject.model(inputs).detach().double(), targets, reduction="none")
    exact = float((losses * weights).sum() / weights.double().sum())
    yield compared("weighted mean", tool.weighted_loss(subject, weights), exact, SINGLE)


def softmax_eigenvalues(tool: Tool) -> Iterator[Comparison]:
    subject, exact = softmax_regression()
    yield compared("top six eigenvalues", np.sort(tool.eigenvalues(subject, 6))[::-1], exact[:6], ITERATIVE)


def negative_eigenvalues(tool: Tool) -> Iterator[Comparison]:
    diagonal = np.array([-10, 6, 3, 1, -1, 0.5, 0.4, 0.3, 0.2, -0.2, 0.1, 0.0])
    values = tool.eigenvalues(quadratic(np.diag(diagonal)), 3)
    yield compared("eigenvalues of largest magnitude", np.sort(values), np.sort(diagonal[:3]) * MEAN_FACTOR, ITERATIVE)


def unequal_batches(tool: Tool) -> Iterator[Comparison]:
    values = np.linalg.eigvalsh(hessian())
    exact = MEAN_FACTOR * values[np.argmax(np.abs(values))]
    yield compared("top eigenvalue", tool.eigenvalues(quadratic(batches=SIZES), 1), [exact], ITERATIVE)


def _trace(shift: float) -> Callable[[Tool], Iterator[Comparison]]:
    matrix = hessian(DRAWN, size=60) + shift * np.eye(60)
    exact = MEAN_FACTOR * float(np.trace(matrix))
    off_diagonal = matrix - np.diag(np.diag(matrix))
    one_probe = MEAN_FACTOR * math.sqrt(2) * float(np.linalg.norm(off_diagonal))  # standard deviation of z^T H z

    def run(tool: Tool) -> Iterator[Comparison]:
        estimates = [tool.trace(quadratic(matrix), seed) for seed in SEEDS]
        errors = [one_probe / math.sqrt(e.probes) if e.error is None else e.error for e in estimates]
        units = [(estimate.value - exact) / error for estimate, error in zip(estimates, errors, strict=True)]
        missed = sum(abs(unit) > 3 for unit in units) / len(units)
        yield compared("share of estimates off by more than three times their error", missed, 0.0, 0.05, scale=1.0)

    return run


def _moment(density: Density, order: int) -> float:
    return float((density.weights * density.nodes**order).sum(1).mean())


def density_mean(tool: Tool) -> Iterator[Comparison]:
    matrix = MEAN_FACTOR * (hessian(DRAWN, size=60) + 2 * np.eye(60))
    density = tool.density(quadratic(matrix / MEAN_FACTOR), seed=0)
    yield compared("total mass", _moment(density, 0), 1.0, 0.02)
    error = math.sqrt(2 / density.probes) * np.linalg.norm(matrix) / len(matrix)
    exact = float(np.trace(matrix)) / len(matrix)
    yield compared("mean, in standard errors", _moment(density, 1) / error, exact / error, 5.0, scale=1.0)


def density_square(tool: Tool) -> Iterator[Comparison]:
    matrix = MEAN_FACTOR * (hessian(DRAWN, size=60) + 2 * np.eye(60))
    density = tool.density(quadratic(matrix / MEAN_FACTOR), seed=0)
    if density.smoothed:
        raise CannotAnswer("smoothed by a kernel")
    error = math.sqrt(2 / density.probes) * np.linalg.norm(matrix @ matrix) / len(matrix)
    exact = float(np.trace(matrix @ matrix)) / len(matrix)
    yield compared("mean square, in standard errors", _moment(density, 2) / error, exact / error, 5.0, scale=1.0)


def _product(index: int) -> Callable[[Tool], Iterator[Comparison]]:
    def run(tool: Tool) -> Iterator[Comparison]:
        subject = classifier("tanh", dtype=torch.float64)
        matrix = dense_matrices(subject)[index]
        vector = torch.randn(len(matrix), generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        multiply = (tool.hessian_product, tool.ggn_product)[index]
        yield compared("product", multiply(subject, vector), matrix @ vector, 1e-9)

    return run


def float64_eigenvalue(tool: Tool) -> Iterator[Comparison]:
    # Well separated, so that every iteration converges far beyond float32.
    subject = quadratic(np.diag([10.0, *np.linspace(0, 1, 11)]), dtype=torch.float64)
    yield compared("top eigenvalue", tool.eigenvalues(subject, 1), [10 * MEAN_FACTOR], 1e-10)


def _picture(tool: Tool, subject: Subject) -> object:
    return tool.random_picture(subject, seed=0)


def _eigenvalue(tool: Tool, subject: Subject) -> object:
    return tool.eigenvalues(subject, 1)


CLOSED, PASSES, DENSE = "closed form", "plain passes in float64", "dense automatic differentiation"
GROUPS = {
    "Losses on grids": (
        Question("given directions", "Losses of a quadratic along two given directions on [-1, 1] x [-1, 1], 5 x 5 "
                 "points.", CLOSED, _grid(SQUARE)),
        Question("ranges", "The same on [-1.5, -0.25] x [0.5, 2].", CLOSED, _grid(OFFSET)),
        Question("grid not square", "The same ranges with 4 x 7 points.", CLOSED, _grid(OBLONG)),
        Question("line between networks", "Losses at five points of the line between two networks.", PASSES, line),
        Question("float64", "Losses of a float64 network to twelve digits.", CLOSED, float64_losses),
        Question("NaN", "Points whose loss is NaN, as many as there are.", CLOSED, gaps),
    ),
    "Averages": (
        Question("mean over samples", "The loss of 7 samples in batches of 4 and 3.", CLOSED, mean_over_samples),
        Question("weighted loss", "The mean of 23 samples with weights, in batches of 9 and 14.", PASSES, weighted),
        Question("ln K", "The loss of softmax regression at zero weights, ln 3.", CLOSED, softmax_loss),
    ),
    "Random directions": (
        Question("filter norms", "Norms of all filters of a filter-normalised direction, as shares of those of the "
                 "network: all equal (Li et al. 2018, section 4).", "the definition", filter_norms),
        Question("biases and BatchNorm", "Do biases and parameters of BatchNorm stay where they are, as Li et al. "
                 "(2018) recommend?", "the definition", ignored_parameters),
        Question("orthogonal directions", "The cosine of the two directions, where the tool says that they are "
                 "orthogonal.", "zero", orthogonality),
        Question("seeds", "The same seed gives the same picture, another seed another one.", "itself", seeds),
        Question("BatchNorm statistics", "Running means and variances at every point of a random plane: those of the "
                 "network.", "the network", batch_norm_statistics),
        Question("network unchanged", "A network in training mode after a picture: weights, statistics, mode, "
                 "gradients required.", "the same before", _unchanged(_picture, training=True)),
    ),
    "Eigenvalues": (
        Question("softmax regression", "Six eigenvalues of softmax regression at zero weights: l_i(S) / 3, each twice.",
                 CLOSED, softmax_eigenvalues),
        Question("negative eigenvalues", "The three eigenvalues of largest magnitude of a diagonal quadratic: -10, 6, "
                 "3.", CLOSED, negative_eigenvalues),
        Question("unequal batches", "The top eigenvalue of 7 samples in batches of 4 and 3.", CLOSED, unequal_batches),
        Question("float64 eigenvalue", "The top eigenvalue of a quadratic in float64 to ten digits.", CLOSED,
                 float64_eigenvalue),
        Question("network after eigenvalues", "A network in evaluation mode after an eigenvalue: weights, statistics, "
                 "mode, gradients required.", "the same before", _unchanged(_eigenvalue, training=False)),
    ),
    "Traces, densities and products": (
        Question("trace", "The trace of a Hessian of 60 parameters, 40 times: within three times the requested or "
                 "reported error.", CLOSED, _trace(2.0)),
        Question("negative trace", "The same for a Hessian whose trace is negative.", CLOSED, _trace(-2.0)),
        Question("mean of the density", "Mass and mean of the spectral density: 1 and trace / 60.", CLOSED,
                 density_mean),
        Question("mean square of the density", "The second moment of the spectral density.", CLOSED, density_square),
        Question("Hessian product", "H v of a tanh network in float64.", DENSE, _product(0)),
        Question("Gauss-Newton product", "G v of the same network, which is another matrix.", DENSE, _product(1)),
    ),
}  # fmt: skip
QUESTIONS = tuple(itertools.chain(*GROUPS.values()))
