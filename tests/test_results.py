"""Surfaces: saving, loading, samples; the summary; and the face of the library."""

import dataclasses
import json

import numpy as np
import pytest

import landscape_lib as ll


def surface(**changes):
    loss = np.array([[3.0, 1.0, np.nan], [2.0, np.inf, 0.5]])
    fields = {
        "alphas": np.array([-1.0, 1.0]),
        "betas": np.array([-2.0, 0.0, 3.0]),
        "loss": loss,
        "standard_error": np.full((2, 3), 0.1),
        "accuracy": np.full((2, 3), 0.75),
        "per_sample": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "metadata": {"data": {"name": "x", "split": "train", "size": 4}, "seconds": 1.5},
    }
    return ll.Surface(**{**fields, **changes})


@pytest.mark.parametrize("changes", [{}, {"accuracy": None, "per_sample": None}])
def test_a_surface_round_trips_with_its_non_finite_values(tmp_path, changes):
    before = surface(**changes)
    after = ll.Surface.load(before.save(tmp_path / "s.npz"))
    for name in ("alphas", "betas", "loss", "standard_error", "accuracy", "per_sample"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert after.metadata == before.metadata
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]


def test_a_line_round_trips(tmp_path):
    line = ll.Surface(np.array([0.0, 1.0]), None, np.ones(2), np.ones(2), None, None, {})
    after = ll.Surface.load(line.save(tmp_path / "line.npz"))
    assert after.betas is None and after.shape == (2,) and after.axes[0].tolist() == [0, 1]


def test_minimum_centre_and_mask_look_past_non_finite_values():
    assert surface().minimum == (1, 2)
    assert surface().centre == (0, 1)
    assert surface().nonfinite.sum() == 2


def test_one_sample_is_its_own_surface():
    single = surface().sample(2)
    np.testing.assert_array_equal(single.loss, np.arange(24).reshape(2, 3, 4)[..., 2])
    assert np.isnan(single.standard_error).all() and single.per_sample is None
    assert single.metadata["nonfinite_points"] == 0 and single.metadata["data"]["sample"] == 2
    gap = surface()
    gap.per_sample[[0, 1], [1, 2], 3] = np.nan, np.inf
    assert gap.sample(3).metadata["nonfinite_points"] == 2
    with pytest.raises(ll.InputError, match="per_sample=True"):
        single.sample(0)


def test_damaged_missing_and_foreign_files_are_told(tmp_path):
    with pytest.raises(ll.InputError, match="does not exist"):
        ll.Surface.load(tmp_path / "none.npz")
    path = surface().save(tmp_path / "s.npz")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ll.InputError, match="damaged"):
        ll.Surface.load(path)
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(ll.InputError, match="no surface file"):
        ll.Surface.load(tmp_path / "other.npz")
    np.savez(tmp_path / "pickled.npz", metadata=np.array({"a": 1}, dtype=object))
    with pytest.raises(ll.InputError, match="no surface file"):
        ll.Surface.load(tmp_path / "pickled.npz")
    fields = {"alphas": np.ones(2), "betas": np.ones(3), "loss": np.ones((3, 2)), "standard_error": np.ones((3, 2))}
    np.savez(tmp_path / "turned.npz", metadata=np.array(json.dumps({})), **fields)
    with pytest.raises(ll.InputError, match=r"shape \(3, 2\), the axes give \(2, 3\)"):
        ll.Surface.load(tmp_path / "turned.npz")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = surface().save(tmp_path / "s.npz")
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(ll.InputError, match=r"cannot write .*s\.npz: No space left"):
        surface().save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


EDITED = [
    ("interpolation", {"method": "linear"}), ("interpolation", {"evaluated_points": 3}), ("budget", {"asked": 1}),
    ("checks", None), ("checks", {"origin": 7}), ("versions", "1"), ("method_settings", []), ("seconds", "long"),
    ("device", 3.5), ("relative_norms", "x"), ("cosine", []), ("data", {"size": "many"}), ("slice", None),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), EDITED)
def test_metadata_of_another_form_are_told_and_the_rest_is_drawn(tmp_path, key, value):
    foreign = dataclasses.replace(surface(), metadata={**surface().metadata, key: value})
    told, whole = ll.cli.summarize(foreign), ll.cli.summarize(surface())
    assert "loss at the centre" in told and len(told.splitlines()) >= len(whole.splitlines()) - 1
    tables = [ll.cli.surface_table([one], ["a"]) for one in (foreign, surface())]
    assert len({len(table.splitlines()) for table in tables}) == 1
    assert ll.explore(foreign, tmp_path / "page.html").exists()


def test_the_summary_names_values_places_and_errors():
    text = ll.cli.summarize(surface())
    assert "minimum: 0.5 +- 0.1 (standard error) at (1, 3)" in text
    assert "maximum: 3 +- 0.1" in text and "loss at the centre: 1 +- 0.1" in text
    assert "x train, 4 samples" in text and "seconds: 1.50" in text


def test_the_numbers_of_a_surface_are_over_its_finite_points():
    numbers = ll.cli.surface_numbers(surface(metadata={"relative_norms": [0.5, 2.0], "seconds": 1.5}))
    assert (numbers["centre_loss"], numbers["smallest_loss"], numbers["largest_loss"]) == (1.0, 0.5, 3.0)
    assert (numbers["centre_accuracy"], numbers["nonfinite_points"]) == (0.75, 2)
    nothing = ll.cli.surface_numbers(surface(loss=np.full((2, 3), np.inf), accuracy=None, metadata={}))
    assert nothing["largest_loss"] is None and nothing["nonfinite_points"] == 6
    bare = surface(accuracy=None, metadata={})
    rows = ll.cli.surface_table([surface(), bare], ["a", "long name"]).splitlines()
    assert [row.split()[-1] for row in rows] == ["seconds", "1.50", "-"]
    assert rows[1].startswith("a          1            0.5  3    75.00%    ")


def test_a_log_scale_is_advised_for_a_large_range_of_positive_losses():
    def of(*losses):
        return surface(loss=np.array(losses).reshape(2, 3))

    assert ll.cli.range_hint([of(1, 2, 3, 4, 5, np.inf), of(1, 2, 3, 4, 5, 99)]) is None
    assert "from 0.01 to 5; on one linear" in ll.cli.range_hint([of(1, 2, 3, 4, 5, np.nan), of(1, 2, 3, 4, 4, 0.01)])
    assert ll.cli.range_hint([of(0, 2, 3, 4, 5, 1000)]) is None  # a log scale would be refused
    assert ll.cli.range_hint([of(*[np.nan] * 6)]) is None
