"""What a plane shows of the loss around its origin, and what it leaves out."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from landscape.presenting import Presented, sample_text, value_text

__all__ = ["Faithfulness", "Verdict"]

Verdict = Literal["minimum", "saddle", "hidden saddle", "no critical point", "unknown"]
WORDS: dict[Verdict, str] = {
    "minimum": "a minimum, within the noise of the samples",
    "saddle": "a saddle, which the plane shows",
    "hidden saddle": "A SADDLE THAT THIS PLANE HIDES",
    "no critical point": "no critical point: a step along the gradient lowers the loss beyond its standard error",
    "unknown": "not known: eigenvalues of a network of this size do not fit into memory",
}


@dataclass(frozen=True, repr=False)
class Faithfulness(Presented):
    """Curvature, gradient and last step inside a plane beside those of the whole parameter space, at its origin.

    Errors are standard errors over samples (of the average eigenvalue: over probes), None where they are not known.
    """

    axis_curvatures: tuple[float, ...]  # u^T H u along each axis, u the unit direction
    plane_eigenvalues: tuple[float, ...]  # of H restricted to the plane, rising
    plane_errors: tuple[float | None, ...]  # of the plane_eigenvalues
    average_eigenvalue: float  # tr H / D, the curvature that a random direction has on average
    average_error: float
    largest: float | None  # outermost eigenvalues of H; None where the network is too large for eigenpairs
    largest_residual: float | None  # |H v - l v| / |l|
    smallest: float | None
    smallest_residual: float | None
    smallest_error: float | None  # of v^T H v over samples, v the eigenvector of the smallest
    hessian_share: float  # (|H u1|^2 + |H u2|^2) / tr H^2 for orthonormal u1, u2 that span the plane
    gradient_share: float | None  # squared length of the part of the gradient in the plane, by that of the gradient
    step_share: float | None  # the same of the last training step, None where none was passed
    gradient_norm: float
    gain: float  # fall of the loss by the best step along the gradient, |g|^4 / 2 g^T H g; infinite without curvature
    loss: float
    loss_error: float | None
    dimension: int  # D, the number of parameters
    verdict: Verdict  # what the origin is
    metadata: dict[str, Any] = field(default_factory=dict)  # slice, data, objective, settings; JSON types only

    @property
    def facts(self) -> dict[str, str]:
        return {
            "curvature along the axes": ", ".join(map(value_text, self.axis_curvatures)),
            "average eigenvalue": value_text(self.average_eigenvalue, self.average_error),
            "largest": "" if self.largest is None else value_text(self.largest),
            "smallest": "" if self.smallest is None else value_text(self.smallest, self.smallest_error),
            "share of the squared Hessian": _share_text(self.hessian_share),
            "of the gradient": _share_text(self.gradient_share),
            "of the last step": _share_text(self.step_share),
            "the origin is": WORDS[self.verdict],
            "of": sample_text(self.metadata),
        }

    @property
    def line(self) -> str:
        """One line for captions and logs."""
        ends = "" if self.largest is None else f", outermost eigenvalues {self.smallest:.3g} and {self.largest:.3g}"
        axes = ", ".join(f"{value:.3g}" for value in self.axis_curvatures)
        return (
            f"curvature {axes} along the axes; average eigenvalue {self.average_eigenvalue:.2g}{ends}; "
            f"{self.hessian_share:.1%} of the squared Hessian in this plane; the origin is {WORDS[self.verdict]}"
        )

    @property
    def record(self) -> dict[str, Any]:
        """All fields as JSON types; ``Faithfulness(**record)`` is the same result."""
        return asdict(self)

    def __post_init__(self) -> None:
        for name in ("axis_curvatures", "plane_eigenvalues", "plane_errors"):  # lists after JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))


def _share_text(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"
