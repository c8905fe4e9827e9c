"""Surfaces in the formats of other programs; the packages for these formats are imported only when used."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landscape.checks import checked_path
from landscape.errors import InputError
from landscape.extras import imported
from landscape.storage.files import written_whole
from landscape.storage.reading import available_bytes

if TYPE_CHECKING:
    from landscape.results.surface import Surface

__all__ = ["from_h5", "to_csv", "to_h5", "to_vtk", "to_xarray"]

PER_CENT = 100.0
H5_LOSS, H5_ACCURACY = "train_loss", "train_acc"  # the tool's names of loss and accuracy on any data
H5_QUANTITIES = "quantities"  # our group of what the tool does not know, by number, each with its name
H5_ORDER = "x varies fastest"
TAKEN = (  # names of columns
    "alpha", "beta", "sample", "loss", "standard_error", "accuracy", "evaluated", "per_sample", "sample_weights"
)  # fmt: skip


def columns(surface: "Surface") -> dict[str, np.ndarray]:
    """All quantities [A, B] of the surface by name, the loss first.

    Raises:
        InputError: one of its further quantities has the name of another column.
    """
    if taken := [name for name in surface.quantities if name in TAKEN]:
        raise InputError(
            f"the quantity {taken[0]!r} has the name of another column; evaluate it under another name, or write the "
            "surface with save or to_h5, which keep all names"
        )
    columns = {"loss": surface.loss, "standard_error": surface.standard_error, "accuracy": surface.accuracy}
    return {name: values for name, values in (columns | surface.quantities).items() if values is not None}


def to_csv(surface: "Surface", path: str | Path) -> Path:
    """Write a CSV file with one row for each grid point: its coordinates and all quantities, with all digits.

    Values that are not finite are written as nan, inf and -inf.
    """
    path, names = checked_path(path), ("alpha", "beta")[: len(surface.axes)]
    grid = np.meshgrid(*surface.axes, indexing="ij")
    table = dict(zip(names, grid, strict=True)) | columns(surface)
    if surface.evaluated is not None:
        table["evaluated"] = surface.evaluated
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*(values.ravel().tolist() for values in table.values()), strict=True))
    return path


def to_xarray(surface: "Surface") -> Any:
    """An `xarray.Dataset` with the axes as coordinates and the metadata, as JSON, among its attributes.

    Raises:
        InputError: xarray is not installed.
    """
    xarray = imported("xarray", "xarray", "this format")
    names = ("alpha", "beta")[: len(surface.axes)]
    variables = {name: (names, values) for name, values in columns(surface).items()}
    if surface.per_sample is not None:
        variables["per_sample"] = ((*names, "sample"), surface.per_sample)
        if surface.sample_weights is not None:
            variables["sample_weights"] = (("sample",), surface.sample_weights)
    if surface.evaluated is not None:
        variables["evaluated"] = (names, surface.evaluated)
    coordinates = dict(zip(names, surface.axes, strict=True))
    return xarray.Dataset(variables, coordinates, {"metadata": json.dumps(surface.metadata)})


def to_vtk(surface: "Surface", path: str | Path) -> Path:
    """Write a structured grid (.vts) for ParaView: points (alpha, beta, 0) with all quantities as point data.

    ParaView draws it as a surface with the filter "Warp By Scalar". Values that are not finite are kept.

    Raises:
        InputError: vtk is not installed, the surface is a line, or the path does not end in .vts.
    """
    path = checked_path(path)
    if surface.betas is None:
        raise InputError("this surface is a line; VTK files hold planes, so write it with to_csv")
    if path.suffix != ".vts":
        raise InputError(f"{path} does not end in .vts, by which ParaView knows structured grids")
    quantities = columns(surface)
    imported("vtk", "vtk", "this format")
    from vtkmodules.util import numpy_support
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkStructuredGrid
    from vtkmodules.vtkIOXML import vtkXMLStructuredGridWriter

    grid, points = vtkStructuredGrid(), vtkPoints()
    grid.SetDimensions(len(surface.alphas), len(surface.betas), 1)
    beta, alpha = np.meshgrid(surface.betas, surface.alphas, indexing="ij")  # the first axis varies fastest in VTK
    places = np.stack([alpha.ravel(), beta.ravel(), np.zeros(alpha.size)], 1)
    to_vtk_array: Callable[..., Any] = numpy_support.numpy_to_vtk
    points.SetData(to_vtk_array(places, deep=True))
    grid.SetPoints(points)
    for name, values in quantities.items():
        array = to_vtk_array(np.ascontiguousarray(values.T).ravel(), deep=True)
        array.SetName(name)
        grid.GetPointData().AddArray(array)
    grid.GetPointData().SetActiveScalars("loss")
    with written_whole(path) as temporary:
        writer = vtkXMLStructuredGridWriter()
        writer.SetFileName(str(temporary))
        writer.SetInputData(grid)
        if not writer.Write():
            raise InputError(f"cannot write {path}")
    return path


def to_h5(surface: "Surface", path: str | Path) -> Path:
    """Write an HDF5 file in the layout of the tool of Li et al. 2018 (`plot_surface.py`), for its plotting scripts.

    The layout consists of ``xcoordinates`` [A], ``ycoordinates`` [B], and ``train_loss`` and ``train_acc`` (in per
    cent) of shape [A, B], in which the x coordinate varies fastest: on a square grid ``train_loss[j, i]`` is the loss
    at ``(xcoordinates[i], ycoordinates[j])``, on others the same values in the same order fill the rows. What the tool
    does not know, such as further quantities, is added in the same order, and the metadata as an attribute. The losses
    of single samples are left out.

    Raises:
        InputError: h5py is not installed.
    """
    path, h5py = checked_path(path), imported("h5py", "h5py", "this format")
    names = ("xcoordinates", "ycoordinates")[: len(surface.axes)]
    ours = {"standard_error": surface.standard_error, "accuracy": surface.accuracy, "evaluated": surface.evaluated}
    with written_whole(path) as temporary, h5py.File(temporary, "w") as file:
        for name, axis in zip(names, surface.axes, strict=True):
            file[name] = axis
        file[H5_LOSS] = _x_fastest(surface.loss)
        if surface.accuracy is not None:
            file[H5_ACCURACY] = _x_fastest(PER_CENT * surface.accuracy)
        for name, values in ours.items():
            if values is not None:
                file[name] = _x_fastest(values)
        group = file.create_group(H5_QUANTITIES)
        for number, (name, values) in enumerate(surface.quantities.items()):
            group[str(number)] = _x_fastest(values)
            group[str(number)].attrs["name"] = name
        file.attrs.update(metadata=json.dumps(surface.metadata), order=H5_ORDER)
    return path


def from_h5(path: str | Path) -> dict[str, Any]:
    """The fields of a surface in a file written by the tool of Li et al. 2018, or by `to_h5`.

    Values that the tool had not computed, for which it writes -1, become NaN. Further arrays of the size of the loss,
    such as eigenvalues, become quantities.

    Raises:
        InputError: h5py is not installed, the file cannot be read, or it has another layout.
    """
    path, h5py = checked_path(path), imported("h5py", "h5py", "this format")
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: _read(value, name) for name, value in file.items() if _is_numbers(value)}
            named = {
                str(value.attrs["name"]): _read(value, name) for name, value in file.get(H5_QUANTITIES, {}).items()
            }
            metadata, order = file.attrs.get("metadata"), file.attrs.get("order")
            known = {} if metadata is None else json.loads(str(metadata))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError, RuntimeError, RecursionError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as an HDF5 file of a surface: {reason}") from error
    if missing := {"xcoordinates", H5_LOSS} - arrays.keys():
        raise InputError(f"{path} holds no surface: it has no {', '.join(sorted(missing))}")
    ours = metadata is not None
    alphas, betas = arrays.pop("xcoordinates"), arrays.pop("ycoordinates", None)
    axes = [axis for axis in (alphas, betas) if axis is not None]
    if any(axis.ndim != 1 for axis in axes):
        raise InputError(f"{path}: coordinates have shapes {[axis.shape for axis in axes]}; they must be vectors")
    shape = tuple(map(len, axes))
    if arrays[H5_LOSS].shape != shape:
        raise InputError(f"{path}: the loss has shape {arrays[H5_LOSS].shape}, the coordinates {shape}")
    arranged = _x_first if order == H5_ORDER or not ours else np.asarray  # early files of ours have [A, B] as it is
    fields, named = (
        {name: _computed(arranged(values), ours) for name, values in group.items() if values.shape == shape}
        for group in (arrays, named)
    )
    loss, percent = fields.pop(H5_LOSS), fields.pop(H5_ACCURACY, None)
    if percent is not None and "accuracy" not in fields:
        fields["accuracy"] = percent / PER_CENT
    evaluated = fields.pop("evaluated", None)
    return {
        "alphas": alphas,
        "betas": betas,
        "loss": loss,
        "standard_error": fields.pop("standard_error", np.full(shape, np.nan)),
        "accuracy": fields.pop("accuracy", None),
        "evaluated": None if evaluated is None else evaluated > 0,
        "quantities": fields | named,
        "metadata": known,
    }


def _x_fastest(values: np.ndarray) -> np.ndarray:
    """``values`` [A, B] in the order of the tool, whose arrays have the shape [A, B] as well; a line as it is.

    The tool numbers its points by ``numpy.meshgrid``, so that the first coordinate varies fastest along its rows.
    """
    return np.ascontiguousarray(values.T).reshape(values.shape)


def _x_first(values: np.ndarray) -> np.ndarray:
    """The inverse of `_x_fastest`."""
    return np.ascontiguousarray(values.reshape(values.shape[::-1]).T)


def _read(dataset: Any, name: str) -> np.ndarray:
    """The values of ``dataset``.

    Raises:
        InputError: They do not fit into memory, which even a small file can declare.
    """
    if 8 * dataset.size > available_bytes() / 2:
        raise InputError(f"{name!r} has {dataset.size:,} values, which do not fit into memory; is this a surface?")
    return np.asarray(dataset, dtype=np.float64)


def _is_numbers(value: Any) -> bool:
    return hasattr(value, "shape") and value.dtype.kind in "fiub"


def _computed(values: np.ndarray, ours: bool) -> np.ndarray:
    """``values`` with NaN in place of -1, by which the other tool marks values that it has not computed."""
    return values if ours else np.where(values == -1, np.nan, values)
