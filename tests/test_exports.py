"""Surfaces in other formats, read back by the programs that these belong to."""

import json

import numpy as np
import pytest

import landscape_lib as ll


def surface(shape=(4, 3), **fields):
    generator = np.random.default_rng(0)
    loss = generator.random(shape) + 0.1
    loss.flat[1], loss.flat[2] = np.nan, np.inf
    axes = [np.linspace(-1, 1, shape[0]), np.linspace(-0.5, 2, shape[-1]) if len(shape) == 2 else None]
    values = {
        "accuracy": generator.random(shape),
        "per_sample": None,
        "metadata": {"data": {"name": "digits", "size": 5}, "title": "a, b"},
        "evaluated": generator.random(shape) > 0.5,
        "quantities": {"penalty": generator.random(shape)},
    } | fields
    return ll.Surface(*axes, loss, generator.random(shape), **values)


def test_a_table_has_a_row_for_every_point(tmp_path):
    pandas = pytest.importorskip("pandas")
    one = surface()
    table = pandas.read_csv(one.to_csv(tmp_path / "surface.csv"))
    assert list(table) == ["alpha", "beta", "loss", "standard_error", "accuracy", "penalty", "evaluated"]
    for name, values in {"loss": one.loss, "penalty": one.quantities["penalty"]}.items():
        assert np.array_equal(table[name].to_numpy().reshape(one.shape), values, equal_nan=True)  # to the last bit
    assert np.array_equal(table["alpha"].to_numpy().reshape(one.shape)[:, 0], one.alphas)
    assert np.array_equal(table["beta"].to_numpy().reshape(one.shape)[0], one.betas)
    assert np.array_equal(table["evaluated"].to_numpy().reshape(one.shape), one.evaluated)


def test_a_line_is_a_table_of_one_coordinate(tmp_path):
    lines = surface((5,), evaluated=None).to_csv(tmp_path / "line.csv").read_text().splitlines()
    assert lines[0] == "alpha,loss,standard_error,accuracy,penalty" and len(lines) == 6


def test_xarray_knows_the_axes():
    pytest.importorskip("xarray")
    one = surface()
    dataset = one.to_xarray()
    assert dataset.loss.dims == ("alpha", "beta")
    assert np.array_equal(dataset.loss.sel(alpha=one.alphas[2]).values, one.loss[2], equal_nan=True)
    assert np.array_equal(dataset.penalty.values, one.quantities["penalty"])
    assert json.loads(dataset.attrs["metadata"])["title"] == "a, b"


def test_vtk_reads_every_quantity_at_its_point(tmp_path):
    pytest.importorskip("vtk")
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLStructuredGridReader

    one = surface()
    reader = vtkXMLStructuredGridReader()
    reader.SetFileName(str(one.to_vtk(tmp_path / "surface.vts")))
    reader.Update()
    grid = reader.GetOutput()
    places = vtk_to_numpy(grid.GetPoints().GetData())
    values = {name: vtk_to_numpy(grid.GetPointData().GetArray(name)) for name in ("loss", "accuracy", "penalty")}
    for k, (alpha, beta, height) in enumerate(places):
        i, j = np.argmin(abs(one.alphas - alpha)), np.argmin(abs(one.betas - beta))
        assert height == 0 and np.array_equal(values["loss"][k], one.loss[i, j], equal_nan=True)
        assert values["penalty"][k] == one.quantities["penalty"][i, j]
    assert len(places) == one.loss.size and grid.GetPointData().GetScalars().GetName() == "loss"


@pytest.mark.parametrize("shape", [(4, 3), (5,)])
def test_hdf5_there_and_back_is_bit_equal(tmp_path, shape):
    pytest.importorskip("h5py")
    one = surface(shape, evaluated=None)
    again = ll.Surface.from_h5(one.to_h5(tmp_path / "surface.h5"))
    assert (again.betas is None) == (one.betas is None) == (len(shape) == 1)
    for name in ("alphas", "loss", "standard_error", "accuracy", *(["betas"] if len(shape) == 2 else [])):
        assert np.array_equal(getattr(again, name), getattr(one, name), equal_nan=True)
    assert np.array_equal(again.quantities["penalty"], one.quantities["penalty"])
    assert again.metadata == one.metadata


def test_files_of_the_tool_of_2018(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "surface.h5"
    loss = np.array([[1.0, -1.0], [2.5, 3.0], [0.5, 4.0]])
    with h5py.File(path, "w") as file:
        file["dir_file"] = "directions.h5"
        file["xcoordinates"], file["ycoordinates"] = np.array([-1.0, 0.0, 1.0]), np.array([0.0, 2.0])
        file["train_loss"] = loss
        file["train_acc"] = np.array([[50.0, -1.0], [25.0, 10.0], [100.0, 0.0]])
    one = ll.Surface.from_h5(path)
    assert np.isnan(one.loss[0, 1]) and one.loss[1, 0] == 2.5  # -1 says "not computed yet"
    assert one.accuracy[2, 0] == 1 and np.isnan(one.accuracy[0, 1]) and np.isnan(one.standard_error).all()
    ll.plot_contour(one)
    with h5py.File(one.to_h5(path), "r") as file:
        assert np.array_equal(file["train_loss"], one.loss, equal_nan=True)
        assert file["train_acc"][2, 0] == 100


def test_what_cannot_be_written_or_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with pytest.raises(ll.InputError, match=r"does not end in \.vts"):
        surface().to_vtk(tmp_path / "surface.vtk")
    with pytest.raises(ll.InputError, match="is a line"):
        surface((5,), evaluated=None).to_vtk(tmp_path / "line.vts")
    (tmp_path / "no.h5").write_bytes(b"no HDF5")
    with pytest.raises(ll.InputError, match="cannot be read"):
        ll.Surface.from_h5(tmp_path / "no.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = np.ones(3)
    with pytest.raises(ll.InputError, match="holds no surface"):
        ll.Surface.from_h5(tmp_path / "other.h5")
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("train_loss", (10**7, 10**7), chunks=(1000, 1000), compression="gzip")
    with pytest.raises(ll.InputError, match="do not fit into memory"):
        ll.Surface.from_h5(tmp_path / "large.h5")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    with pytest.raises(ll.InputError, match="needs the package xarray: pip install xarray"):
        surface().to_xarray()
