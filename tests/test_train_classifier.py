"""The script that trains any model: its files, a kill and what follows, refusals."""

import ast
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
import train_classifier

ROOT = Path(__file__).parents[1]
TOY = ["--dataset", "digits", "--epochs", "2", "--limit", "65", "--batch-size", "32", "--device", "cpu"]


def train(*options):
    ll.cli.run_script(train_classifier.main, [*TOY, *options])


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def epochs(folder) -> list[dict]:
    """The epochs of metrics.json but their seconds, which no two runs share."""
    found = json.loads((folder / "metrics.json").read_text())["epochs"]
    assert all(entry.pop("seconds") > 0 for entry in found)
    return found


def test_a_run_keeps_checkpoints_and_metrics(here, capsys):
    train("--model", "resnet8", "--normalization", "group", "--no-shortcuts", "--schedule", "step", "--milestones", "1")
    folder = here / "runs" / "resnet8_digits"
    assert files(folder) == ["epoch_000.pth", "epoch_002.pth", "metrics.json", "state.pth"]
    printed = capsys.readouterr().out
    assert "65 training and 359 test samples" in printed and "writing into runs/resnet8_digits" in printed
    for name in ("epoch_000.pth", "epoch_002.pth"):
        assert f"Wrote runs/resnet8_digits/{name}" in printed

    test, seen = ll.load_dataset("digits", split="test"), epochs(folder)
    assert [entry["epoch"] for entry in seen] == [0, 1, 2]
    assert [entry.get("lr") for entry in seen] == [None, 0.1, pytest.approx(0.01)]
    for epoch in (0, 2):
        checkpoint = ll.load_checkpoint(folder / f"epoch_{epoch:03d}.pth")
        assert checkpoint.metadata["epoch"] == epoch and checkpoint.metadata["settings"]["milestones"] == [1]
        assert not checkpoint.model.blocks[0].shortcut
        assert isinstance(checkpoint.model.norm, torch.nn.GroupNorm)
        measured = ll.cli.score(checkpoint.model, test, device="cpu")
        for metrics in (seen[epoch], checkpoint.metadata["metrics"]):
            assert measured["loss"] == pytest.approx(metrics["test_loss"], rel=1e-5)
            assert measured["accuracy"] == metrics["test_accuracy"]


def test_the_initial_checkpoint_holds_the_weights_that_the_seed_draws(here):
    train("--model", "simplenet", "--hidden", "5", "--activation", "tanh", "--seed", "3", "--name", "first")
    ll.cli.seed_everything(3)
    fresh = ll.build_model("simplenet", input_shape=(1, 8, 8), hidden=5, activation="tanh")
    stored = ll.load_checkpoint("runs/first/epoch_000.pth").model
    for name, value in stored.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name])


@pytest.mark.parametrize(
    ("options", "kept"), [(["all"], [0, 1, 2]), (["1"], [1, 2]), (["0", "2"], [0, 2]), (["0", "1"], [0, 1, 2])]
)
def test_the_epochs_asked_for_and_the_last_get_a_checkpoint(here, options, kept):
    train("--model", "linear-mnist", "--out", "out", "--name", "x", "--save-epochs", *options)
    assert files(here / "out" / "x")[:-2] == [f"epoch_{epoch:03d}.pth" for epoch in kept]


