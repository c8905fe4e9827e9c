"""The comparison of a plane with the whole parameter space around its origin."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from landscape.presenting import Presented, sample_text, value_text

__all__ = ["Faithfulness", "Verdict"]

Verdict = Literal["minimum", "saddle", "hidden saddle", "no critical point", "unknown"]
WORDS: dict[Verdict, str] = {
    "minimum": "a minimum, within the noise of the samples",
    "saddle": "a saddle, which the plane shows",
    "hidden saddle": "A SADDLE THAT THIS PLANE HIDES",
    "no critical point": "no critical point: a step along the gradient lowers the loss by more than its standard error",
    "unknown": "not known: eigenvectors of a network of this size do not fit into memory",
}


@dataclass(frozen=True, repr=False)
class Faithfulness(Presented):
    """Curvature, gradient and last training step in a plane and in the whole parameter space, at the plane's origin.

    H is the Hessian and g the gradient of the loss. Errors are standard errors over samples (for the average
    eigenvalue, over probes); they are None if they are unknown.
    """

    axis_curvatures: tuple[float, ...]  # u^T H u for the unit direction u of each axis
    plane_eigenvalues: tuple[float, ...]  # eigenvalues of H restricted to the plane, increasing
    plane_errors: tuple[float | None, ...]  # errors of the plane_eigenvalues
    average_eigenvalue: float  # tr H / D, the average curvature in a random direction
    average_error: float  # error of the average eigenvalue
    largest: float | None  # largest eigenvalue l of H; None if the network is too large for eigenvectors
    largest_residual: float | None  # |H v - l v| / |l| of its eigenvector v
    smallest: float | None  # smallest eigenvalue l of H, likewise
    smallest_residual: float | None  # |H v - l v| / |l| of its eigenvector v
    smallest_error: float | None  # error of v^T H v for that eigenvector
    hessian_share: float  # (|H u1|^2 + |H u2|^2) / tr H^2 for orthonormal u1, u2 that span the plane
    gradient_share: float | None  # |g in the plane|^2 / |g|^2
    step_share: float | None  # the same for the last training step; None if it is unknown
    gradient_norm: float  # |g|
    gain: float  # decrease of the loss by the best step along the gradient, |g|^4 / 2 g^T H g; infinite if g^T H g <= 0
    loss: float  # loss at the origin
    loss_error: float | None  # error of the loss
    dimension: int  # D, the number of parameters
    verdict: Verdict  # kind of point that the origin is
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
        """A summary in one line, for captions and logs."""
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
