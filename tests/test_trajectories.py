"""Trajectories: recorded points, the PCA plane from a file of them, projections onto any plane."""

import json
import os
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from networks import plain_losses
from torch import nn

import landscape_lib as ll


def points(count, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [
        {"w": torch.randn(4, 3, generator=generator).to(dtype), "b": torch.randn(5, generator=generator).to(dtype)}
        for _ in range(count)
    ]


def flat(point):
    return torch.cat([value.flatten() for value in point.values()]).double().numpy()


def recorded(path, given, losses=None, **options):
    recorder = ll.TrajectoryRecorder(path, dtype=torch.float64, **options)
    for k, point in enumerate(given):
        recorder.record(point, loss=None if losses is None else losses[k])
    return ll.RecordedPoints(path)


class Net(nn.Module):
    """BatchNorm and a tied weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.b.weight = self.a.weight
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.b(self.norm(torch.tanh(self.a(x))))))


def data(n=11, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator), torch.randint(0, 3, (n,), generator=generator)


# ---------------------------------------------------------------- recording


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-15), (torch.float32, 1e-7), (torch.float16, 1e-3)])
def test_recorded_points_come_back_to_the_precision_of_their_type(tmp_path, dtype, digits):
    given = points(4)
    recorder = ll.TrajectoryRecorder(tmp_path / "run.points", dtype=dtype, notes={"lr": 0.1})
    for k, point in enumerate(given):
        recorder.record(point, loss=torch.tensor(k / 3))
        found = ll.RecordedPoints(tmp_path / "run.points")  # readable while it grows
        assert len(found) == k + 1 and found.steps.tolist() == list(range(k + 1))
        for name, value in given[k].items():
            torch.testing.assert_close(found[k][name].double(), value, rtol=digits, atol=digits)
    assert found.losses == pytest.approx([0, 1 / 3, 2 / 3, 1]) and found.notes == {"lr": 0.1}
    assert found.unit == "step" and list(found[-1]) == list(given[-1])


def test_a_module_is_recorded_with_tied_weights_once_and_stays_as_it_is(tmp_path):
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ll.TrajectoryRecorder(tmp_path / "run.points").record(model)
    (found,) = ll.RecordedPoints(tmp_path / "run.points")
    assert list(found) == [name for name, _ in model.named_parameters()] and "b.weight" not in found
    model.load_state_dict({**before, **found}, strict=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fit_records_every_epoch_from_the_initial_weights_on(tmp_path, small_data):
    train = ll.load_dataset("digits", limit=100, data_dir=small_data)
    test = ll.load_dataset("digits", split="test", data_dir=small_data)
    model = ll.build_model("simplenet", input_shape=(1, 8, 8), classes=10, hidden=3)
    seen = []

    def after(epoch, model, metrics):
        seen.append((ll.parameters_of(model), metrics["test_loss"]))
        epochs.on_epoch(epoch, model, metrics)

    epochs = ll.TrajectoryRecorder(tmp_path / "epochs.points")
    steps = ll.TrajectoryRecorder(tmp_path / "steps.points", every=3)
    settings = {"epochs": 2, "batch_size": 32, "lr": 0.1, "seed": 0, "device": "cpu"}
    ll.fit(model, train, test, on_epoch=after, on_step=steps.on_step, epoch_zero=True, **settings)
    found = ll.RecordedPoints(tmp_path / "epochs.points")
    assert found.unit == "epoch" and found.steps.tolist() == [0, 1, 2]
    assert found.losses.tolist() == [loss for _, loss in seen]
    for k, (point, _) in enumerate(seen):
        np.testing.assert_array_equal(flat(found[k]), flat(point))
    counted = ll.RecordedPoints(tmp_path / "steps.points")
    assert counted.unit == "step" and counted.steps.tolist() == [3, 6]  # of 8 steps, counted from 1
    assert np.isfinite(counted.losses).all()


def test_a_killed_writer_leaves_its_whole_records_and_goes_on_after_them(tmp_path):
    path, given = tmp_path / "run.points", points(5)
    recorded(path, given[:3])
    size = path.stat().st_size
    recorder = ll.TrajectoryRecorder(path, dtype=torch.float64, resume=True)
    recorder.record(given[3])
    os.truncate(path, path.stat().st_size - 7)
    with pytest.warns(UserWarning, match=r"half-written; the 3 record\(s\) before it"):
        assert len(ll.RecordedPoints(path)) == 3
    with pytest.warns(UserWarning, match="half-written"):
        recorder = ll.TrajectoryRecorder(path, dtype=torch.float64, resume=True)
    for point in given[3:]:
        recorder.record(point)
    np.testing.assert_array_equal([flat(p) for p in ll.RecordedPoints(path)], [flat(p) for p in given])
    content = bytearray(path.read_bytes())
    content[size - 20] ^= 1  # in the third record
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="record 2 is damaged; the 4 record\\(s\\) around it"):
        assert ll.RecordedPoints(path).steps.tolist() == [0, 1, 3, 4]


def test_a_step_that_is_there_already_replaces_what_followed(tmp_path):
    path, given = tmp_path / "run.points", points(4)
    recorder = ll.TrajectoryRecorder(path, dtype=torch.float64)
    for step, point in enumerate(given):
        recorder.record(point, step=step)
    recorder.record(given[0], step=2)
    found = ll.RecordedPoints(path)
    assert found.steps.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(flat(found[2]), flat(given[0]))


def test_memory_stays_at_one_copy_while_recording_and_while_finding_the_plane(tmp_path):
    size, count = 40_000, 200
    recorder = ll.TrajectoryRecorder(tmp_path / "run.points")
    generator = np.random.default_rng(0)
    point = {"w": torch.zeros(size)}
    peaks = []
    for _ in range(count):
        point["w"] += torch.from_numpy(generator.standard_normal(size).astype(np.float32))
        tracemalloc.start()
        recorder.record(point)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks[-10:]) <= max(peaks[:10]) + 20_000  # nothing piles up but step numbers
    found = ll.RecordedPoints(tmp_path / "run.points")
    tracemalloc.start()
    rows = sum(len(block) for block in found.columns(100))
    _ = found[7]
    assert rows == count * size // 100
    assert tracemalloc.get_traced_memory()[1] < 20 * 4 * size  # of 200 points; the mapped file is not counted
    tracemalloc.stop()


# ---------------------------------------------------------------- the plane


def test_pca_plane_equals_numpys_svd_from_memory_and_from_a_file(tmp_path, monkeypatch):
    path = points(7)
    rows = np.stack([flat(p) for p in path])
    _, values, vectors = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    monkeypatch.setattr("landscape.slices.principal.BLOCK", 28)  # blocks of four parameters
    first, second = (recorded(tmp_path / f"{k}.points", part) for k, part in enumerate((path[:3], path[3:])))
    for given in (path, recorded(tmp_path / "all.points", path), ll.cli.JoinedPoints([first, second])):
        plane = ll.pca_plane(given)
        np.testing.assert_allclose(plane.recipe["explained_variance"], values**2 / (values**2).sum(), atol=1e-12)
        for k, direction in enumerate(plane.directions):
            found = flat(direction)
            assert abs(found @ vectors[k]) == pytest.approx(1, abs=1e-9)
            assert found @ (rows[-1] - rows[0]) >= 0
        assert abs(plane.geometry["cosine"]) < 1e-12
        np.testing.assert_array_equal(flat(plane(0, 0)), rows[-1])
    np.testing.assert_array_equal(flat(ll.pca_plane(path, origin="first")(0, 0)), rows[0])
    np.testing.assert_array_equal(flat(ll.pca_plane(path, origin=-5)(0, 0)), rows[2])


def test_a_normalised_pca_plane_has_filter_norms_and_orthogonal_directions():
    path = points(6)
    plane = ll.pca_plane(path, normalize="filter")
    for direction in plane.directions:
        torch.testing.assert_close(direction["w"].norm(dim=1), path[-1]["w"].norm(dim=1))
        torch.testing.assert_close(direction["b"].norm(), path[-1]["b"].norm())
    assert abs(plane.geometry["cosine"]) < 1e-12
    unit, model = ll.pca_plane(path), ll.pca_plane(path, normalize="model")
    for a, b in zip(unit.directions, model.directions, strict=True):
        np.testing.assert_allclose(flat(b), flat(a) * np.linalg.norm(flat(path[-1])), rtol=1e-12)


def test_points_in_a_plane_come_back_exactly_whatever_spans_it():
    origin, a, b = points(3)
    wanted = np.array([[0.0, 0.0], [1.0, 0.0], [-2.5, 0.25], [3.0, 4.0]])
    oblique = ll.Plane(origin, (a, {name: b[name] + 3 * a[name] for name in b}))
    found = ll.project([oblique(*c) for c in wanted], oblique, progress=False)
    np.testing.assert_allclose(found.coordinates, wanted, atol=1e-12)
    assert (found.distance < 1e-12).all() and (found.relative_distance < 1e-12).all()
    assert found.steps.tolist() == [0, 1, 2, 3] and np.isnan(found.loss).all()
    in_plane = [oblique(*c) for c in wanted]
    again = ll.project(in_plane, ll.pca_plane(in_plane), progress=False)
    assert (again.distance < 1e-12).all()
    assert ll.pca_plane(in_plane).recipe["explained_variance"][2:] == pytest.approx([0, 0], abs=1e-12)


def test_distance_off_the_plane_equals_dense_least_squares():
    origin, a, b, *path = points(8, seed=3)
    plane = ll.Plane(origin, (a, b))
    found = ll.project(path, plane, progress=False)
    basis = np.stack([flat(a), flat(b)], 1)
    for t, point in enumerate(path):
        offset = flat(point) - flat(origin)
        wanted, *_ = np.linalg.lstsq(basis, offset, rcond=None)
        np.testing.assert_allclose(found.coordinates[t], wanted, rtol=1e-10)
        distance = np.linalg.norm(offset - basis @ wanted)
        assert found.distance[t] == pytest.approx(distance, rel=1e-10)
        assert found.relative_distance[t] == pytest.approx(distance / np.linalg.norm(offset), rel=1e-10)


def test_losses_are_those_of_the_points_and_of_their_shadows_under_one_batch_norm_policy():
    torch.manual_seed(0)
    model = Net().double().eval()
    start = ll.parameters_of(model)
    generator = torch.Generator().manual_seed(1)
    path = [start]
    for _ in range(4):
        shift = {n: 0.1 * torch.randn(v.shape, generator=generator) for n, v in start.items()}
        path.append({name: value + shift[name] for name, value in path[-1].items()})
    plane = ll.pca_plane(path)
    objective = ll.objective(model, data(), device="cpu", dtype=torch.float64, batch_norm="batch", batch_size=11)
    found = ll.project(path, plane, objective, name="run", progress=False)

    def loss(point):  # in training mode a single batch is normalised by itself
        other = Net().double()
        other.load_state_dict(point, strict=False)
        inputs, targets = data()
        return nn.functional.cross_entropy(other.train()(inputs.double()), targets).item()

    assert found.loss == pytest.approx([loss(point) for point in path], rel=1e-10)
    assert found.shadow_loss == pytest.approx([loss(plane(*c)) for c in found.coordinates], rel=1e-10)
    ranges = ll.cli.covering_ranges([found])
    surface = ll.evaluate(objective, plane, resolution=3, progress=False, **ranges)
    assert surface.metadata["slice"]["fingerprint"] == found.metadata["slice"]["fingerprint"]
    assert found.metadata["data"] == surface.metadata["data"] and found.metadata["name"] == "run"
    with pytest.raises(ll.InputError, match="batch_norm='running'"):
        running = ll.objective(model, data(), device="cpu", dtype=torch.float64, batch_norm="running")
        ll.project(path, plane, running, progress=False)


def test_without_an_objective_the_recorded_losses_are_kept(tmp_path):
    path = points(4)
    found = ll.project(recorded(tmp_path / "run.points", path, losses=[3.0, 2.0, 1.5, 1.0]), ll.pca_plane(path))
    assert found.loss.tolist() == [3.0, 2.0, 1.5, 1.0] and np.isnan(found.shadow_loss).all()
    with pytest.raises(ll.InputError, match="a plane with two directions"):
        ll.project(path, ll.interpolation_line(*path[:2]))


def test_a_local_plane_uses_the_running_statistics():
    torch.manual_seed(0)
    model = Net().double().eval()
    plane = ll.random_plane(model, seed=1)
    found = ll.project([plane(0.5, -1)], plane, ll.objective(model, data(), dtype=torch.float64), progress=False)
    expected = plain_losses(model, plane, (0.5, -1), *data())[0].mean()
    assert found.loss[0] == pytest.approx(float(expected), rel=1e-10)


def test_ranges_cover_path_and_origin_with_a_margin():
    def path(*places):
        zeros = np.zeros(len(places))
        return ll.results.Trajectory(zeros, np.array(places, dtype=float), zeros, zeros, zeros, zeros, {})

    found = ll.cli.covering_ranges([path((-4, 1), (-2, 2)), path((0, -1), (1, 1))], margin=0.1)
    assert found == {"alpha_range": (-4.5, 1.5), "beta_range": (-1.3, 2.3)}
    along = ll.cli.covering_ranges([path((0, 0), (10, 0))], margin=0.5)
    assert along["beta_range"] == (-0.5, 0.5)


def test_a_trajectory_round_trips(tmp_path):
    found = ll.project(points(5), ll.pca_plane(points(5)), progress=False)
    after = ll.results.Trajectory.load(found.save(tmp_path / "t.npz"))
    for name in ("steps", "coordinates", "distance", "relative_distance", "loss", "shadow_loss"):
        np.testing.assert_array_equal(getattr(after, name), getattr(found, name))
    assert after.metadata == found.metadata == json.loads(json.dumps(found.metadata))
    np.savez(tmp_path / "w.npz", metadata="{}", steps=np.arange(3), coordinates=np.zeros((2, 3)),
             **{name: np.zeros(3) for name in ("distance", "relative_distance", "loss", "shadow_loss")})  # fmt: skip
    with pytest.raises(ll.InputError, match=r"coordinates has shape \(2, 3\), not \(3, 2\)"):
        ll.results.Trajectory.load(tmp_path / "w.npz")
    with pytest.raises(ll.InputError, match="no trajectory file"):
        ll.results.Trajectory.load(
            ll.Surface(np.arange(2.0), None, *[np.ones(2)] * 2, None, None, {}).save(tmp_path / "s.npz")
        )


# ---------------------------------------------------------------- bad input

A, B, C = points(3, seed=9)
NAN = {**A, "w": A["w"] * float("nan")}
BAD = {
    "two points": (lambda _: ll.pca_plane([A, B]), "at least three points, not 2"),
    "constant": (lambda _: ll.pca_plane([A, A, A]), "span no plane"),
    "origin": (lambda _: ll.pca_plane([A, B, C], origin="middle"), "not 'middle'"),
    "other network": (lambda _: ll.pca_plane([A, B, {"w": C["w"]}]), "point 2 does not belong"),
    "diverged": (lambda _: ll.pca_plane([A, B, C, NAN]), "is not finite"),
    "normalize": (lambda _: ll.pca_plane([A, B, C], normalize="filters"), "unknown normalization 'filters'"),
    "parallel": (lambda _: ll.project([A], ll.Plane(A, (B, {k: -2 * v for k, v in B.items()}))), "parallel or zero"),
    "zero": (lambda _: ll.project([A], ll.Plane(A, (B, {k: 0 * v for k, v in B.items()}))), "parallel or zero"),
    "foreign point": (lambda _: ll.project([{"w": B["w"]}], ll.Plane(A, (B, C))), "point 0 does not belong"),
    "nothing": (lambda _: ll.project([], ll.Plane(A, (B, C))), "no points"),
    "constant path": (lambda _: ll.cli.covering_ranges([ll.project([A], ll.Plane(A, (B, C)))]), "does not leave"),
    "nan path": (lambda _: ll.cli.covering_ranges([ll.project([NAN], ll.Plane(A, (B, C)))]), "not finite"),
    "type": (lambda f: ll.TrajectoryRecorder(f / "x", dtype=torch.bfloat16), "not as torch.bfloat16"),
    "every": (lambda f: ll.TrajectoryRecorder(f / "x", every=0), "every is 0"),
    "missing": (lambda f: ll.RecordedPoints(f / "none.points"), "does not exist"),
    "too large": (
        lambda f: ll.TrajectoryRecorder(f / "x", dtype=torch.float16).record({"w": torch.tensor([1e6])}),
        "'w' is too large for torch.float16",
    ),
    "mixed runs": (
        lambda f: ll.cli.JoinedPoints([recorded(f / "a", [A]), recorded(f / "b", [{"w": A["w"]}])]),
        "are of different networks",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_line(case, tmp_path):
    act, message = BAD[case]
    with pytest.raises(ll.InputError, match=message) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        act(tmp_path)
    assert "\n" not in str(caught.value)


def test_one_file_holds_one_network(tmp_path):
    recorder = ll.TrajectoryRecorder(tmp_path / "run.points")
    recorder.record(A)
    with pytest.raises(ll.InputError, match="another network"):
        recorder.record({"w": A["w"]})
    with pytest.raises(ll.InputError, match="another network or run"):
        ll.TrajectoryRecorder(tmp_path / "run.points", resume=True, notes={"lr": 1}).record(A)
    (tmp_path / "foreign.points").write_bytes(b"something else")
    with pytest.raises(ll.InputError, match="no file of recorded points"):
        ll.RecordedPoints(tmp_path / "foreign.points")
