"""The page of the explorer holds the numbers as they are and nothing that could run; refusals."""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread
from surfaces import METADATA, line, plane, with_gap

from landscape.errors import InputError
from landscape.explorer import explore
from landscape.explorer.pages import page_script
from landscape.results import Trajectory

FAITHFULNESS = {
    "axis_curvatures": [0.5, 0.25], "plane_eigenvalues": [0.25, 0.5], "plane_errors": [None, None],
    "average_eigenvalue": 0.4, "average_error": 0.01, "largest": 3.0, "largest_residual": 1e-4, "smallest": -0.5,
    "smallest_residual": 1e-4, "smallest_error": 0.02, "hessian_share": 0.025, "hessian_share_error": 0.001,
    "largest_error": 0.1, "gradient_share": 0.01, "step_share": None, "gradient_norm": 0.1,
    "gain": 0.001, "loss": 0.3, "loss_error": 0.01, "dimension": 100,
    "verdict": "hidden saddle", "metadata": {},
}  # fmt: skip
HOSTILE = '</script><script>alert(1)</script><b title="x">&amp;'


def path_of(name="seed 1", metadata=None):
    """Five epochs that end at the origin; the third lies where no loss was computed."""
    t = np.linspace(0, 1, 5)
    coordinates = np.stack([-0.8 * (1 - t), 1.5 * (1 - t) ** 2], 1)
    loss, shadow = 2 - t, 1.5 - t
    loss[2], shadow[3] = np.nan, np.nan
    return Trajectory(np.arange(5), coordinates, 1 - t, 0.5 - t / 2, loss, shadow, {"name": name, **(metadata or {})})


