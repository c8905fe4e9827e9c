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
@pytest.mark.parametrize("name", ["penalty", "train_loss", "a/b", "xcoordinates"])
def test_hdf5_there_and_back_is_bit_equal(tmp_path, shape, name):
    pytest.importorskip("h5py")
    one = surface(shape, quantities={name: np.random.default_rng(1).random(shape)})
    again = ll.Surface.from_h5(one.to_h5(tmp_path / "surface.h5"))
    assert (again.betas is None) == (one.betas is None) == (len(shape) == 1)
    for field in ("alphas", "loss", "standard_error", "accuracy", *(["betas"] if len(shape) == 2 else [])):
        assert np.array_equal(getattr(again, field), getattr(one, field), equal_nan=True)
    assert np.array_equal(again.evaluated, one.evaluated) and again.evaluated.dtype == bool
    assert list(again.quantities) == [name] and np.array_equal(again.quantities[name], one.quantities[name])
    assert again.metadata == one.metadata


def points_of_the_tool(x, y):
    """The points [A * B, 2] in the order in which the tool of 2018 fills an array of shape [A, B], flattened."""
    return np.stack([part.ravel() for part in np.meshgrid(x, y)], 1)  # as its scheduler does


@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (2, 5)])
def test_files_of_the_tool_of_2018_hold_x_in_the_fastest_order(tmp_path, shape):
    """Every value belongs to the point for which the tool computed it, on grids that are not square too."""
    h5py = pytest.importorskip("h5py")
    x, y = np.linspace(-1, 1, shape[0]), np.linspace(0, 3, shape[1])
    loss = np.array([3 + a + 10 * b for a, b in points_of_the_tool(x, y)]).reshape(shape)
    loss.flat[1] = -1  # "not computed yet", at (x[1], y[0])
    accuracy = np.linspace(0, 100, loss.size).reshape(shape)
    path = tmp_path / "surface.h5"
    with h5py.File(path, "w") as file:
        file["dir_file"] = "directions.h5"
        file["xcoordinates"], file["ycoordinates"] = x, y
        file["train_loss"], file["train_acc"], file["max_eig"] = loss, accuracy, 2 * loss
    one = ll.Surface.from_h5(path)
    expected = 3 + x[:, None] + 10 * y
    expected[1, 0] = np.nan
    np.testing.assert_array_equal(one.loss, expected)
    assert one.quantities["max_eig"][0, 1] == 2 * expected[0, 1]
    assert one.accuracy[-1, -1] == 1 and one.accuracy[0, 0] == 0 and np.isnan(one.standard_error).all()
    ll.plot_contour(one)
    with h5py.File(one.to_h5(path), "r") as file:
        computed = loss != -1
        np.testing.assert_array_equal(file["train_loss"][:][computed], loss[computed])
        assert np.isnan(file["train_loss"][:].flat[1])
        np.testing.assert_allclose(file["train_acc"][:], accuracy, rtol=1e-15)


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


def test_a_quantity_with_the_name_of_a_column_is_refused(tmp_path):
    one = surface(quantities={"alpha": np.zeros((4, 3))})
    for write in (lambda: one.to_csv(tmp_path / "a.csv"), lambda: one.to_vtk(tmp_path / "a.vts"), one.to_xarray):
        with pytest.raises(ll.InputError, match="the quantity 'alpha' has the name of another column"):
            write()
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xarray", None)
    with pytest.raises(ll.InputError, match="needs the package xarray: pip install xarray"):
        surface().to_xarray()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"xcoordinates": [1.0, 0.0]}, "alphas does not increase"),
        ({"ycoordinates": [0.0, np.nan]}, "betas is not finite"),
        ({"xcoordinates": 1.0}, "they must be vectors"),
        ({"train_acc": np.full((2, 2), 101.0)}, "accuracy lies outside 0 to 1"),
        ({"standard_error": np.full((2, 2), -0.5)}, "standard_error lies outside 0"),
        ({"xcoordinates": [], "train_loss": np.ones((0, 2))}, "it has no grid points"),
        ({"metadata": "[1]"}, "metadata is a list, no dict"),
        ({"metadata": '{"data": 5}'}, "metadata.data is a int, no dict"),
    ],
)
def test_an_hdf5_file_is_checked_like_one_of_ours(tmp_path, changes, reason):
    h5py = pytest.importorskip("h5py")
    path, axis = tmp_path / "surface.h5", [0.0, 1.0]
    with h5py.File(path, "w") as file:
        content = {"xcoordinates": axis, "ycoordinates": axis, "train_loss": np.ones((2, 2))} | changes
        if "metadata" in content:
            file.attrs["metadata"] = content.pop("metadata")
        for name, values in content.items():
            file[name] = values
    with pytest.raises(ll.InputError, match=reason) as raised:
        ll.Surface.from_h5(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_points_that_the_tool_of_2018_has_not_computed_are_nan_in_every_array(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "surface.h5", "w") as file:
        file["xcoordinates"] = [0.0, 1.0]
        for name in ("train_loss", "train_acc", "test_loss", "test_acc"):
            file[name] = [50.0, -1.0]
    one = ll.Surface.from_h5(tmp_path / "surface.h5")
    for values in (one.loss, 100 * one.accuracy, one.quantities["test_loss"], one.quantities["test_acc"]):
        np.testing.assert_array_equal(values, [50.0, np.nan])