def test_a_run_is_never_overwritten_and_a_finished_one_stays_as_it_is(here, capsys):
    train("--model", "linear-mnist")
    folder = here / "runs" / "linear-mnist_digits"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit) as caught:
        train("--model", "linear-mnist")
    assert caught.value.code == 2
    assert "epoch_000.pth exists: resume that run, or choose another name" in capsys.readouterr().err
    train("--model", "linear-mnist", "--resume")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit) as caught:
        train("--model", "linear-mnist", "--resume", "--lr", "0.2", "--save-epochs", "1")
    error = capsys.readouterr().err
    assert "its lr is 0.1, not 0.2" in error and "its save_epochs is [0, 2], not [1, 2]" in error
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(here):
    """kill -9 while an epoch runs; crops, momentum, BatchNorm and a single sample left over (65 = 2 * 32 + 1)."""
    options = ["--model", "resnet8", "--augment", "crop-flip", "--epochs", "20", "--save-epochs", "all"]
    train(*options, "--name", "whole")
    command = [sys.executable, str(ROOT / "train_classifier.py"), *TOY, *options, "--name", "killed"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    killed = here / "runs" / "killed"
    while not (killed / "epoch_003.pth").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(epochs(killed)) < 21

    train(*options, "--name", "killed", "--resume")
    assert epochs(killed) == epochs(here / "runs" / "whole")
    for epoch in range(21):  # equal content gives equal bytes
        name = f"epoch_{epoch:03d}.pth"
        assert (killed / name).read_bytes() == (here / "runs" / "whole" / name).read_bytes(), name


def test_a_run_killed_before_its_first_state_begins_anew(here):
    folder = here / "runs" / "linear-mnist_digits"
    train("--model", "linear-mnist")
    complete = epochs(folder)
    (folder / "state.pth").unlink()
    train("--model", "linear-mnist", "--resume")
    assert epochs(folder) == complete


def test_networks_of_your_own_and_of_torchvision_are_trained(here, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (here / "mine.py").write_text(
        "from torch import nn\ndef net(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    train("--model", "mine.py:net")
    checkpoint = ll.load_checkpoint(here / "runs" / "mine.py-net_digits" / "epoch_002.pth", model="mine.py:net")
    measured = ll.cli.score(checkpoint.model, ll.load_dataset("digits", split="test"), device="cpu")
    assert measured["accuracy"] == checkpoint.metadata["metrics"]["test_accuracy"]

    from PIL import Image

    for split in ("train", "test"):
        for number, colour in enumerate(["red", "blue"]):
            (folder := here / "images" / split / colour).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (32, 32), (255 * (1 - number), 9 * i, 255 * number)).save(folder / f"{i}.png")
    options = ["--dataset", "folder:images", "--limit", "4", "--epochs", "1"]
    train("--model", "torchvision:mobilenet_v3_small", *options)
    path = here / "runs" / "torchvision-mobilenet_v3_small_folder-images" / "epoch_001.pth"
    assert ll.load_checkpoint(path).model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "resnet18"], "a ResNet has depth 6n + 2"),
        (["--model", "alexnet"], "unknown model 'alexnet'; use one of linear-mnist"),
        (["--model", "torchvision:resnet18"], "needs colour images (3, height, width), not inputs (1, 8, 8)"),
        (["--model", "none.py:net"], "none.py does not exist"),
        (["--model", "simplenet", "--normalization", "batch"], "unexpected keyword argument 'normalization'"),
        (["--model", "vgg9", "--no-shortcuts"], "unexpected keyword argument 'shortcuts'"),
        (["--dataset", "nope"], "unknown dataset 'nope'"),
        (["--dataset", "fashion-mnist"], "cannot be downloaded"),
        (["--device", "abacus"], "unknown device 'abacus'"),
        (["--limit", "5000"], "cannot take 5000 samples"),
        (["--lr", "0"], "lr is 0.0"),
        (["--schedule", "step"], "schedule is step and milestones []"),
        (["--milestones", "1"], "schedule is cosine and milestones [1]"),
        (["--batch-size", "1"], "BatchNorm cannot be trained on single samples"),
        (["--save-epochs", "0", "3"], "there is no epoch 3 to save"),
        (["--out", "file"], "cannot write into file"),
        (["--bogus", "1"], "Unrecognized options"),
        (["--augment", "flip"], "'flip'"),
    ],
)
def test_wrong_input_is_one_line_exit_code_2_and_no_run(here, offline, capsys, options, message):
    (here / "file").touch()
    with pytest.raises(SystemExit) as caught:
        train("--model", "resnet8", *options)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message in error and "Traceback" not in error
    assert message[0].isupper() or "invalid choice" in message or len(error.splitlines()) == 1
    assert not list(here.glob("runs/*/*"))


