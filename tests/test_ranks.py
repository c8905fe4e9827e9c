"""Several processes under torchrun: the numbers of one, one writer; and processes killed without warning."""

import json
import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

import landscape_lib as ll
from landscape.runtime import ranks

pytestmark = pytest.mark.slow  # every test starts several processes
ROOT = Path(__file__).parents[1]
ALONE = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
KILLED_ONCE = """
import os, runpy, signal, sys
sys.path.insert(0, {root!r})
from landscape.evaluation import filling
from landscape.evaluation.ledger import Ledger
filling.ROUND_SECONDS = 0  # a point a round
plain, rounds = Ledger.save, []

def save(*arguments):
    plain(*arguments)
    rounds.append(1)
    if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"], len(rounds)) == ("1", "0", 4):
        os.kill(os.getpid(), signal.SIGKILL)

Ledger.save = save
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name="__main__")
"""

KILLED_WHILE_SAVING = """
import os, runpy, signal, sys
sys.path.insert(0, {root!r})
from landscape.evaluation import filling
filling.ROUND_SECONDS = 0  # a point a round
replace, saves = os.replace, []

def killed(*arguments):
    saves.append(1)
    if len(saves) == int(os.environ["SAVES"]):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*arguments)

os.replace = killed
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name="__main__")
"""


PATIENT = """
import runpy, sys
sys.path.insert(0, {root!r})
from landscape.evaluation import filling
filling.QUICK, filling.PLANNING = 0.0, float("inf")
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.fixture
def checkpoints(tmp_path):
    torch.manual_seed(0)
    arguments = {"input_shape": (1, 8, 8), "classes": 10}
    for name in ("linear-mnist", "tiny-cnn"):
        ll.save_checkpoint(
            tmp_path / f"{name}.pth", ll.build_model(name, **arguments), model_name=name, model_arguments=arguments,
            data={"name": "digits", "split": "train", "limit": 101, "source": "scikit-learn"},
            epoch=1, metrics={}, settings={},
        )  # fmt: skip
    return tmp_path


def torchrun(*arguments, cwd):
    """Two processes; what they printed."""
    alone = ALONE | {"MPLBACKEND": "agg"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        *map(str, arguments),
    ]
    done = subprocess.run(command, cwd=cwd, env=alone, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


ANOTHER = """
import os, runpy, sys
sys.path.insert(0, {root!r})
import landscape_lib

def broken(*_):
    raise ZeroDivisionError("in the middle")

if os.environ["RANK"] == "1":
    if os.environ["FAULT"] == "exception":
        from landscape.evaluation.ledger import Ledger
        Ledger.exchange = broken
    else:
        sys.argv += os.environ["FAULT"].split()
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("--seed 43", "rank 1 has another direction 1 (another seed?) than rank 0"),
        ("--checkpoint other.pth", "rank 1 has another checkpoint than rank 0"),
        ("exception", "rank 1: ZeroDivisionError: in the middle"),
    ],
)
def test_a_rank_that_differs_or_fails_ends_the_job_with_one_line(checkpoints, fault, line):
    arguments = {"input_shape": (1, 8, 8), "classes": 10}
    ll.save_checkpoint(
        checkpoints / "other.pth", ll.build_model("tiny-cnn", **arguments), model_name="tiny-cnn",
        model_arguments=arguments, data={"name": "digits", "split": "train", "limit": 101, "source": "scikit-learn"},
        epoch=1, metrics={}, settings={},
    )  # fmt: skip
    script = checkpoints / "another.py"
    script.write_text(ANOTHER.format(root=str(ROOT), script=str(ROOT / "visualize_loss_landscape.py")))
    logs = checkpoints / "logs"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--redirects=3", f"--log-dir={logs}", script, "--checkpoint=tiny-cnn.pth", "--resolution", "6", "6"]
    environment = ALONE | {"MPLBACKEND": "agg", "FAULT": fault}
    done = subprocess.run(
        [*map(str, command), "--no-figures", "--out=."],
        cwd=checkpoints,
        env=environment,
        capture_output=True,
        timeout=240,
    )
    assert done.returncode != 0
    said = "".join(file.read_text() for file in sorted(logs.rglob("stderr.log")))
    errors = [text for text in said.splitlines() if text.strip() and not re.search(r"of \d+ points", text)]  # no bar
    assert len(errors) == 1 and line in errors[0], said
    assert not list(checkpoints.glob("loss_grid*.npz"))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "4"}, "RANK, MASTER_ADDR, MASTER_PORT is not set; start with torchrun, or unset WORLD_SIZE"),
        ({"WORLD_SIZE": "4", "RANK": "0", "MASTER_ADDR": "here"}, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "4", "RANK": "x", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}, "whole numbers"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE is many"),
    ],
)
def test_a_launcher_that_sets_half_of_what_is_needed_is_one_clear_line(monkeypatch, variables, message):
    for name in ranks.NEEDED:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ll.InputError, match=message), ranks.joined():
        raise AssertionError("never begun")


def test_ranks_of_which_some_never_come_are_not_waited_for_all_day(monkeypatch, unused_port):
    for name, value in zip(ranks.NEEDED, ("0", "2", "127.0.0.1", unused_port), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "START", timedelta(seconds=1))
    with pytest.raises(ll.InputError, match="rank 0 of 2 cannot join the others at 127"), ranks.joined():
        raise AssertionError("never begun")


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def compared(folder, name, suffix):
    found = ll.Surface.load(folder / f"loss_grid_train{suffix}.npz")
    checkpoint = ll.load_checkpoint(folder / f"{name}.pth")
    data = ll.cli.load_checkpoint_data(checkpoint, "train", folder)
    plane = ll.random_plane(checkpoint.model, seed=42)
    alone = ll.evaluate(ll.objective(checkpoint.model, data), plane, resolution=(5, 4), progress=False)
    np.testing.assert_allclose(found.loss, alone.loss, rtol=1e-5)
    np.testing.assert_allclose(found.standard_error, alone.standard_error, rtol=1e-4)
    np.testing.assert_array_equal(found.accuracy, alone.accuracy)
    return found


