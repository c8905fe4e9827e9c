"""Wrong types and values of arguments, which the public face refuses in one line that names the argument."""

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from surfaces import line, plane
from test_paths import path
from torch.utils.data import DataLoader, Dataset

import landscape_lib as ll

matplotlib.use("Agg")

LOOKS = {
    "title": [5, ["a"]],
    "star": ["no", 2],
    "log_scale": ["yes", None],
    "vmin": ["a", np.nan, True],
    "vmax": [[1]],
    "cmap": [5, ["viridis"]],
    "levels": [["a"], ["1", "2"], [1, 1], "ab", 1, 2.5, None, [[1, 2]], [1, [2, 3]]],
    "quantity": [["loss"], 5, None, "entropy"],
    "view": [(np.nan, 0), (0, np.inf), 5, (1, 2, 3), "ab", ("a", "b")],
    "ax": [3, "axes", [1]],
    "figure": [3, "figure", [1]],
    "titles": [5, ["a"], [1, 2], "ab"],
    "images": [5, ["a", "b"], "ab", [np.zeros(3), None], [np.zeros((0, 0)), None]],
    "columns": ["a", 0, 1.5],
    "style": [5, ["contour"]],
    "color_scale": [["global"]],
}
PANELS = ("figure", "log_scale", "quantity", "title", "star", "cmap", "levels", "vmin", "vmax")
FIGURES = {
    "plot_contour": (plane, ("ax", "log_scale", "quantity", "title", "star", "cmap", "levels", "vmin", "vmax")),
    "plot_surface": (plane, ("ax", "log_scale", "quantity", "title", "star", "cmap", "vmin", "vmax", "view")),
    "plot_slices": (line, ("ax", "log_scale", "quantity", "title", "star", "vmin", "vmax")),
    "plot_lines": (lambda: [line(), line()], ("ax", "log_scale", "quantity", "title", "star", "vmin", "vmax")),
    "plot_tiles": (lambda: [plane(), plane()], (*PANELS, "titles", "images", "columns", "color_scale")),
    "plot_comparison": (lambda: [plane(), plane()], (*PANELS, "titles", "style")),
}
CASES = [(figure, name, wrong) for figure, (_, names) in FIGURES.items() for name in names for wrong in LOOKS[name]]


def refusal(call, *arguments, **options) -> str:
    """The message of the InputError of ``call``, which is one line."""
    with pytest.raises(ll.InputError) as caught:
        call(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def linear():
    model = torch.nn.Linear(4, 3)
    return model, ll.objective(model, (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])))


IN_WORDS = {"color_scale": "colour scale"}  # of the messages for some arguments


@pytest.mark.parametrize(("figure", "name", "wrong"), CASES)
def test_a_figure_names_the_option_that_it_refuses(figure, name, wrong, clean_figures):
    result = FIGURES[figure][0]()
    message = refusal(getattr(ll, figure), result, **{name: wrong})
    assert name in message or IN_WORDS.get(name, name) in message
    assert not pyplot.get_fignums()


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("wrong", [None, 5, "ab", [5, 6], [None, None]])
def test_a_figure_names_what_it_draws(figure, wrong):
    assert figure in refusal(getattr(ll, figure), wrong)


@pytest.mark.parametrize("projection", ["3d", "polar"])
def test_a_figure_in_two_dimensions_refuses_other_axes(projection):
    for figure, result in (("plot_contour", plane()), ("plot_slices", line()), ("plot_lines", [line(), line()])):
        ax = Figure().add_subplot(projection=projection)
        assert f"ax has the projection '{projection}'" in refusal(getattr(ll, figure), result, ax)
        assert not ax.lines and not ax.collections


def test_numbers_of_numpy_are_numbers(clean_figures):
    drawn = [
        ll.plot_contour(plane(), levels=levels, vmin=low).collections[0].get_array()
        for levels, low in ((20, 0.0), (np.int64(20), np.float32(0)))
    ]
    np.testing.assert_array_equal(*drawn)
    assert ll.permutation_test(plane(), permutations=np.int64(3), seed=np.int32(1)).p_value <= 1


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("path", 5),
        ("path", None),
        ("trajectories", 5),
        ("trajectories", [5]),
        ("trajectories", None),
        ("names", 5),
        ("names", [1, 2]),
        ("names", "ab"),
        ("levels", ["a"]),
        ("log_scale", "yes"),
        ("quantity", ["loss"]),
        ("view", ["contour"]),
        ("seconds", True),
        ("dpi", "a"),
        ("pause", "a"),
    ],
)
def test_a_film_names_the_argument_that_it_refuses(tmp_path, name, wrong):
    options = {"path": tmp_path / "film.gif", name: wrong}
    message = refusal(ll.animate, [plane(), plane()], options.pop("path"), **options)
    assert name in message and not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [None, 5, "ab", [5, 6], [plane(), None], {"a": 5}])
