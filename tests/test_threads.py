"""The number of torch's threads: one where more would only wait, the user's where there is a choice of the user's."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import images, make

import landscape_lib as ll
from landscape.objective.workers import Team
from landscape.runtime import threads, waiting

SETTINGS = {"epochs": 2, "batch_size": 16, "lr": 0.05, "seed": 3, "device": "cpu"}


@pytest.fixture
def two_threads(monkeypatch):
    """Two threads that are torch's default and nobody's choice."""
    for name in threads.CHOICES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_DEFAULT", 2)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def trained(widths="deep-small", **options):
    """The numbers of threads during the steps, and the weights."""
    train, test = (ll.load_dataset("moons", split=split, limit=67) for split in ("train", "test"))
    torch.manual_seed(0)
    model, counts = ll.build_model(widths, classes=2), []
    ll.fit(model, train, test, on_step=lambda *_: counts.append(torch.get_num_threads()), **SETTINGS | options)
    return set(counts), torch.cat([value.detach().flatten() for value in model.parameters()])


def test_small_networks_are_trained_by_one_thread_and_the_number_is_put_back(two_threads):
    counts, weights = trained()
    assert counts == {1} and torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert torch.equal(trained()[1], weights)  # whatever else the machine does: nothing is timed


def test_larger_steps_keep_all_threads(two_threads, monkeypatch):
    monkeypatch.setattr(threads, "FEW", 1000)
    assert trained()[0] == {2}


def test_the_work_of_a_step_is_counted(two_threads):
    """A linear layer of 10 x 20 weights: 200 multiplications a sample."""
    layer, inputs = torch.nn.Linear(10, 20), torch.randn(3, 10)
    most = threads.FEW // 200
    assert threads.threads_for_training(layer, inputs, most) is threads.one_thread
    assert threads.threads_for_training(layer, inputs, most + 1) is not threads.one_thread


def test_counting_draws_nothing_and_leaves_a_network_that_fails_to_the_first_step(two_threads):
    layer = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.Dropout())
    state = torch.get_rng_state()
    assert threads.threads_for_training(layer, torch.randn(3, 10, generator=torch.Generator()), 4) is threads.one_thread
    assert threads.threads_for_training(layer, torch.ones(3, 11), 4) is not threads.one_thread
    assert torch.equal(torch.get_rng_state(), state)


def test_a_number_that_the_user_chose_stays(two_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert trained()[0] == {2} and threads.faster_count(lambda: None) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(3)
    assert trained()[0] == {3} and threads.faster_count(lambda: None) == 3


def test_an_exception_puts_the_number_back(two_threads):
    def stop(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trained(on_epoch=stop)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("seconds", "expected"), [({1: 1, 2: 3}, 1), ({1: 3, 2: 2}, 2), ({1: 60, 2: 90}, 2)])
def test_the_faster_number_is_taken_for_passes_that_are_short(seconds, expected, two_threads, monkeypatch):
    """The time of a pass is that of a clock which it moves itself; what takes long with one thread keeps them all."""
    now = [0.0]

    def work():
        now[0] += seconds[torch.get_num_threads()] / 1000

    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])
    assert threads.faster_count(work) == expected
    assert torch.get_num_threads() == 2


def test_a_team_of_one_takes_the_faster_number_and_looks_again_later(two_threads, monkeypatch):
    asked = []
    monkeypatch.setattr("landscape.objective.workers.faster_count", lambda work, _: asked.append(work()) or len(asked))
    loss = lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    objective = ll.objective(make("mlp"), images(13), device="cpu", loss=loss)
    assert [Team(objective).threads_each for _ in range(3)] == [1, 1, 1] and len(asked) == 1
    monkeypatch.setattr("landscape.objective.workers.TRIED_EVERY", -1.0)
    assert Team(objective).threads_each == 2 and len(asked) == 2
    with Team(objective) as team:
        assert team.map(lambda *_: torch.get_num_threads(), [None]) == [3]
    assert torch.get_num_threads() == 2


def test_a_trial_runs_few_passes_and_none_of_long_work(two_threads, monkeypatch):
    """Six passes tell the faster number; where a part of a batch takes long already, nothing more is run."""
    now, runs = [0.0], []

    def part(samples):
        def work():
            runs.append(samples)
            now[0] += samples * each

        return work

    monkeypatch.setattr(threads.time, "perf_counter", lambda: now[0])
    each = threads.LONG / 1000
    assert threads.faster_count(part(200), [part(1), part(8)]) == 1
    assert runs == [1, 8, *[200] * 2 * threads.TRIES]
    runs.clear()
    each = threads.LONG / 7
    assert threads.faster_count(part(200), [part(1), part(8), part(64)]) == 2
    assert runs == [1, 8]


def test_the_parts_of_a_batch_grow(two_threads, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "landscape.objective.workers.faster_count",
        lambda *works: sizes.append([len(f()) for f in (*works[1], works[0])]),
    )
    loss = lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")  # noqa: E731
    for batch_size in (13, 5, 1):
        Team(ll.objective(make("mlp"), images(29), device="cpu", loss=loss, batch_size=batch_size))
    assert sizes == [[1, 8, 13], [1, 5], [1]]


def test_the_loss_does_not_depend_on_the_number_of_threads(two_threads):
    model, plane = make("mlp"), ll.random_plane(make("mlp"))
    loss = lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    surfaces = []
    for count in (1, 2):
        torch.set_num_threads(count)
        objective = ll.objective(model, images(29), device="cpu", loss=loss)
        surfaces.append(ll.evaluate(objective, plane, resolution=3, progress=False).loss)
    assert abs(surfaces[0] - surfaces[1]).max() < 1e-6


def test_scripts_wait_briefly_unless_the_user_chose_how():
    environment = {}
    waiting.wait_briefly(environment)
    assert environment == {"GOMP_SPINCOUNT": waiting.SPINS}
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        environment = {name: "active"}
        waiting.wait_briefly(environment)
        assert environment == {name: "active"}


def test_only_scripts_change_how_threads_wait(tmp_path):
    """It is set before torch is loaded, when it still has an effect."""
    shutil.copytree(Path(ll.__file__).parent / "landscape", tmp_path / "landscape")
    (tmp_path / "elsewhere").mkdir()
    code = "import sys, landscape, os; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    for folder, expected in ((tmp_path, f"{waiting.SPINS} False"), (tmp_path / "elsewhere", "None False")):
        script = folder / "script.py"
        script.write_text(code)
        environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
        ended = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
        assert ended.stdout.strip() == expected, ended.stderr
