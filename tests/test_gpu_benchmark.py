"""The benchmark of a GPU measures what it says at toy size, goes on where it was cut off, and ends in time."""

import contextlib
import json
import math
import time

import pretend_device
import pytest

import landscape_lib as ll
from benchmarks import gpu


@contextlib.contextmanager
def pretend_waits():
    with pretend_device.counted() as transfers:
        yield lambda: len(transfers.to_host)


TOY = ("exactness", "waits", "small networks", "language model, bf16", "curvature")


def no_number(text):
    raise AssertionError(f"{text} is not JSON")


def gpu_run(tmp_path, device, works=TOY, **options):
    gpu.main(device=device, data_dir=tmp_path, out=tmp_path, works=works, quick=True, **options)
    return json.loads((tmp_path / "gpu-quick.json").read_text(), parse_constant=no_number)["measurements"]


@pytest.fixture
def random_images(monkeypatch):
    def offline(*_, **__):
        raise ll.InputError("offline for this test")

    monkeypatch.setattr(ll, "load_dataset", offline)


def check_toy(measurements, works):
    assert {name: record["error"] for name, record in measurements.items()} == dict.fromkeys(works)
    for errors in measurements["exactness"]["values"].values():
        assert errors["float64"] < 1e-9 < errors["full"] < 1e-4 and errors["full"] < errors["bf16"] < 0.1
    assert measurements["language model, bf16"]["values"]["parameters"] > 1000
    assert len(measurements["curvature"]["values"]["eigenvalues"]) == 1


def test_measurements_of_a_gpu_run_at_toy_size_on_the_cpu(tmp_path, random_images):
    works = (*TOY, "ResNet-56, full")
    measurements = gpu_run(tmp_path, "cpu", works)
    check_toy(measurements, works)
    assert "skipped" in measurements["waits"]["values"]
    assert measurements["ResNet-56, full"]["values"]["points"] == 6


def test_measurements_of_a_gpu_run_at_toy_size(tmp_path, accelerator, random_images, monkeypatch):
    monkeypatch.setitem(gpu.WAITS, "pretend", pretend_waits)
    measurements = gpu_run(tmp_path, accelerator)
    check_toy(measurements, TOY)
    waits = measurements["waits"]["values"]
    assert waits["equal"] and waits["few"] > 0


def test_what_failed_or_was_cut_off_is_measured_again(tmp_path, monkeypatch, capsys):
    calls = []

    def measurement(name, *ends):
        def run(job):
            calls.append(name)
            end = ends[min(calls.count(name), len(ends)) - 1]
            if end == "sleep":
                time.sleep(30)
            if end == "fail":
                raise ZeroDivisionError("nothing")
            return {"value": end, "ratios": [1.5, math.nan, math.inf]}

        return gpu.Measurement(run, 0.2)

    table = {
        "good": measurement("good", 1),
        "slow": measurement("slow", "sleep", 2),
        "bad": measurement("bad", "fail", 3),
    }
    monkeypatch.setattr(gpu, "MEASUREMENTS", table)
    monkeypatch.setattr(gpu, "environment", lambda: {"commit": "a", "cpu": "b", "versions": {}})
    first = gpu_run(tmp_path, "cpu", tuple(table))
    assert [first[name]["error"] for name in table] == [None, "cut off after 0 s", "ZeroDivisionError: nothing"]
    second = gpu_run(tmp_path, "cpu", tuple(table))
    assert [second[name]["values"]["value"] for name in table] == [1, 2, 3] and calls.count("good") == 1
    assert second["good"]["values"]["ratios"] == [1.5, None, None]
    monkeypatch.setattr(gpu, "environment", lambda: {"commit": "other", "cpu": "b", "versions": {}})
    capsys.readouterr()
    gpu_run(tmp_path, "cpu", tuple(table))
    assert calls.count("good") == 2 and "is of other code" in capsys.readouterr().out


def test_a_run_ends_in_time(tmp_path, monkeypatch):
    assert sum(measurement.seconds for measurement in gpu.MEASUREMENTS.values()) <= gpu.LIMIT
    never = gpu.Measurement(lambda job: pytest.fail("it was started"), 10)
    monkeypatch.setattr(gpu, "MEASUREMENTS", {"late": never})
    assert gpu_run(tmp_path, "cpu", ("late",), limit=1e-9)["late"]["error"] == "no time was left"
    for limit in (0, -3, math.nan, math.inf):
        with pytest.raises(ll.InputError, match="must be a positive number"):
            gpu_run(tmp_path, "cpu", ("late",), limit=limit)
    (tmp_path / "gpu-quick.json").write_text("[]")
    with pytest.raises(ll.InputError, match="remove it"):
        gpu_run(tmp_path, "cpu", ("late",))