def content(page):
    return json.loads(re.search(r'id="content">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)[1])


def array(entry):
    return np.frombuffer(base64.b64decode(entry["base64"]), "<f8").reshape(entry["shape"])


def test_import_loads_neither_torch_nor_pyplot_nor_plotly():
    code = "import sys, landscape.explorer; print({'torch', 'matplotlib.pyplot', 'plotly'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_value_is_embedded_as_it_is(tmp_path):
    surface = with_gap()
    surface.loss[0, 1], surface.loss[1, 0] = -np.inf, 1e300
    surface = replace(surface, evaluated=surface.loss > 1)
    page = explore(surface, tmp_path / "page.html")
    (found,) = content(page)["surfaces"]
    for key in ("loss", "standard_error", "accuracy"):
        np.testing.assert_array_equal(array(found["values"][key]), getattr(surface, key))
    np.testing.assert_array_equal(array(found["evaluated"]), surface.evaluated)
    assert (found["alphas"], found["betas"]) == (surface.alphas.tolist(), surface.betas.tolist())
    assert found["gaps"] == "NaN or infinite (2 of 42 points)"
    assert found["facts"]["non-finite points"] == "2 of 42"
    assert found["axes"] == ["α (filter-norm units)\n|d|/|θ| = 0.98", "β (filter-norm units)\n|d|/|θ| = 0.75"]


def test_what_was_not_computed_is_not_embedded(tmp_path):
    surface = replace(plane(), accuracy=None, standard_error=np.full((7, 6), np.nan))
    assert list(content(explore(surface, tmp_path / "page.html"))["surfaces"][0]["values"]) == ["loss"]


def test_a_path_keeps_its_losses_and_says_where_they_belong(tmp_path):
    metadata = {"unit": "epoch", "data": {"fingerprint": "a"}}
    train, test = (
        plane(metadata={**METADATA, "data": {**METADATA["data"], "split": split, "fingerprint": fingerprint}})
        for split, fingerprint in (("train", "a"), ("test", "b"))
    )
    path = path_of(metadata=metadata)
    (found,) = content(explore([train, test], tmp_path / "page.html", trajectories=path))["trajectories"]
    for key, expected in (("loss", path.loss), ("shadow", path.shadow_loss), ("distance", path.distance)):
        np.testing.assert_array_equal(np.array(found[key], dtype=float), expected)
    assert found["loss"][2] is None and found["shadow"][3] is None
    np.testing.assert_array_equal([found["alphas"], found["betas"]], path.coordinates.T)
    assert found["comparable"] == [True, False]
    assert found["fact"] == "5 points, epoch 0 to 4; at most 0.5 of its distance from the origin off the plane"


def test_fifty_one_squared_points_of_ten_epochs_stay_small(tmp_path):
    from plotly.offline import get_plotlyjs

    rng = np.random.default_rng(0)
    noise = [plane(lambda x, y: rng.random(x.shape), (-1, 1, 51), (-1, 1, 51)) for _ in range(10)]
    page = explore(noise, tmp_path / "page.html", pictures=[rng.random((28, 28)) for _ in noise])
    assert page.stat().st_size - len(get_plotlyjs().encode()) < 1e6


def test_the_most_persistent_basins_are_embedded_with_their_number(tmp_path):
    x, y = np.linspace(0, 20, 61), np.linspace(0, 16, 49)
    many = replace(plane(), alphas=x, betas=y, loss=10 + np.add.outer(np.cos(np.pi * x), np.cos(np.pi * y)))
    many = replace(many, accuracy=None, standard_error=np.full(many.loss.shape, 1e-3))
    many.loss[np.ix_([3 + 6 * k for k in range(10)], [3 + 6 * k for k in range(8)])] += (
        np.arange(80).reshape(10, 8) / 100
    )
    found = content(explore(many, tmp_path / "page.html"))["surfaces"][0]
    minima = [tuple(basin["minimum"]) for basin in found["basins"]["marked"]]
    # One well in every cell of the grid of crests; the lowest 40 of 80 are the most persistent ones.
    assert set(minima) == {(3 + 6 * k, 3 + 6 * m) for k in range(5) for m in range(8)}
    assert found["basins"]["facts"] == {"basins": "80, of which the 40 most persistent are marked"}
    assert minima[0] == (3, 3) and found["basins"]["marked"][0]["saddle"] is None
    assert all(basin["error"] == pytest.approx(1e-3 * 2**0.5) for basin in found["basins"]["marked"][1:])


def test_lowest_points_at_the_edge_of_the_plane_are_told_from_minima(tmp_path):
    x, y = np.linspace(-1, 1, 41), np.linspace(-0.5, 1, 16)
    loss = 3 + np.add.outer(-np.cos(2 * np.pi * (x - 0.25)), y**2)  # wells at -0.75 and 0.25; from 0.75 on it falls
    surfaces = [replace(plane(), alphas=x, betas=y, loss=loss, standard_error=0 * loss, accuracy=None)]
    surfaces.append(replace(surfaces[0], betas=y + 2, loss=loss + np.add.outer(0 * x, 4 + 4 * y)))  # rising along beta
    for surface, expected in zip(surfaces, ({(5, 5), (25, 5)}, set()), strict=True):
        basins = content(explore(surface, tmp_path / "page.html"))["surfaces"][0]["basins"]
        inside = {tuple(basin["minimum"]) for basin in basins["marked"] if not basin["edge"]}
        assert inside == expected and len(basins["marked"]) == 3
        assert basins["facts"]["basins"] == f"3; {3 - len(inside)} with the lowest point at the edge of the plane"


def test_paths_have_the_colours_of_the_other_figures():
    from landscape.plotting.paths import COLORS

    colors = re.search(r"const PATH_COLORS = \[(.*?)\]", page_script())[1]
    assert re.findall("#[0-9a-f]{6}", colors) == [color.lower() for color in COLORS]


@pytest.mark.filterwarnings("error")
def test_interpolated_surfaces_say_what_their_basins_miss_and_empty_ones_have_none(tmp_path):
    part = plane(metadata={**METADATA, "interpolation": {"method": "cubic", "evaluated_points": 9}})
    empty = replace(plane(), loss=np.full((7, 6), np.nan))
    basins = [surface["basins"] for surface in content(explore([part, empty], tmp_path / "page.html"))["surfaces"]]
    assert basins[0]["facts"]["basins"] == "1; smaller ones cannot be found between the evaluated points"
    assert basins[1] == {"marked": [], "facts": {}}


@pytest.mark.parametrize("record", [None, 3, {}, {**FAITHFULNESS, "verdict": "fine"}, {**FAITHFULNESS, "metadata": 3}])
def test_what_the_plane_leaves_out_is_embedded_only_where_it_is_known(tmp_path, record):
    surfaces = [plane(metadata={**METADATA, "faithfulness": entry}) for entry in (FAITHFULNESS, record)]
    known, unknown = content(explore(surfaces, tmp_path / "page.html"))["surfaces"]
    assert known["faithfulness"]["the origin is"] == "A SADDLE THAT THIS PLANE HIDES"
    assert (
        known["faithfulness"]["smallest eigenvalue"].startswith("-0.5 ± 0.02")
        and "share of the last step" not in known["faithfulness"]
    )
    assert unknown["faithfulness"] is None


def test_the_scale_is_chosen_by_the_call_or_left_to_the_page(tmp_path):
    for log_scale in (None, True, False):
        page = content(explore(plane(), tmp_path / "page.html", log_scale=log_scale))
        assert page["log"] is log_scale and page["large_range"] == 100


@pytest.mark.parametrize("html", [True, False])
def test_a_log_scale_without_figures_has_an_effect_only_on_a_page(capsys, html):
    import landscape_lib as ll  # here, because the other tests of this file do without torch

    ll.cli.Drawing(log_scale=True, figures=False, html=html).check()
    assert ("log-scale" in capsys.readouterr().out) is not html


def test_names_tell_surfaces_apart_and_the_title_says_what_they_share(tmp_path):
    def of(epoch, split="train"):
        data = {**METADATA["data"], "split": split}
        return plane(metadata={**METADATA, "data": data, "checkpoint": {"model": "resnet14", "epoch": epoch}})

    def found(surfaces, **options):
        page = explore(surfaces, tmp_path / "page.html", **options)
        title = re.search("<title>(.*?)</title>", page.read_text("utf-8"))[1]
        return title, [surface["name"] for surface in content(page)["surfaces"]]

    assert found([of(0), of(3)]) == ("Loss landscape of resnet14", ["epoch 0", "epoch 3"])
    assert found([of(3), of(3, "test")]) == ("Loss landscape of resnet14, epoch 3", ["mnist train", "mnist test"])
    assert found([of(1), of(1)])[1] == ["surface 1", "surface 2"]
    assert found(of(1))[1] == ["mnist train"]
    assert found({"a": of(1), "b": of(2)}, title="Mine")[0] == "Mine" and found({"a": of(1)})[1] == ["a"]
    assert found([of(1), of(2)], names=("x", "y"))[1] == ["x", "y"]
    assert found(plane(metadata={}))[0] == "Loss landscape"


def test_losses_of_different_kinds_are_told(tmp_path):
    other = plane(metadata={**METADATA, "objective": {"loss": "mse"}})
    assert content(explore([plane(), other], tmp_path / "page.html"))["differences"] == {
        "loss": ["cross_entropy", "mse"]
    }


def test_no_text_can_leave_its_place(tmp_path):
    surface = plane(metadata={**METADATA, "data": {"name": HOSTILE}, "checkpoint": {"model": HOSTILE, "epoch": 1}})
    harmless = explore(plane(), tmp_path / "harmless.html").read_text("utf-8")
    page = explore({HOSTILE: surface}, tmp_path / "page.html", trajectories=[path_of(HOSTILE)], title=HOSTILE)
    text = page.read_text("utf-8")
    assert "alert(1)</script>" not in text and "<b title=" not in text
    assert text.count("</script>") == harmless.count("</script>")
    assert content(page)["surfaces"][0]["name"] == content(page)["trajectories"][0]["name"] == HOSTILE


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_pictures_keep_their_pixels(tmp_path, kind, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    picture = pixels if kind == np.uint8 else pixels.astype(kind) / 255
    found = content(explore([plane(), plane()], tmp_path / "page.html", pictures=[picture, None]))["surfaces"]
    assert found[1]["picture"] is None
    drawn = imread(BytesIO(base64.b64decode(found[0]["picture"].partition(",")[2])), format="png")
    expected = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels
    np.testing.assert_allclose(drawn[..., :3] * 255, expected, atol=0.51)


@pytest.mark.parametrize(
    ("results", "options", "message"),
    [
        ([], {}, "explore got no surfaces"),
        ([plane(), line()], {}, "this surface is a line"),
        ([plane()] * 2, {"pictures": [None]}, "2 surfaces but 1 pictures"),
        ([plane()] * 2, {"names": ["a", "b", "c"]}, "2 surfaces but 3 names"),
        (plane(), {"pictures": [np.zeros((3, 4, 4))]}, r"\[H, W\] or \[H, W, 3\], not \[3, 4, 4\]"),
        (
            plane(metadata={**METADATA, "slice": {"fingerprint": "a"}}),
            {"trajectories": path_of(metadata={"slice": {"fingerprint": "b"}})},
            "seed 1 was projected onto another plane",
        ),
    ],
)
def test_wrong_input_is_refused_and_nothing_written(tmp_path, results, options, message):
    with pytest.raises(InputError, match=message):
        explore(results, tmp_path / "page.html", **options)
    assert not list(tmp_path.iterdir())


def test_the_page_of_a_path_needs_a_path_and_writes_the_same_numbers(tmp_path):
    for surfaces, paths in ((plane(), []), ([plane(), plane()], path_of())):
        with pytest.raises(InputError, match="trajectories of one plane"):
            explore(surfaces, tmp_path / "page.html", trajectories=paths, view="path")
    with pytest.raises(InputError, match="unknown view 'paths'"):
        explore(plane(), tmp_path / "page.html", trajectories=path_of(), view="paths")
    found = content(explore(plane(), tmp_path / "page.html", trajectories=path_of(), view="path"))
    assert found["view"] == "path" and found["trajectories"][0]["loss"][0] == 2


def test_the_same_page_is_written_twice(tmp_path):
    pages = [explore(plane(), tmp_path / name, pictures=[np.eye(3)]).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]
