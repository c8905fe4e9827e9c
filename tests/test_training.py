"""The training loop against one written out by hand, and the two training scripts at toy size."""

import ast
import importlib
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from landscape.cli.scripts import run_script
from landscape.datasets import Data, load_dataset
from landscape.errors import InputError
from landscape.models import build_model
from landscape.runtime.devices import seed_everything
from landscape.training.checkpoints import load_checkpoint
from landscape.training.loop import Training, fit, score
from landscape.training.single import train_checkpoint
from landscape.training.state import TrainingState

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
    monkeypatch.setattr("landscape.training.loop.SCORE_BATCH", 4)
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
    with pytest.warns(UserWarning, match="the training loss of epoch 1 is nan; lower the learning rate"):
        fit(linear(), toy(), toy(), **QUICK | {"lr": 1e38, "epochs": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch size 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": -0.1}, "lr is -0.1"),
        ({"momentum": 1.0}, "momentum 1.0"),
        ({"weight_decay": -1.0}, "weight decay is -1.0"),
        ({"label_smoothing": 1.0}, "label smoothing 1.0"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; use one of sgd, adam"),
        ({"schedule": "linear"}, "unknown schedule 'linear'; use one of constant, step, cosine"),
        ({"augment": "flip"}, "unknown augment 'flip'; use one of none, crop, crop-flip"),
        ({"schedule": "step"}, "schedule is step and milestones []"),
        ({"schedule": "cosine", "milestones": (1,)}, "schedule is cosine and milestones [1]"),
        ({"milestones": (0, 1)}, "milestones [0, 1]"),
        ({"milestones": (1,), "gamma": 0.0}, "gamma is 0.0"),
        ({"device": "abacus"}, "unknown device 'abacus'"),
    ],
)
def test_impossible_settings_are_one_line(changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        fit(linear(), toy(), toy(), **QUICK | changes)


def test_the_learning_rate_follows_its_schedule():
    def rates(**changes):
        training = Training(**{"epochs": 4, "batch_size": 4, "lr": 0.1, "seed": 7} | changes)
        training.check()
        return [training.learning_rate(epoch) for epoch in range(1, 5)]

    assert rates() == rates(schedule="constant") == [0.1] * 4
    assert rates(milestones=(3, 1), gamma=0.5) == [0.1, 0.05, 0.05, 0.025]
    half = 2**-0.5
    assert rates(schedule="cosine") == pytest.approx([0.1, 0.05 * (1 + half), 0.05, 0.05 * (1 - half)])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.1)
    for rate in rates(lr=0.01, milestones=(1, 3)):  # to the last bit
        assert rate == reference.get_last_lr()[0]
        optimizer.step()
        reference.step()


def test_fit_is_adam_with_weight_decay_and_label_smoothing():
    data, model = toy(), linear()
    weight, bias = (p.detach().double().numpy() for p in model.parameters())
    history = fit(model, data, data, optimizer="adam", weight_decay=0.2, label_smoothing=0.3, **QUICK)

    # The same in numpy: Kingma and Ba 2015, algorithm 1, on the loss with soft labels and an L2 penalty.
    order, parameters = torch.Generator().manual_seed(7), [weight.copy(), bias.copy()]
    inputs, targets = data.inputs.flatten(1).double().numpy(), data.targets.numpy()
    first, second, step = [0.0, 0.0], [0.0, 0.0], 0
    for epoch in range(2):
        losses = []
        for picked in torch.randperm(11, generator=order).split(4):
            x, soft = inputs[picked.numpy()], np.eye(3)[targets[picked.numpy()]] * 0.7 + 0.1
            logits = x @ parameters[0].T + parameters[1]
            share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            losses += [*-(soft * np.log(share)).sum(1)]
            error, step = (share - soft) / len(x), step + 1
            gradients = [g + 0.2 * p for g, p in zip((error.T @ x, error.sum(0)), parameters, strict=True)]
            first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
            second = [0.999 * v + 0.001 * g**2 for v, g in zip(second, gradients, strict=True)]
            for p, m, v in zip(parameters, first, second, strict=True):
                p -= 0.1 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        assert history[epoch]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    np.testing.assert_allclose(model.fc.weight.detach().numpy(), parameters[0], atol=1e-4)
    np.testing.assert_allclose(model.fc.bias.detach().numpy(), parameters[1], atol=1e-4)


def test_a_single_sample_left_over_joins_the_batch_before_it_where_there_is_batch_norm():
    def sizes(model, samples=9, batch_size=4):
        seen = []
        model[0].register_forward_pre_hook(
            lambda module, given: seen.append(len(given[0])) if module.training else None
        )
        fit(model, toy(samples), toy(), **QUICK | {"batch_size": batch_size, "epochs": 1})
        return seen

    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    normalized = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))
    assert sizes(plain) == [4, 4, 1]
    assert sizes(normalized) == [4, 5] and sizes(normalized, samples=10) == [4, 4, 2]
    assert sizes(normalized, samples=3) == [3] and sizes(normalized, samples=3, batch_size=2) == [3]
    for samples, batch_size in ((9, 1), (1, 4)):
        with pytest.raises(InputError, match=f"batch size is {batch_size} for {samples} samples; BatchNorm"):
            sizes(normalized, samples, batch_size)


