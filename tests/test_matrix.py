"""The matrix of small networks: its runs equal `fit`, a second call changes nothing, a kill costs nothing but time."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import landscape_lib as ll
import run_full_matrix
from landscape.runtime import tasks
from landscape.studies.matrix.training import stacks_of

ROOT = Path(__file__).parents[1]
SETTINGS = {"n_train": 70, "n_test": 40, "epochs": 3, "batch_size": 32, "lr_step_size": 2, "mid_checkpoints": 1}
TOY = [part for key, value in SETTINGS.items() for part in (f"--{key.replace('_', '-')}", str(value))]
TOY += ["--architectures", "shallow-small", "medium", "--activations", "tanh", "--seeds", "0", "1", "--jobs", "1"]
TOY += ["--device", "cpu"]
MATRIX = ll.studies.Matrix(architectures=("shallow-small", "medium"), activations=("tanh",), seeds=(0, 1), **SETTINGS)
FILES = ["checkpoints/final.pth", "checkpoints/init.pth", "checkpoints/mid_002.pth", "metrics.json", "summary.json"]


def train(*options):
    ll.cli.run_script(run_full_matrix.main, [*TOY, *options])


def contents(folder) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def times(folder) -> dict[str, int]:
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_every_run_is_what_fit_gives_and_describes_itself(here, capsys):
    train("--include-gaussians", "--output-root", "out")
    assert "16 networks trained here; all 16 are in out" in capsys.readouterr().out
    plans = dataclasses.replace(MATRIX, include_gaussians=True).plans()
    assert sorted(contents(here / "out")) == sorted(f"{plan.place}/{name}" for plan in plans for name in FILES)
    for plan in plans[::3]:
        folder = here / "out" / plan.place
        summary = json.loads((folder / "summary.json").read_text())
        train_data, test_data = (ll.load_dataset(summary["recipe"]["dataset"], split=s) for s in ("train", "test"))
        torch.manual_seed(summary["seed"])
        alone = ll.build_model(
            summary["architecture"], activation=summary["activation"], classes=len(train_data.classes)
        )
        first = ll.load_checkpoint(folder / "checkpoints" / "init.pth")
        assert all(torch.equal(p, q) for p, q in zip(alone.parameters(), first.model.parameters(), strict=True))
        expected = ll.fit(alone, train_data, test_data, device="cpu", **summary["recipe"]["training"])
        epochs = json.loads((folder / "metrics.json").read_text())["epochs"]
        for found, reference in zip(epochs[1:], expected, strict=True):
            for name, value in reference.items():
                assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
        last = ll.load_checkpoint(folder / "checkpoints" / "final.pth")
        for p, q in zip(alone.parameters(), last.model.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5)
        assert ll.cli.load_checkpoint_data(last, "train", here).fingerprint == train_data.fingerprint
        for split, data in (("train", train_data), ("test", test_data)):
            measured = ll.cli.score(last.model, data, device="cpu")
            assert measured["loss"] == summary["final"][f"{split}_loss"]
        assert summary["final"]["test_loss"] == pytest.approx(epochs[-1]["test_loss"], rel=1e-6)


def test_a_second_call_changes_nothing_and_another_setting_only_what_it_concerns(here, capsys):
    train("--output-root", "out")
    before = times(here / "out")
    train("--output-root", "out")
    assert times(here / "out") == before
    assert "0 networks trained here; all 8 are in out" in capsys.readouterr().out

    train("--output-root", "out", "--seeds", "0", "1", "2")  # the seeds that are there stay
    after = times(here / "out")
    assert {name: after[name] for name in before} == before and len(after) == len(before) * 3 // 2
    train("--output-root", "out", "--momentum", "0.5", "--seeds", "0", "1")
    changed = {name for name, at in times(here / "out").items() if at != after[name]}
    assert changed == {name for name in before if "opt=sgd" in name}
    train("--output-root", "out", "--mid-checkpoints", "0")
    assert not list(here.glob("out/**/seed=[01]/checkpoints/mid*"))


def test_half_written_and_damaged_runs_are_trained_again_and_foreign_files_stay(here):
    train("--output-root", "out")
    whole = contents(here / "out")
    folders = sorted(here.glob("out/*/*/*/*/seed=*"))
    (folders[0] / "summary.json").write_text('{"recipe": {"dataset"')
    (folders[1] / "checkpoints" / "final.pth").write_bytes(b"half")
    (folders[2] / "metrics.json").unlink()
    (folders[3] / "summary.json").unlink()
    (folders[3] / "checkpoints" / ".0123456789abcdef.part.pth").write_bytes(b"left by a kill")
    foreign = [folders[0] / "notes.txt", here / "out" / "summary.json", here / "out" / "dataset=moons" / "x.pth"]
    for path in foreign:
        path.write_text("mine")
    train("--output-root", "out")
    after = contents(here / "out")
    assert [after.pop(path.relative_to(here / "out").as_posix()) for path in foreign] == [b"mine"] * 3
    assert after == whole


def test_a_run_of_a_killed_stack_is_trained_in_the_same_stack(here):
    train("--output-root", "out")
    place = MATRIX.plans()[1].place
    (here / "out" / place / "summary.json").unlink()
    wider = dataclasses.replace(MATRIX, seeds=(0, 1, 2))
    stacks = stacks_of(wider.plans(), here / "out")
    assert [[plan.place for plan in stack] for stack in stacks] == [
        [plan.place for plan in MATRIX.plans() if plan.architecture == "shallow-small"]
        if any(plan.place == place for plan in stack)
        else [plan.place for plan in stack if plan.training.seed == 2]
        for stack in stacks
    ]
    assert len(stacks) == 3 and sum(map(len, stacks)) == 4 + 4


def test_tasks_are_dealt_to_the_ranks_and_wait_for_all(monkeypatch):
    dealt, waited = [], []
    monkeypatch.setattr(tasks.ranks, "count", lambda: 3)
    monkeypatch.setattr(tasks.ranks, "gathered", waited.append)
    monkeypatch.setattr(tasks, "_in_processes", lambda work, mine, jobs: map(work, mine))
    for rank in range(3):
        monkeypatch.setattr(tasks.ranks, "rank", lambda rank=rank: rank)
        dealt.append(list(tasks.run_tasks(str, range(5), jobs=1)))
    assert dealt == [["0", "3"], ["1", "4"], ["2"]] and waited == [None] * 3


@pytest.mark.slow
def test_a_killed_matrix_goes_on_in_other_processes_to_the_same_bytes(here):
    options = ["--epochs", "15", "--activations", "relu", "tanh"]
    command = [sys.executable, str(ROOT / "run_full_matrix.py"), *TOY, *options, "--output-root", "killed"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(here.glob("killed/**/summary.json")) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < len(list(here.glob("killed/**/summary.json"))) < 16
    train(*options, "--output-root", "killed", "--jobs", "2")
    train(*options, "--output-root", "whole")
    assert contents(here / "killed") == contents(here / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--architectures", "huge"], "unknown architecture 'huge'; use one of shallow-small"),
        (["--activations", "sine"], "'sine'"),
        (["--seeds", "1", "1"], "seeds are [1, 1]: name at least one, and none twice"),
        (["--n-train", "1000000000"], "n_train is 1000000000"),
        (["--data-seed", "-1"], "data seed is -1"),
        (["--seeds", str(2**64)], "seed is 18446744073709551616"),
        (["--lr-gamma", "nan"], "gamma is nan"),
        (["--jobs", "0"], "jobs is 0"),
        (["--jobs", "-1"], "jobs is -1"),
        (["--epochs", "0"], "epochs is 0"),
        (["--n-train", "3"], "3 training"),
        (["--noise", "-1"], "noise is -1.0"),
        (["--learning-rate", "0"], "lr is 0.0"),
        (["--mid-checkpoints", "-1"], "mid checkpoints -1"),
        (["--device", "abacus"], "unknown device 'abacus'"),
        (["--output-root", "file"], "cannot write into file"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(here, capsys, options, message):
    (here / "file").touch()
    with pytest.raises(SystemExit) as caught:
        train(*options)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message in error and "Traceback" not in error


def test_the_help_has_every_option_that_the_manual_names(capsys):
    with pytest.raises(SystemExit):
        ll.cli.run_script(run_full_matrix.main, ["-h"])
    printed = capsys.readouterr().out
    for option in set(re.findall(r"(--[a-z-]+)", run_full_matrix.__doc__)) - {"--nproc-per-node"}:
        assert option in printed
