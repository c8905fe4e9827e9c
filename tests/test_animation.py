"""Films: their frames, lengths and colours, read back from the files, and the planes of a flight."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import torch
from networks import images, make
from PIL import Image
from surfaces import plane
from test_paths import path, surface

import landscape_lib as ll
from landscape.plotting import animation
from landscape.slices.flights import axes_between


def frames_of(file):
    """The frames [T, H, W, 3] of a GIF, and for how many milliseconds each is shown."""
    with Image.open(file) as image:
        frames, durations = [], []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
            durations.append(image.info["duration"])
    return np.stack(frames), durations


@pytest.fixture
def drawn(monkeypatch):
    """The axes as they are at every frame: (limits of x, y, z or colours, camera), beside what is written."""
    seen = []
    original = animation.pixels_of

    def noted(figure):
        ax = figure.axes[0]
        seen.append({"title": ax.get_title(), "text": [text.get_text() for text in ax.texts], "ax": ax})
        if ax.name == "3d":
            seen[-1] |= {"azim": ax.azim, "zlim": ax.get_zlim(), "colors": ax.collections[0].get_clim()}
            seen[-1]["lines"] = [np.array(line.get_data_3d()) for line in ax.lines]
        else:
            filled = [artist for artist in ax.collections if artist.get_array() is not None]
            seen[-1]["colors"] = filled[0].get_clim()
            seen[-1]["lines"] = [line.get_xydata() for line in ax.lines]
        return original(figure)

    monkeypatch.setattr(animation, "pixels_of", noted)
    return seen


def test_a_single_surface_turns_once(tmp_path, drawn, clean_figures):
    frames, durations = frames_of(ll.animate(plane(), tmp_path / "turn.gif", seconds=0.8, dpi=50))
    assert frames.shape == (12, 240, 290, 3) and sum(durations) == 800
    azimuths = np.array([frame["azim"] for frame in drawn[1:]])  # after the first frame is laid out
    np.testing.assert_allclose(np.diff(azimuths), 30)  # the step after the last frame leads back to the first
    assert all(abs(a - b).max() > 100 for a, b in pairwise(frames))
    assert "filter-norm units" in drawn[0]["title"] and drawn[0]["ax"].get_zlabel() == "loss"


def test_nothing_is_cut_off_from_any_side(tmp_path, drawn, clean_figures):
    frames, _ = frames_of(ll.animate(plane(), tmp_path / "turn.gif", seconds=0.8, dpi=50))
    assert_white_edges(frames)


def assert_white_edges(frames):
    """Nothing is cut off: the pixels at the edges have the colour of the figure."""
    assert all((edge == 255).all() for edge in (frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]))


def test_films_follow_the_size_and_the_colours_of_matplotlib(tmp_path, clean_figures):
    grey = {}
    for name in ("gray", "viridis"):
        with matplotlib.rc_context({"image.cmap": name, "figure.figsize": (4, 3)}):
            frames, _ = frames_of(ll.animate([plane()] * 2, tmp_path / "two.gif", seconds=0.2, pause=0, dpi=50))
        assert frames.shape == (2, 150, 200, 3)
        grey[name] = (np.ptp(frames, axis=3) < 16).mean()
    assert grey["gray"] > 0.95 and grey["viridis"] < 0.9


@pytest.mark.parametrize("view", ["contour", "surface"])
@pytest.mark.parametrize("log_scale", [False, True])
def test_planes_have_one_scale_in_all_frames(tmp_path, drawn, clean_figures, view, log_scale):
    one = plane()
    several = {f"epoch {k}": replace(one, loss=one.loss * factor) for k, factor in enumerate((4, 2, 1))}
    file = ll.animate(several, tmp_path / "epochs.gif", view=view, log_scale=log_scale, seconds=1.5, dpi=50)
    frames, durations = frames_of(file)
    assert_white_edges(frames)
    assert len(frames) == len(drawn) == 3 and durations[0] == 500 and durations[-1] == 1500  # with the pause
    low, high = one.loss.min(), 4 * one.loss.max()
    if log_scale and view == "surface":
        low, high = np.log10([low, high])
    for name, frame in zip(several, drawn, strict=True):
        np.testing.assert_allclose(frame["colors"], (low, high), rtol=1e-12)
        assert frame["title"].splitlines()[-1].startswith("α, β") == (view == "surface")
        assert name in frame["title"].splitlines()
        if view == "surface":
            np.testing.assert_allclose(frame["zlim"], (low, high), rtol=1e-12)


@pytest.mark.parametrize("view", ["contour", "surface"])
def test_paths_grow_to_their_ends(tmp_path, drawn, clean_figures, view):
    one, two = path(), path("b", 3)
    file = ll.animate(surface(), tmp_path / "path.gif", trajectories=[one, two], view=view, seconds=1, dpi=50, pause=0)
    frames, _ = frames_of(file)
    assert_white_edges(frames)
    assert len(frames) == 6 == len(drawn) - 1  # the first one is also laid out
    del drawn[0]
    alphas, betas = surface().axes
    for number, frame in enumerate(drawn):
        assert frame["text"][-1] == f"epoch {number}"
    for line, points in zip(drawn[-1]["lines"][-4:-2], (one, two), strict=True):
        places = line.T[:, :2] if view == "surface" else line
        np.testing.assert_array_equal(places, points.coordinates)
        if view == "surface":  # on the triangles of the grid, whose heights the cells bound
            for x, y, z in line.T:
                i, j = np.searchsorted(alphas, x).clip(1, 8), np.searchsorted(betas, y).clip(1, 6)
                cell = surface().loss[i - 1 : i + 1, j - 1 : j + 1]
                assert cell.min() - 1e-12 <= z <= cell.max() + 1e-12
    assert abs(frames[-1] - frames[0]).max() > 100


def test_the_height_of_a_path_is_exact_on_a_plane_that_is_linear():
    alphas, betas = np.linspace(-2, 1, 9), np.linspace(-1, 1, 7)
    flat = surface(loss=2 * alphas[:, None] - betas + 5)
    stage = animation._Stage(None, "surface", None, False, "loss")
    heights = animation._heights(stage, flat, path().coordinates)
    np.testing.assert_allclose(heights, 2 * path().coordinates[:, 0] - path().coordinates[:, 1] + 5, rtol=1e-12)


@pytest.fixture
def ffmpeg(monkeypatch):
    """The program ffmpeg, which the package imageio-ffmpeg brings."""
    package = pytest.importorskip("imageio_ffmpeg", reason="needs the package imageio-ffmpeg")
    monkeypatch.setitem(matplotlib.rcParams, "animation.ffmpeg_path", "/nowhere/ffmpeg")
    return package


def test_an_mp4_lasts_as_long_as_requested(tmp_path, ffmpeg, clean_figures):
    several = [plane(), replace(plane(), loss=2 * plane().loss)]
    file = ll.animate(several, tmp_path / "planes.mp4", names=["a", "b"], seconds=1, pause=0.5, dpi=50)
    command = [ffmpeg.get_ffmpeg_exe(), "-i", str(file), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True)
    assert b"Duration: 00:00:01.50" in decoded.stderr
    frames = np.frombuffer(decoded.stdout, np.uint8).astype(int).reshape(15, 240, 290, 3)
    assert abs(frames[0] - frames[4]).mean() < 1 and abs(frames[5] - frames[-1]).mean() < 1
    assert abs(frames[4] - frames[5]).mean() > 5  # the second plane has other colours
    assert ll.cli.animation_formats() == (".gif", ".mp4")


def test_an_ffmpeg_that_fails_is_quoted(tmp_path, ffmpeg, monkeypatch, clean_figures):
    monkeypatch.setitem(matplotlib.rcParams, "animation.codec", "no_codec")
    with pytest.raises(ll.InputError, match=r"ffmpeg cannot write .*Unknown encoder 'no_codec'"):
        ll.animate(plane(), tmp_path / "turn.mp4", seconds=0.2, dpi=50)
    assert not list(tmp_path.iterdir())


def test_without_ffmpeg_there_is_no_mp4(tmp_path, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "animation.ffmpeg_path", "/nowhere/ffmpeg")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert ll.cli.animation_formats() == (".gif",)
    with pytest.raises(ll.InputError, match="MP4 needs ffmpeg, which is not on the PATH; install it, or the"):
        ll.animate(plane(), tmp_path / "turn.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("results", "options", "message"),
    [
        (plane, {"path": "a.avi"}, r"cannot write a\.avi: a film ends in \.gif or \.mp4"),
        (plane, {"view": "contour"}, "contours of one plane do not move"),
        (plane, {"view": "top"}, "unknown view 'top'; use one of contour, surface"),
        (plane, {"seconds": 0}, "seconds is 0; it must be a finite number above 0"),
        (plane, {"pause": -1}, "pause is -1; it must be a finite number of at least 0"),
        (plane, {"dpi": 2.5}, "dpi is 2.5; it must be a whole number"),
        (plane, {"quantity": "penalty"}, "unknown quantity 'penalty'"),
        (plane, {"levels": 1}, "at least 2 levels"),
        (lambda: [plane(), plane()], {"names": ["one"]}, "animate got 2 surfaces but 1 names?"),
        (lambda: [surface(), surface()], {"trajectories": path()}, "paths grow on one plane, not on 2"),
        (plane, {"trajectories": path()}, "was projected onto another plane"),
        (list, {}, "animate got no surfaces"),
        (lambda: 3, {}, r"animate\(results, path\) takes a Surface, or several of them, not int"),
    ],
)
def test_what_cannot_be_a_film_is_refused(here, results, options, message):
    options = {"path": "film.gif", **options}
    with pytest.raises(ll.InputError, match=message):
        ll.animate(results(), options.pop("path"), **options)
    assert not list(here.iterdir())


def test_former_names_still_write_films(tmp_path, clean_figures):
    with pytest.warns(FutureWarning, match=r"ll\.animate_path is now ll\.animate\("):
        animate_path = ll.animate_path
    frames, _ = frames_of(animate_path(surface(), path(), tmp_path / "path.gif", fps=10))
    assert len(frames) == 6
    with pytest.warns(FutureWarning, match=r"ll\.animate_surfaces is now ll\.animate\("):
        animate_surfaces = ll.animate_surfaces
    planes = [plane(), replace(plane(), loss=2 * plane().loss)]
    frames, durations = frames_of(animate_surfaces(planes, tmp_path / "s.gif", titles=["epoch 0", "epoch 1"]))
    assert len(frames) == 2 and durations == [500, 500]


def test_axes_of_a_flight_are_orthonormal_and_end_where_they_should():
    generator = np.random.default_rng(0)
    for size in (4, 40):
        vectors = generator.standard_normal((4, size))
        gram = vectors @ vectors.T
        turned = []
        for fraction in np.linspace(0, 1, 7):
            axes = axes_between(gram, fraction).T @ vectors  # [2, size]
            np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
            turned.append(axes)
        for axes, pair in ((turned[0], vectors[:2]), (turned[-1], vectors[2:])):
            expected = np.linalg.qr(pair.T)[0].T
            expected *= np.sign((expected * pair).sum(1, keepdims=True))
            np.testing.assert_allclose(axes[0], expected[0], atol=1e-12)
            np.testing.assert_allclose(abs(axes[1] @ expected[1]), 1, atol=1e-12)
        steps = [np.linalg.svd(a @ b.T)[1] for a, b in pairwise(turned)]
        np.testing.assert_allclose(steps, np.broadcast_to(steps[0], (6, 2)), atol=1e-9)  # equal angles


def test_a_flight_within_one_plane_only_turns_its_axes():
    x, y = np.eye(2)
    vectors = np.stack([x, y, y, x])
    for fraction in (0, 0.25, 0.5, 1):
        axes = axes_between(vectors @ vectors.T, fraction).T @ vectors
        np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
        np.testing.assert_allclose(axes[0], [np.cos(fraction * np.pi / 2), np.sin(fraction * np.pi / 2)], atol=1e-7)


def test_every_surface_of_a_flight_is_the_loss_at_its_points():
    model = make("mlp", 0).double()
    data = images(12)
    objective = ll.objective(model, data, dtype=torch.float64, device="cpu")
    product = ll.hessian_product(objective, model)
    start, end = ll.random_plane(model, seed=3), ll.eigenvector_plane(product, ll.top_eigenpairs(product, k=2))
    flown = start.flight(end, steps=4)
    assert len(flown) == 4 and len(flown[1:]) == 3
    assert [each.recipe["fraction"] for each in flown] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    length = ll.norm(start.directions[0])
    for each in flown:
        assert [ll.norm(direction) for direction in each.directions] == pytest.approx([length, length], rel=1e-6)
        assert abs(ll.cosine(*each.directions)) < 1e-6
    np.testing.assert_allclose(abs(ll.cosine(flown[-1].directions[0], end.directions[0])), 1, atol=1e-6)
    np.testing.assert_allclose(ll.cosine(flown[0].directions[0], start.directions[0]), 1, atol=1e-6)
    middle = ll.evaluate(objective, flown[1], alpha_range=(-0.5, 1), resolution=(3, 4), progress=False)
    moved = ll.model_at(model, flown[1](float(middle.alphas[2]), float(middle.betas[1])))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(moved(data[0].double()), data[1])
    assert middle.loss[2, 1] == pytest.approx(float(expected), rel=1e-12)
    assert middle.metadata["slice"]["kind"] == "plane of a flight"


def test_a_flight_that_cannot_be_made_is_refused():
    origin = {"w": torch.zeros(3)}
    x, y, z = ({"w": row} for row in torch.eye(3))
    start = ll.Plane(origin, (x, y))
    for other, message in (
        (ll.Plane({"w": torch.ones(3)}, (x, z)), "go through different points"),
        (ll.Plane({"v": torch.zeros(3)}, ({"v": x["w"]}, {"v": y["w"]})), "go through different points"),
        (ll.Plane(origin, (z, z)), "parallel or zero"),
        (3, r"plane\.flight\(other\) takes a plane"),
    ):
        with pytest.raises(ll.InputError, match=message):
            start.flight(other)
    with pytest.raises(ll.InputError, match="steps is 1; it must be a whole number from 2"):
        start.flight(ll.Plane(origin, (x, z)), steps=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 1e12}, "seconds is 1000000000000.0; it must be a finite number above 0 and at most 300"),
        ({"pause": 1e12}, "pause is 1000000000000.0; it must be a finite number of at least 0 and at most 300"),
        ({}, "it is a folder"),
    ],
)
def test_a_film_that_cannot_be_written_is_refused_before_it_is_drawn(tmp_path, monkeypatch, options, message):
    monkeypatch.setattr("landscape.plotting.animation.pixels_of", lambda figure: pytest.fail("a frame was drawn"))
    path = tmp_path / "film.gif"
    if not options:
        path.mkdir()
    axis = np.linspace(-1, 1, 3)
    bowl = ll.Surface(axis, axis, np.add.outer(axis**2, axis**2), np.zeros((3, 3)), None, None, {})
    with pytest.raises(ll.InputError, match=message):
        ll.animate(bowl, path, **options)