def test_the_hook_sees_epoch_zero_where_asked():
    seen, initial, test = [], linear(), toy(seed=1)
    before = score(initial, test, device="cpu")
    fit(
        initial, toy(), test, epoch_zero=True, on_epoch=lambda epoch, _, metrics: seen.append((epoch, metrics)), **QUICK
    )
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    assert seen[0][1] == {"test_loss": before["loss"], "test_accuracy": before["accuracy"]}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("stop", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, optimizer, stop):
    """Dropout, BatchNorm, crops, a ragged last batch and a hook that uses every global generator."""
    settings = QUICK | {"epochs": 3, "momentum": 0.9, "optimizer": optimizer, "schedule": "cosine"}
    drawn = []

    def network():
        seed_everything(0)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 3)]
        return nn.Sequential(*layers)

    def trained(model, path, hook):
        history = fit(model, toy(), toy(seed=1), augment="crop", on_epoch=hook, state=path, **settings)
        return history, model.state_dict(), drawn[-1]

    def draw(epoch, model, metrics):
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))

    def fail(epoch, model, metrics):
        draw(epoch, model, metrics)
        if epoch == stop:
            raise KeyboardInterrupt

    whole = trained(network(), tmp_path / "whole.pth", draw)
    with pytest.raises(KeyboardInterrupt):
        trained(network(), tmp_path / "part.pth", fail)
    assert (tmp_path / "part.pth").exists() == (stop > 1)  # that of the epoch before
    resumed = trained(network(), tmp_path / "part.pth", draw)
    again = trained(network(), tmp_path / "part.pth", draw)  # nothing is left to do
    for other in (resumed, again):
        assert other[0] == whole[0] and other[2] == whole[2]
        assert all(torch.equal(value, whole[1][name]) for name, value in other[1].items())
    assert len(drawn) == 3 + stop + (4 - stop)