@pytest.mark.parametrize("name, suffix", [("linear-mnist", ""), ("tiny-cnn", "_cifar10")])
def test_two_processes_give_the_surface_of_one(checkpoints, name, suffix):
    script, options = ROOT / "visualize_loss_landscape.py", ["--checkpoint", f"{name}.pth", "--resolution", "5", "4"]
    printed = torchrun(script, *options, "--out", ".", cwd=checkpoints)
    assert printed.count("Wrote loss_grid_train") == 1
    assert compared(checkpoints, name, suffix).metadata["processes"] == 2
    assert not list(checkpoints.glob(".*"))  # the second process left nothing behind


@pytest.mark.usefixtures("patient_planner")
def test_two_processes_refine_the_same_points_as_one(checkpoints):
    script = checkpoints / "patient.py"
    script.write_text(PATIENT.format(root=str(ROOT), script=str(ROOT / "visualize_loss_landscape.py")))
    options = [
        "--checkpoint",
        "tiny-cnn.pth",
        "--resolution",
        "25",
        "--tolerance",
        "0.02",
        "--no-figures",
        "--out",
        ".",
    ]
    torchrun(script, *options, cwd=checkpoints)
    found = ll.Surface.load(checkpoints / "loss_grid_train_cifar10.npz")
    model = ll.load_checkpoint(checkpoints / "tiny-cnn.pth")
    target = ll.objective(model.model, ll.cli.load_checkpoint_data(model, "train", checkpoints), device="cpu")
    plane = ll.random_plane(model.model, seed=42)
    alone = ll.evaluate(target, plane, resolution=25, tolerance=0.02, progress=False)
    np.testing.assert_array_equal(found.evaluated, alone.evaluated)
    assert not alone.evaluated.all()
    np.testing.assert_allclose(found.loss, alone.loss, rtol=1e-4)


def test_a_killed_process_costs_only_what_was_not_finished(checkpoints):
    script = checkpoints / "killed_once.py"
    script.write_text(KILLED_ONCE.format(root=str(ROOT), script=str(ROOT / "visualize_loss_landscape.py")))
    options = ["--checkpoint", "tiny-cnn.pth", "--resolution", "5", "4", "--no-figures", "--out", "."]
    torchrun("--max-restarts=1", script, *options, cwd=checkpoints)
    assert compared(checkpoints, "tiny-cnn", "_cifar10").metadata["resumed_points"] in (6, 8)


def test_a_process_killed_while_it_saves_goes_on_where_it_was(checkpoints):
    script = checkpoints / "killed_while_saving.py"
    script.write_text(KILLED_WHILE_SAVING.format(root=str(ROOT), script=str(ROOT / "visualize_loss_landscape.py")))
    command = [sys.executable, script, "--checkpoint", "tiny-cnn.pth", "--resolution", "5", "4", "--no-figures"]
    for saves, ends in ((6, -9), (4, -9), (1000, 0)):
        environment = os.environ | {"SAVES": str(saves)}
        done = subprocess.run(
            [*command, "--out", "."], cwd=checkpoints, env=environment, capture_output=True, text=True
        )
        assert done.returncode == ends, done.stderr[-2000:]
    assert compared(checkpoints, "tiny-cnn", "_cifar10").metadata["resumed_points"] == 5 + 3


def test_two_processes_measure_a_language_model_as_one_does(tmp_path):
    text = tmp_path / "numbers.txt"
    text.write_text(" ".join(map(str, range(700))), encoding="utf-8")
    script, options = ROOT / "visualize_language_model.py", ["--text", text, "--tokens", "96", "--device", "cpu"]
    options += ["--sequence-length", "16", "--resolution", "3", "--directions", "2", "--draws", "2", "--judged", "2"]
    options += ["--layers", "1", "--heads", "2", "--width", "16", "--steps", "4", "--batch-size", "2", "--points", "2"]
    command = [*map(str, [sys.executable, script, *options, "--out", "alone"])]
    environment = ALONE | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}  # as torchrun sets it
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=240)
    printed = torchrun(script, *options, "--out", "together", cwd=tmp_path)
    alone, together = ({path.name: path for path in (tmp_path / out).iterdir()} for out in ("alone", "together"))
    assert alone.keys() == together.keys() and not [name for name in together if name.startswith(".")]
    assert printed.count("Wrote together/report") == 1
    surfaces = [name for name in alone if name.endswith(".npz")]
    assert len(surfaces) == 7
    for name in surfaces:
        with np.load(alone[name]) as one, np.load(together[name]) as two:
            for key in (key for key in one.files if one[key].dtype.kind == "f"):
                np.testing.assert_allclose(two[key], one[key], rtol=1e-5)
    layers = [json.loads(files["layers_numbers.txt.json"].read_text())["measures"] for files in (alone, together)]
    assert len(layers[0]) == len(layers[1]) > 5
    for one, two in zip(*layers, strict=True):
        assert one["layer"] == two["layer"]
        np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-6)


def test_one_process_is_the_first_and_only_one():
    assert (ranks.rank(), ranks.count(), ranks.is_first_rank()) == (0, 1, True)
    assert ranks.gathered("x") == ["x"] and ranks.from_first(lambda: 3) == 3 and ranks.first_ahead(lambda: 4) == 4
