"""The training loop against one written out by hand, and the two training scripts at toy size."""

import ast
import importlib
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from landscape.checkpoints import load_checkpoint
from landscape.datasets import Data, load_dataset
from landscape.errors import InputError
from landscape.models import build_model
from landscape.scripts import run_script
from landscape.training import fit, score

QUICK = {"epochs": 2, "batch_size": 4, "lr": 0.1, "seed": 7, "device": "cpu"}


def toy(n: int = 11, shape=(1, 8, 8), seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, *shape, generator=generator)
    targets = torch.randint(0, 3, (n,), generator=generator)
    fields = {"classes": tuple("abc"), "name": "toy", "split": "train", "source": "made here"}
    return Data(inputs, targets, mean=(0.0,), std=(1.0,), indices=torch.arange(n), **fields)


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_model("linear-mnist", input_shape=(1, 8, 8), classes=3)


def test_fit_is_sgd_with_momentum_and_milestones():
    data, model = toy(), linear()
    weight, bias = (p.detach().double().clone() for p in model.parameters())
    history = fit(model, data, data, momentum=0.5, milestones=(1,), **QUICK | {"epochs": 3})

    # The same in numpy, with the gradient of the softmax cross-entropy written out.
    order = torch.Generator().manual_seed(7)
    inputs, targets = data.inputs.flatten(1).double().numpy(), data.targets.numpy()
    weight, bias = weight.numpy(), bias.numpy()
    velocity = [np.zeros_like(weight), np.zeros_like(bias)]
    for epoch in range(3):
        lr, losses = (0.1, 0.01, 0.01)[epoch], []
        for picked in torch.randperm(11, generator=order).split(4):  # batches of 4, 4 and 3
            x, y = inputs[picked.numpy()], targets[picked.numpy()]
            logits = x @ weight.T + bias
            share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            losses += [*-np.log(share[range(len(y)), y])]
            error = (share - np.eye(3)[y]) / len(y)
            velocity = [0.5 * v + g for v, g in zip(velocity, (error.T @ x, error.sum(0)), strict=True)]
            weight, bias = weight - lr * velocity[0], bias - lr * velocity[1]
        assert history[epoch]["lr"] == pytest.approx(lr)
        assert history[epoch]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    np.testing.assert_allclose(model.fc.weight.detach().numpy(), weight, atol=1e-5)
    np.testing.assert_allclose(model.fc.bias.detach().numpy(), bias, atol=1e-5)


def test_score_is_the_mean_over_samples_with_a_ragged_batch(monkeypatch):
    monkeypatch.setattr("landscape.training.SCORE_BATCH", 4)
    data, model = toy(), linear()
    logits = (data.inputs.flatten(1) @ model.fc.weight.T + model.fc.bias).detach().double().numpy()
    rows, targets = np.arange(11), data.targets.numpy()
    losses = np.log(np.exp(logits).sum(1)) - logits[rows, targets]
    result = score(model, data, device="cpu")
    assert result["loss"] == pytest.approx(losses.mean(), rel=1e-6)
    assert result["accuracy"] == (logits.argmax(1) == targets).mean()


def test_score_uses_eval_mode_and_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.9), nn.Linear(64, 3))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = score(model, toy(), device="cpu"), score(model, toy(), device="cpu")
    assert first == second
    assert [module.training for module in model] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["linear-mnist", "tiny-cnn"])
def test_the_same_seed_gives_the_same_weights(name):
    def trained(**changes):
        torch.manual_seed(0)
        model = build_model(name, input_shape=(1, 8, 8), classes=3)
        torch.rand(3)  # what happens to the global generator afterwards must not matter
        fit(model, toy(), toy(seed=1), **QUICK | changes)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert torch.equal(trained(), trained())
    assert not torch.equal(trained(), trained(seed=8))


def test_the_hook_sees_every_epoch_after_its_test():
    seen, test = [], toy(seed=1)

    def look(epoch, model, metrics):
        assert not model.training
        seen.append((epoch, metrics["test_accuracy"], score(model, test, device="cpu")["accuracy"]))

    history = fit(linear(), toy(), test, on_epoch=look, **QUICK)
    assert [epoch for epoch, _, _ in seen] == [1, 2]
    assert all(told == measured for _, told, measured in seen)
    assert [metrics["test_accuracy"] for metrics in history] == [told for _, told, _ in seen]


def test_progress_is_printed_every_hundred_batches(capsys):
    fit(linear(), toy(410), toy(), **QUICK | {"batch_size": 2, "epochs": 1})
    printed = capsys.readouterr().out
    assert re.findall(r"batch (\d+) of 205: loss [\d.]+, accuracy [\d.]+%", printed) == ["100", "200"]
    assert re.search(r"epoch 1 of 1: train loss .* test loss .* accuracy .* s left", printed)