def test_a_state_of_another_run_is_refused(tmp_path):
    path = tmp_path / "state.pth"
    fit(linear(), toy(), toy(seed=1), state=path, notes={"model": "linear"}, **QUICK)
    same = {"state": path, "notes": {"model": "linear"}, **QUICK}
    for changes, message in (
        ({"lr": 0.2, "momentum": 0.5}, "its lr is 0.1, not 0.2, its momentum is 0.0, not 0.5; use the stored settings"),
        ({"notes": {"model": "cubic"}}, "its model is linear, not cubic"),
        ({"notes": None}, "its model is linear, not None"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            fit(linear(), toy(), toy(seed=1), **same | changes)
    with pytest.raises(InputError, match="settings: its training data is"):
        fit(linear(), toy(seed=3), toy(seed=1), **same)
    with pytest.raises(InputError, match=r"belongs to a run with another model: .*size mismatch"):
        fit(build_model("linear-mnist", input_shape=(1, 8, 8), classes=4), toy(), toy(seed=1), **same)
    for content in (b"", b"nonsense", path.read_bytes()[:-300]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"state\.pth is no state of a training run, or a damaged one"):
            fit(linear(), toy(), toy(seed=1), **same)


# The scripts

SCRIPTS = ("train_mnist", "train_cifar10_cnn")
TOY = ["--dataset", "digits", "--epochs", "2", "--limit", "200", "--out", "model.pth", "--device", "cpu"]


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


def refusal(main, arguments, capsys) -> str:
    """The one line with which ``main`` ends, before it prints its settings."""
    with pytest.raises(SystemExit, match="2"):
        run_script(main, arguments)
    printed = capsys.readouterr()
    assert "Settings" not in printed.out and len(printed.err.splitlines()) == 1
    return printed.err


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_checkpoint_of_another_network_or_other_data_is_replaced_only_by_force(here, monkeypatch, capsys, name):
    run_script(script(name), TOY)
    first = Path("model.pth").read_bytes()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("landscape.training.single.fit", None)  # not reached
        error = refusal(script(name), [*TOY, "--dataset", "mnist-5k"], capsys)
        assert "model.pth holds another network, which is not replaced: its data name is digits, not mnist-5k" in error
        assert "--out FILE" in error and "--force" in error
        other = script(SCRIPTS[1 - SCRIPTS.index(name)])
        assert "its model name is" in refusal(other, TOY, capsys)
    assert Path("model.pth").read_bytes() == first
    run_script(script(name), [*TOY, "--seed", "7"])  # other settings are what one tries
    assert load_checkpoint("model.pth").metadata["settings"]["seed"] == 7
    run_script(script(name), [*TOY, "--dataset", "mnist-5k", "--force"])
    assert load_checkpoint("model.pth").metadata["data"]["name"] == "mnist-5k"


def test_a_file_that_is_no_checkpoint_is_not_replaced(here, capsys):
    Path("model.pth").write_text("notes")
    error = refusal(script("train_mnist"), TOY, capsys)
    assert "model.pth exists and is no checkpoint that can be compared, so it is not replaced; write into" in error
    assert Path("model.pth").read_text() == "notes"


def test_the_cnn_script_keeps_the_best_epoch(here, monkeypatch):
    def scripted(model, train, test, *, on_epoch, **_):
        for epoch, accuracy in enumerate((0.2, 0.6, 0.6, 0.5), start=1):
            nn.init.constant_(model.fc.bias, epoch)
            on_epoch(epoch, model, {"test_accuracy": accuracy})

    monkeypatch.setattr("landscape.training.single.fit", scripted)
    run_script(script("train_cifar10_cnn"), TOY)
    checkpoint = load_checkpoint("model.pth")
    assert checkpoint.metadata["epoch"] == 2 and checkpoint.metadata["metrics"] == {"test_accuracy": 0.6}
    assert (checkpoint.model.fc.bias == 2).all()


@pytest.mark.parametrize("name", SCRIPTS)
def test_interrupted_training_is_resumed_to_the_same_bits(here, monkeypatch, capsys, name):
    arguments = [
        *TOY,
        "--epochs",
        "4",
        "--lr",
        "1",
        "--batch-size",
        "20",
    ]  # so large that the best epoch is not the last
    run_script(script(name), arguments)
    whole = load_checkpoint("model.pth")
    Path("model.pth").unlink()
    save, trained = TrainingState.save, []

    def stopped(self, history):
        save(self, history)
        trained.append(len(history))
        if trained == [1, 2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "save", stopped)
    with pytest.raises(SystemExit, match="130"):
        run_script(script(name), arguments)
    run_script(script(name), [*TOY, "--out", "other.pth"])  # another run is in nobody's way
    trained = [1, 2]
    run_script(script(name), arguments)
    assert trained == [1, 2, 3, 4] and "Resuming the interrupted training" in capsys.readouterr().out
    resumed = load_checkpoint("model.pth")
    assert resumed.sha256 == whole.sha256 and resumed.metadata["metrics"] == whole.metadata["metrics"]
    assert {path.name for path in here.iterdir()} == {"model.pth", "other.pth"}


def test_the_best_epoch_before_an_interruption_is_not_lost(here, monkeypatch):
    """Without the checkpoint that held it, training begins anew."""
    options, data = {"epochs": 2, "batch_size": 50, "lr": 0.1, "seed": 1}, load_dataset("digits", limit=100)
    save, trained = TrainingState.save, []

    def stopped(self, history):
        save(self, history)
        trained.append(len(history))
        if trained == [1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_checkpoint("model.pth", "tiny-cnn", data, data, Training(**options), device="cpu", keep="best")
    Path("model.pth").unlink()
    train_checkpoint("model.pth", "tiny-cnn", data, data, Training(**options), device="cpu", keep="best")
    assert trained == [1, 1, 2]


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
        (["--lr", "nan"], "lr is nan"),
        (["--seed", "-1"], "seed is -1"),
        (["--limit", "-1"], "limit is -1"),
        (["--batch-size", str(10**20)], "batch size is 1000"),
        (["--out", "."], "it is a folder"),
        (["--data-dir", "file"], "data_dir is file, which is a file"),
        (["--bogus", "1"], "Unrecognized options"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(here, offline, capsys, name, arguments, message):
    Path("file").touch()
    with pytest.raises(SystemExit) as caught:
        run_script(script(name), arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message in error and "Traceback" not in error
    assert len(error.splitlines()) == 1


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
    assert modules - {"pathlib", "typing", "torch"} == {"landscape_lib"}  # torch and typing only for types
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


def test_the_models_come_from_their_scripts():
    from train_cifar10_cnn import TinyCNN
    from train_mnist import LinearMNIST

    assert sum(p.numel() for p in LinearMNIST().parameters()) == 7_850
    assert sum(p.numel() for p in TinyCNN().parameters()) == 19_466


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), r"gives \[2, 3\] for 2 samples of digits"),
        (nn.Linear(8, 10), r"gives \[2, 1, 8, 10\] for 2 samples"),
        (nn.Sequential(nn.Flatten(), nn.Linear(6, 10)), r"does not take samples of digits, of shape"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused_before_training(network, message):
    data, before = load_dataset("digits", limit=20), torch.get_rng_state()
    with pytest.raises(InputError, match=message):
        fit(network, data, data, epochs=1, batch_size=10, lr=0.1, seed=0, device="cpu")
    assert torch.equal(before, torch.get_rng_state())