def test_the_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        ll.cli.run_script(train_classifier.main, ["-h"])
    printed = capsys.readouterr().out
    assert caught.value.code == 0
    names = {*train_classifier.main.__annotations__} - {"return", "training", "network"}
    for group in (ll.Training, ll.cli.ModelOptions):
        names |= {*group.__annotations__}
    for name in names:
        assert re.search(rf"--{name.replace('_', '-')}\b", printed), name


def test_the_help_has_every_option_that_the_manual_names_and_the_script_defines_only_main(capsys):
    tree = ast.parse((ROOT / "train_classifier.py").read_text())
    assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)] == ["main"]
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"dataclasses", "pathlib", "typing", "landscape_lib"}
    with pytest.raises(SystemExit):
        ll.cli.run_script(train_classifier.main, ["-h"])
    printed = capsys.readouterr().out
    for option in re.findall(r"(--[a-z-]+)", train_classifier.__doc__):
        assert option in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "epochs is 0"),
        (["--epochs", "10000000"], "epochs is 10000000"),
        (["--batch-size", str(10**30)], "batch size is 1000"),
        (["--lr", "inf"], "lr is inf"),
        (["--seed", "-1"], "seed is -1"),
        (["--seed", str(2**64)], "seed is 18446744073709551616"),
        (["--limit", "0"], "limit is 0"),
        (["--save-epochs", "11"], "there is no epoch 11 to save"),
        (["--gamma", "0.5"], "--gamma has no effect without --milestones"),
        (["--model", "resnet15"], "a ResNet has depth 6n + 2"),
        (["--model", "missing.py:build"], "missing.py does not exist"),
        (["--model", ""], "unknown model ''"),
        (["--hidden", "3"], "cannot be built with {'hidden': 3}"),
        (["--device", ""], "unknown device ''"),
        (["--data-dir", "mine.py"], "data_dir is mine.py, which is a file; give a folder"),
        (["--model", "mine.py:build"], "mine.py, line 2: ModuleNotFoundError: No module named 'nowhere'"),
        (["--model", "mine.py:other", "--hidden", "3"], "mine.py, line 2: ModuleNotFoundError"),
    ],
)
def test_options_are_checked_before_data_are_loaded(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("\nimport nowhere\n")
    monkeypatch.setattr("train_classifier.load_dataset", None)  # not reached
    with pytest.raises(SystemExit, match="2"):
        ll.cli.run_script(train_classifier.main, options)
    *traceback, line = capsys.readouterr().err.splitlines()  # the error in a file of the user's with its traceback
    assert bool(traceback) == options[1].startswith("mine.py:")
    assert message in line and not [path for path in tmp_path.iterdir() if path.name != "mine.py"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "first"], "runs/first/epoch_000.pth exists: resume that run, or choose another name"),
        (["--model", "simplenet", "--dataset", "digits"], "runs/simplenet_digits/epoch_000.pth exists"),
        (["--name", "second", "--resume"], "there is no run runs/second to resume"),
    ],
)
def test_a_run_that_exists_or_not_is_refused_before_data_are_loaded(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("train_classifier.load_dataset", None)  # not reached
    for name in ("first", "simplenet_digits"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "epoch_000.pth").touch()
    with pytest.raises(SystemExit, match="2"):
        ll.cli.run_script(train_classifier.main, options)
    assert message in capsys.readouterr().err


def test_an_option_without_effect_is_told(here, capsys):
    train("--model", "linear-mnist", "--dataset", "digits", "--epochs", "1", "--optimizer", "adam", "--momentum", "0.5")
    assert "Note: --momentum has no effect with --optimizer adam" in capsys.readouterr().out


def test_the_file_of_a_network_is_run_once(here, capsys):
    Path("mine.py").write_text(
        "from torch import nn\n\ndef net(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    train("--model", "mine.py:net", "--dataset", "digits", "--epochs", "1")
    assert capsys.readouterr().out.count("Running mine.py") == 1


def test_a_run_that_does_not_exist_is_not_resumed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        train("--model", "linear-mnist", "--name", "none", "--resume")
    assert "there is no run runs/none to resume" in capsys.readouterr().err