def test_a_diverging_run_warns():
    with pytest.warns(UserWarning, match="the loss of epoch 1 is nan: lower lr"):
        fit(linear(), toy(), toy(), **QUICK | {"lr": 1e38, "epochs": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch size 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": -0.1}, "lr is -0.1"),
        ({"momentum": 1.0}, "momentum 1.0"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
    ],
)
def test_impossible_settings_are_one_line(changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        fit(linear(), toy(), toy(), **QUICK | changes)


# The scripts

SCRIPTS = ("train_mnist", "train_cifar10_cnn")
TOY = ["--dataset", "digits", "--epochs", "2", "--limit", "200", "--out", "model.pth", "--device", "cpu"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # run_script replaces it
    return tmp_path


def script(name: str):
    return importlib.import_module(name).main


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_writes_a_checkpoint_that_describes_itself_twice_the_same(here, capsys, name):
    run_script(script(name), TOY)
    printed, first = capsys.readouterr().out, load_checkpoint("model.pth")
    assert "200 training and 359 test samples" in printed and "Wrote model.pth" in printed
    metadata = first.metadata
    assert metadata["data"]["name"] == "digits" and metadata["data"]["split"] == "train"
    assert metadata["data"]["limit"] == 200 and metadata["settings"]["seed"] == 42
    measured = score(first.model, load_dataset("digits", split="test"), device="cpu")
    assert measured["accuracy"] == metadata["metrics"]["test_accuracy"]
    run_script(script(name), TOY)
    assert "model.pth exists and will be replaced" in capsys.readouterr().out
    assert load_checkpoint("model.pth").sha256 == first.sha256
    assert [path.name for path in here.iterdir()] == ["model.pth"]


def test_the_cnn_script_keeps_the_best_epoch(here, monkeypatch):
    module = importlib.import_module("train_cifar10_cnn")

    def scripted(model, train, test, *, on_epoch, **_):
        for epoch, accuracy in enumerate((0.2, 0.6, 0.6, 0.5), start=1):
            nn.init.constant_(model.fc.bias, epoch)
            on_epoch(epoch, model, {"test_accuracy": accuracy})

    monkeypatch.setattr(module, "fit", scripted)
    run_script(module.main, TOY)
    checkpoint = load_checkpoint("model.pth")
    assert checkpoint.metadata["epoch"] == 2 and checkpoint.metadata["metrics"] == {"test_accuracy": 0.6}
    assert (checkpoint.model.fc.bias == 2).all()


def test_the_default_dataset_records_what_was_used(here, small_data, offline, capsys):
    run_script(script("train_mnist"), ["--epochs", "1", "--data-dir", str(small_data)])
    printed = capsys.readouterr()
    assert "INSTEAD OF ALL OF MNIST" in printed.err and "mnist-5k, 4,000 training" in printed.out
    checkpoint = load_checkpoint("mnist_linear_model.pth")
    assert checkpoint.metadata["data"]["name"] == "mnist-5k"
    assert checkpoint.metadata["metrics"]["test_accuracy"] > 0.75


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nope"], "unknown dataset 'nope'"),
        (["--dataset", "mnist"], "cannot be downloaded"),
        (["--dataset", "folder:nowhere"], "nowhere has no folder train"),
        (["--device", "abacus"], "unknown device 'abacus'"),
        (["--dataset", "digits", "--limit", "5000"], "cannot take 5000 samples"),
        (["--dataset", "digits", "--lr", "0"], "lr is 0.0"),
        (["--out", "."], "it is a folder"),
        (["--bogus", "1"], "Unrecognized options"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(here, offline, capsys, name, arguments, message):
    with pytest.raises(SystemExit) as caught:
        run_script(script(name), arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message in error and "Traceback" not in error
    assert "--bogus" in arguments or len(error.splitlines()) == 1


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_help_explains_every_option(capsys, name):
    main = script(name)
    with pytest.raises(SystemExit) as caught:
        run_script(main, ["-h"])
    printed = capsys.readouterr().out
    assert caught.value.code == 0
    for option in main.__annotations__.keys() - {"return"}:
        assert f"--{option.replace('_', '-')}" in printed
        assert re.search(rf"^        {option}: \S", main.__doc__, re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_defines_only_main_and_imports_only_the_face(name):
    tree = ast.parse((Path(__file__).parents[1] / f"{name}.py").read_text())
    assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)] == ["main"]
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"pathlib", "landscape_lib"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


def test_the_models_come_from_their_scripts():
    from train_cifar10_cnn import TinyCNN
    from train_mnist import LinearMNIST

    assert sum(p.numel() for p in LinearMNIST().parameters()) == 7_850
    assert sum(p.numel() for p in TinyCNN().parameters()) == 19_466
