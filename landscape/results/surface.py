"""The loss over a line or a plane."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from landscape.checks import is_whole
from landscape.errors import InputError
from landscape.presenting import range_text, sample_text, value_text
from landscape.results import exports
from landscape.results.archive import Archived
from landscape.results.faithfulness import Faithfulness
from landscape.storage.arrays import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Surface"]


@dataclass(frozen=True, eq=False, repr=False)
class Surface(Archived):
    """The loss over a line (one axis) or a plane (two axes) of parameter space.

    Averages are over samples, in float64. Values that are not finite are stored as they are. On a line ``betas`` is
    None, and all arrays lack the axis of length B.
    """

    called = "surface"
    forms: ClassVar = {
        "alphas": Array("A", finite=True, increasing=True),
        "betas": Array("B", finite=True, increasing=True, optional=True),
        "loss": Array("A B"),
        "standard_error": Array("A B", low=0),
        "accuracy": Array("A B", low=0, high=1, optional=True),
        "per_sample": Array("A B N", optional=True),
        "evaluated": Array("A B", kinds="b", optional=True),
        "quantities": Array("Q A B", optional=True),
        "sample_weights": Array("N", optional=True, finite=True, low=0),
    }

    alphas: np.ndarray  # [A] float64, coordinates along the first direction, increasing
    betas: np.ndarray | None  # [B] float64, coordinates along the second direction, increasing
    loss: np.ndarray  # [A, B] float64, mean loss over the samples; loss[i, j] is at (alphas[i], betas[j])
    standard_error: np.ndarray  # [A, B] float64, standard deviation over samples / sqrt(N); NaN if unknown
    accuracy: np.ndarray | None  # [A, B] float64 in [0, 1], share of samples whose top class is the target
    per_sample: np.ndarray | None  # [A, B, N] float32 (float64 for a float64 objective), loss of every sample
    metadata: dict[str, Any]  # recipe, data, objective, method, checks, versions, seconds; JSON types only
    evaluated: np.ndarray | None = None  # [A, B] bool, False where values are interpolated; None without a tolerance
    quantities: dict[str, np.ndarray] = field(default_factory=dict)  # [A, B] float64 each, further means by name
    sample_weights: np.ndarray | None = None  # [N] float64 with mean 1, weights of ``per_sample``; None if all are 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of grid points along each axis."""
        return self.loss.shape

    @property
    def axes(self) -> tuple[np.ndarray, ...]:
        """The coordinate vectors: one for a line, two for a plane."""
        return (self.alphas,) if self.betas is None else (self.alphas, self.betas)

    @property
    def nonfinite(self) -> np.ndarray:
        """Mask [A, B] of the points whose loss is NaN or infinite."""
        mask: np.ndarray = ~np.isfinite(self.loss)
        return mask

    @property
    def faithfulness(self) -> Faithfulness | None:
        """What the slice leaves out, from "faithfulness" in the metadata; None if it was not measured."""
        return Faithfulness.read(self.metadata.get("faithfulness"))

    @property
    def minimum(self) -> tuple[int, ...] | None:
        """Index of the smallest finite loss; None if no loss is finite."""
        if self.nonfinite.all():
            return None
        flat = np.where(self.nonfinite, np.inf, self.loss).argmin()
        return tuple(int(i) for i in np.unravel_index(flat, self.loss.shape))

    @property
    def centre(self) -> tuple[int, ...]:
        """Index of the grid point nearest to the origin of the slice."""
        return tuple(int(np.abs(axis).argmin()) for axis in self.axes)

    @property
    def facts(self) -> dict[str, str]:
        centre = None if self.accuracy is None else self.accuracy[self.centre]
        bad = int(self.nonfinite.sum())
        return {
            "points": " x ".join(map(str, self.shape)),
            "loss": range_text(self.loss),
            "at the centre": value_text(self.loss[self.centre], self.standard_error[self.centre]),
            "accuracy there": "" if centre is None else f"{100 * centre:.4g}%",
            "quantities": ", ".join(self.quantities),
            "of": sample_text(self.metadata),
            "not finite": f"{bad:,} of {self.loss.size:,}" if bad else "",
        }

    def draw(self, ax: "Axes") -> None:
        from landscape import plotting  # here, because results are used without matplotlib as well

        draw = plotting.plot_slices if self.betas is None else plotting.plot_contour
        draw(self, ax)

    def to_csv(self, path: str | Path) -> Path:
        """Write a table with one row for every grid point, see `landscape.results.exports.to_csv`."""
        return exports.to_csv(self, path)

    def to_xarray(self) -> Any:
        """An `xarray.Dataset`, see `landscape.results.exports.to_xarray`."""
        return exports.to_xarray(self)

    def to_vtk(self, path: str | Path) -> Path:
        """Write a structured grid (.vts) for ParaView, see `landscape.results.exports.to_vtk`."""
        return exports.to_vtk(self, path)

    def to_h5(self, path: str | Path) -> Path:
        """Write the layout of the tool of Li et al. 2018, see `landscape.results.exports.to_h5`."""
        return exports.to_h5(self, path)

    @classmethod
    def from_h5(cls, path: str | Path) -> "Surface":
        """The surface in a file of the tool of Li et al. 2018, see `landscape.results.exports.from_h5`."""
        surface = cls(per_sample=None, **exports.from_h5(path))
        if reason := surface.fault():
            raise InputError(f"{path} holds no surface: {reason}")
        return surface

    def sample(self, index: int) -> "Surface":
        """The surface of the loss of one sample, if the surface was evaluated with ``per_sample=True``.

        Raises:
            InputError: The surface holds no losses of single samples.
        """
        if self.per_sample is None:
            raise InputError("this surface holds no single samples; evaluate with per_sample=True")
        count = self.per_sample.shape[-1]
        if not is_whole(index) or not -count <= index < count:
            raise InputError(f"index is {index!r}; this surface has the samples 0 to {count - 1}")
        loss = self.per_sample[..., index].astype(np.float64)
        return replace(
            self, loss=loss, standard_error=np.full(loss.shape, np.nan), accuracy=None, per_sample=None, quantities={},
            sample_weights=None,
            metadata={
                **{key: value for key, value in self.metadata.items() if key != "faithfulness"},  # of the mean loss
                "data": {**self.metadata.get("data", {}), "size": 1, "sample": int(index)},
                "nonfinite_points": int((~np.isfinite(loss)).sum()),
            },
        )  # fmt: skip

    def stored_arrays(self) -> dict[str, Any]:
        arrays = super().stored_arrays()
        quantities = arrays.pop("quantities")
        return arrays | ({"quantities": np.stack(list(quantities.values()))} if quantities else {})

    def stored_metadata(self) -> dict[str, Any]:
        others = {key: value for key, value in self.metadata.items() if key != "quantities"}
        return others | ({"quantities": list(self.quantities)} if self.quantities else {})

    @classmethod
    def from_stored(cls, values: dict[str, Any]) -> "Surface":
        stacked, names = values.pop("quantities"), values["metadata"].get("quantities", [])
        count = 0 if stacked is None else len(stacked)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) != count:
            raise InputError(f"it holds {count} quantities beside the loss, but their names are {names!r}"[:200])
        return cls(**values, quantities=dict(zip(names, () if stacked is None else stacked, strict=True)))

    def mismatch(self) -> str | None:
        if not self.loss.size:
            return "it has no grid points"
        size = (self.metadata.get("data") or {}).get("size")
        if self.per_sample is not None and isinstance(size, int) and self.per_sample.shape[-1] != size:
            return f"per_sample has {self.per_sample.shape[-1]:,} samples, the data {size:,}"
        return None
