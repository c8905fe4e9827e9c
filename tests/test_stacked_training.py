"""Networks trained together: the numbers of `fit` one by one, hooks, present weights, refusals."""

import dataclasses

import pytest
import torch

import landscape_lib as ll

COMMON = {"epochs": 3, "batch_size": 16, "lr": 0.05}
SETTINGS = [
    ll.Training(seed=4, momentum=0.9, **COMMON),
    ll.Training(seed=1, optimizer="adam", schedule="step", milestones=(1, 2), **COMMON),
    ll.Training(seed=2, momentum=0.9, **COMMON),
    ll.Training(seed=1, weight_decay=0.01, schedule="cosine", **COMMON),
    ll.Training(seed=1, **{**COMMON, "lr": 0.2}),
]
DATA = ["moons", "xor", "moons", "circles", "moons:noise=0.05"]


def double(data):
    return dataclasses.replace(data, inputs=data.inputs.double())


def split(name, which, count):
    """``count`` samples in float64; batches of 16 leave a ragged one."""
    return double(ll.load_dataset(name, split=which, limit=count))


def network(name, activation, seed, classes=2):
    torch.manual_seed(seed)
    return ll.build_model(name, activation=activation, classes=classes).double()


def columns(history):
    """Metrics by name, one list over the epochs."""
    return {name: [metrics[name] for metrics in history] for name in history[0]}


def together(models, settings=SETTINGS, data=DATA, **options):
    trains, tests = ([split(name, which, count) for name in data] for which, count in (("train", 67), ("test", 531)))
    return ll.fit_stacked(models, trains, tests, settings, device="cpu", **options)


@pytest.mark.parametrize(
    ("name", "activation"), [("deep-small", "relu"), ("shallow-small", "gelu"), ("medium", "tanh")]
)
def test_networks_trained_together_are_those_trained_one_by_one(name, activation):
    settings = [dataclasses.replace(training, label_smoothing=0.1) for training in SETTINGS]
    models = [network(name, activation, training.seed) for training in settings]
    found = together(models, settings)
    for model, history, training, data in zip(models, found, settings, DATA, strict=True):
        alone = network(name, activation, training.seed)
        arguments = dataclasses.asdict(training)
        expected = ll.fit(alone, split(data, "train", 67), split(data, "test", 531), device="cpu", **arguments)
        found_columns, expected_columns = columns(history), columns(expected)
        assert found_columns.keys() == expected_columns.keys()
        for metric, values in expected_columns.items():
            # fit keeps running losses in float32, so that they are known to seven digits.
            assert found_columns[metric] == pytest.approx(values, rel=1e-6 if "train" in metric else 1e-9), metric
        for parameter, reference in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(parameter, reference, rtol=1e-9, atol=1e-11)


def test_in_float32_the_numbers_agree_to_rounding():
    data = [[ll.load_dataset("moons", split=which, limit=count) for which, count in (("train", 96), ("test", 50))]] * 3
    settings = [ll.Training(seed=seed, optimizer="adam", **{**COMMON, "lr": 0.001}) for seed in range(3)]
    models = [network("medium", "relu", seed).float() for seed in range(3)]
    found = ll.fit_stacked(models, *zip(*data, strict=True), settings, device="cpu")
    for history, training, (train, test) in zip(found, settings, data, strict=True):
        alone = network("medium", "relu", training.seed).float()
        expected = ll.fit(alone, train, test, device="cpu", **dataclasses.asdict(training))
        # 18 steps at rounding 6e-8 each, amplified by a network of three layers.
        assert [m["test_loss"] for m in history] == pytest.approx([m["test_loss"] for m in expected], rel=1e-4)


def test_the_hook_sees_the_present_weights_and_the_metrics():
    models = [network("shallow-small", "relu", training.seed) for training in SETTINGS]
    before = [ll.parameters_of(model) for model in models]
    seen = []

    def hook(epoch, metrics):
        scores = [ll.cli.score(model, split(name, "test", 531)) for model, name in zip(models, DATA, strict=True)]
        seen.append((epoch, metrics, scores))

    history = together(models, on_epoch=hook)
    assert [epoch for epoch, _, _ in seen] == [1, 2, 3]
    for epoch, metrics, scores in seen:
        assert metrics == [epochs[epoch - 1] for epochs in history]
        assert [m["test_loss"] for m in metrics] == pytest.approx([score["loss"] for score in scores], rel=1e-9)
    assert not any(torch.equal(old["fc.weight"], model.fc.weight) for old, model in zip(before, models, strict=True))


def test_one_network_is_a_stack_too():
    model = network("medium", "relu", 4)
    (history,) = together([model], SETTINGS[:1], DATA[:1])
    assert len(history) == 3 and not model.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": 1}, "pass one of each"),
        ({"activation": "tanh"}, "the networks differ"),
        ({"data": "gaussians"}, "the training data differ"),
        ({"setting": {"epochs": 4}}, "the settings differ"),
        ({"setting": {"batch_size": 8}}, "the settings differ"),
        ({"setting": {"augment": "crop"}}, "augmented data cannot"),
        ({"setting": {"lr": 0.0}}, "lr is 0.0"),
        ({"norm": True}, "only networks of linear layers"),
    ],
)
def test_what_cannot_be_stacked_is_refused(change, message):
    second = dataclasses.replace(SETTINGS[1], **change.get("setting", {}))
    models = [network("medium", "relu", 0), network("medium", change.get("activation", "relu"), 1)]
    if change.get("norm"):
        models = [torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2)).double() for _ in range(2)]
    with pytest.raises(ll.InputError, match=message):
        together(models[: change.get("models", 2)], [SETTINGS[0], second], ["moons", change.get("data", "moons")])