def test_a_film_of_something_else_is_refused(tmp_path, wrong):
    assert "animate" in refusal(ll.animate, wrong, tmp_path / "film.gif")


@pytest.mark.parametrize(("planes", "view"), [(1, "surface"), (2, "contour"), (2, "surface")])
def test_a_film_of_zeros_on_a_log_scale_has_a_linear_one(tmp_path, planes, view):
    zeros = [plane(lambda x, y: 0 * x) for _ in range(planes)]
    options = {"view": view, "seconds": 0.1, "dpi": 40}
    with pytest.warns(UserWarning, match="no value is positive, as a log scale needs; the scale is linear"):
        ll.animate(zeros, tmp_path / "log.gif", log_scale=True, **options)
    ll.animate(zeros, tmp_path / "linear.gif", **options)
    assert (tmp_path / "log.gif").read_bytes() == (tmp_path / "linear.gif").read_bytes()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("path", 5), ("trajectories", [5]), ("names", 5), ("pictures", 5), ("title", 5), ("log_scale", "yes")],
)
def test_a_page_names_the_argument_that_it_refuses(tmp_path, name, wrong):
    options = {"path": tmp_path / "page.html", name: wrong}
    message = refusal(ll.explore, [plane(), plane()], options.pop("path"), **options)
    assert name in message and not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [None, 5, ["a"]])
def test_files_need_a_path(wrong):
    calls = [plane().to_csv, plane().to_vtk, plane().to_h5, plane().save, ll.Surface.load, ll.Surface.from_h5]
    for call in calls:
        assert "path" in refusal(call, wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha_range": 1}, "alpha_range is 1; it must be two numbers"),
        ({"alpha_range": None}, "alpha_range is None"),
        ({"beta_range": "ab"}, "beta_range is 'ab'"),
        ({"beta_range": "12"}, "beta_range is '12'"),
        ({"beta_range": (1, 2, 3)}, r"beta_range is \(1, 2, 3\)"),
        ({"resume": 5}, "resume is 5; it must be the path of a file"),
        ({"budget": "a", "tolerance": 0.1}, "a budget of a seconds"),
        ({"tolerance": ["noise"]}, "tolerance must be"),
        ({"method": ["affine"]}, "unknown method"),
        ({"compile": ["auto"]}, "compile"),
        ({"resolution": "a"}, "resolution"),
    ],
)
def test_evaluate_names_the_argument_that_it_refuses(options, message):
    model, target = linear()
    with pytest.raises(ll.InputError, match=message):
        ll.evaluate(target, ll.random_plane(model), **{"resolution": 3, "progress": False, **options})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ll.follow_basins([plane(), plane()], names=5), "names is 5; it must be a list of texts"),
        (lambda: ll.follow_basins([plane(), plane()], names="ab"), "names is 'ab'"),
        (lambda: ll.selftest(toolkit=5), r"selftest\(toolkit=\) takes a Toolkit, not int"),
        (lambda: ll.permutation_test(plane(), seed=True), "seed is True"),
        (lambda: ll.permutation_test(plane(), permutations=True), "permutations is True"),
        (lambda: ll.plot_path(plane(), [5]), "takes trajectories"),
        (lambda: ll.plot_path(5, path()), r"plot_path\(surface, trajectories\) takes a Surface"),
        (lambda: ll.plot_path_losses([5]), "takes trajectories"),
        (lambda: ll.plot_path_losses(path(), figure=3), "figure"),
        (lambda: ll.plot_barriers({"a": 5}), "takes barriers"),
        (lambda: ll.plot_sharpness([5]), "takes results of ll.sharpness"),
        (lambda: ll.load_dataset(5), r"load_dataset\(name\) takes the name of a data set"),
        (lambda: ll.load_dataset("digits", data_dir=5), "data_dir is 5; give the path of a folder"),
        (lambda: ll.load_dataset("digits", limit="ab"), "limit is ab"),
        (lambda: ll.select_device(["cpu"]), "unknown device"),
        (lambda: ll.random_plane(torch.nn.Linear(2, 2), ignore=5), "ignore takes a sequence of names"),
        (lambda: plane().sample(0), "holds no single samples"),
    ],
)
def test_other_functions_name_the_argument_that_they_refuse(call, message):
    with pytest.raises(ll.InputError, match=message):
        call()


class Missing(Dataset):
    """Samples whose files are gone."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        raise FileNotFoundError(2, "No such file or directory", f"image{i}.png")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_a_dataset_lacks_is_named_with_the_place(workers):
    loader = DataLoader(Missing(), num_workers=workers)
    message = refusal(ll.objective, torch.nn.Linear(2, 2), loader if workers else Missing())
    assert "the data fail with FileNotFoundError" in message and "image0.png" in message
