"""The comparison of a plane with the whole parameter space around its origin."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from landscape.presenting import Presented, sample_text, text_table, value_text
from landscape.storage.forms import Optional, form_fault

__all__ = ["Faithfulness", "Verdict"]

Verdict = Literal["minimum", "saddle", "hidden saddle", "no critical point", "unknown"]
WORDS: dict[Verdict, str] = {
    "minimum": "a minimum, within the noise of the samples",
    "saddle": "a saddle, which the plane shows",
    "hidden saddle": "A SADDLE THAT THIS PLANE HIDES",
    "no critical point": "no critical point: a step along the gradient lowers the loss by more than the noise",
    "unknown": "not known: the samples are too few to tell a saddle from a minimum",
}
TOO_LARGE = "eigenvectors of a network of this size do not fit into memory"
CAPTIONS: dict[Verdict, str] = {
    "minimum": "minimum within noise",
    "saddle": "saddle",
    "hidden saddle": "HIDDEN SADDLE",
    "no critical point": "no critical point",
    "unknown": "saddle or minimum not known",
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
    gain: float  # decrease of the loss by a step along the gradient, usually |g|^4 / 2 |g^T H g|, see `faithfulness`
    loss: float  # loss at the origin
    loss_error: float | None  # error of the loss
    dimension: int  # D, the number of parameters
    verdict: Verdict  # kind of point that the origin is
    metadata: dict[str, Any] = field(default_factory=dict)  # slice, data, objective, settings; JSON types only
    largest_error: float | None = None  # error of v^T H v for the eigenvector v of the largest eigenvalue
    hessian_share_error: float | None = None  # error of the share of the squared Hessian, over probes
    smallest_elsewhere: float | None = None  # v^T H v on other samples, without bias; None if all samples are used
    smallest_elsewhere_error: float | None = None  # its error

    @property
    def facts(self) -> dict[str, str]:
        errors = zip(self.plane_eigenvalues, self.plane_errors, strict=True)
        return {
            "curvature along the axes": ", ".join(map(value_text, self.axis_curvatures)),
            "eigenvalues in the plane": ", ".join(value_text(*pair) for pair in errors),
            "average eigenvalue": value_text(self.average_eigenvalue, self.average_error),
            "largest eigenvalue": _end_text(self.largest, self.largest_error, self.largest_residual),
            "smallest eigenvalue": _end_text(self.smallest, self.smallest_error, self.smallest_residual),
            "on other samples": self._elsewhere,
            "share of the squared Hessian": _share_text(self.hessian_share, self.hessian_share_error),
            "share of the gradient": _share_text(self.gradient_share),
            "share of the last recorded step": _share_text(self.step_share),
            "the origin is": self._kind,
            "measured on": self._samples,
        }

    @property
    def line(self) -> str:
        """A summary in one line, for logs."""
        ends = "" if self.largest is None else f", outermost eigenvalues {self.smallest:.3g} and {self.largest:.3g}"
        axes = ", ".join(f"{value:.3g}" for value in self.axis_curvatures)
        return (
            f"curvature {axes} along the axes; average eigenvalue {self.average_eigenvalue:.2g}{ends}; "
            f"{self.hessian_share:.1%} of the squared Hessian in this plane; the origin is {self._kind}"
        )

    @property
    def caption(self) -> str:
        """A shorter line, for the captions of figures."""
        axes = ", ".join(f"{value:.2g}" for value in self.axis_curvatures)
        ends = "" if self.largest is None else f" (overall {self.smallest:.2g} to {self.largest:.2g})"
        return f"curvature {axes}{ends}, {CAPTIONS[self.verdict]}"

    @property
    def box(self) -> str:
        """All facts as lines of text, for logs."""
        rows = [(f"  {name}", text) for name, text in self.facts.items() if text]
        return "\n".join(["what the plane shows, and what it leaves out:", text_table(rows)])

    @property
    def record(self) -> dict[str, Any]:
        """All fields as JSON types; ``Faithfulness(**record)`` is the same result."""
        return asdict(self)

    @classmethod
    def read(cls, record: object) -> "Faithfulness | None":
        """The result whose `record` was read from a file; None if it is none."""
        known = {entry.name for entry in fields(cls)}
        if not isinstance(record, dict) or record.keys() - known or form_fault(record, FORM):
            return None
        lengths = len(record["plane_eigenvalues"]) == len(record["plane_errors"])
        ends = (record["largest"] is None) == (record["smallest"] is None)
        if record["verdict"] not in WORDS or not lengths or not ends:
            return None
        return cls(**record)

    @property
    def _kind(self) -> str:
        if self.verdict == "unknown" and self.largest is None:
            return f"not known: {TOO_LARGE}"
        return WORDS[self.verdict]

    @property
    def _elsewhere(self) -> str:
        if self.smallest_elsewhere is None:
            return ""
        return f"{value_text(self.smallest_elsewhere, self.smallest_elsewhere_error)} along the same direction"

    @property
    def _samples(self) -> str:
        total, text = self.metadata.get("all_samples"), sample_text(self.metadata)
        size = (self.metadata.get("data") or {}).get("size")
        return f"{text} of {total:,}" if isinstance(total, int) and text and total != size else text

    def __post_init__(self) -> None:
        for name in ("axis_curvatures", "plane_eigenvalues", "plane_errors"):  # lists after JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))


NUMBER = (int, float)
FORM = {
    **{name: [NUMBER] for name in ("axis_curvatures", "plane_eigenvalues")},
    "plane_errors": [Optional(NUMBER)],
    **{
        name: NUMBER
        for name in ("average_eigenvalue", "average_error", "hessian_share", "gradient_norm", "gain", "loss")
    },
    **{
        name: Optional(NUMBER)
        for name in (
            "largest", "largest_residual", "smallest", "smallest_residual", "smallest_error", "gradient_share",
            "step_share", "loss_error", "largest_error", "hessian_share_error", "smallest_elsewhere",
            "smallest_elsewhere_error",
        )
    },
    "dimension": int,
    "verdict": str,
    "metadata": {"data": Optional(dict)},
}  # fmt: skip


def _end_text(value: float | None, error: float | None, residual: float | None) -> str:
    if value is None:
        return f"not computed: {TOO_LARGE}"
    return value_text(value, error) + ("" if residual is None else f" (residual {residual * abs(value):.2g})")


def _share_text(share: float | None, error: float | None = None) -> str:
    if share is None:
        return ""
    return f"{share:.2%}" + ("" if error is None else f" ± {error:.1%}")
