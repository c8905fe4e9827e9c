"""Checkpoints: exact round trips, no code on loading, one line for every file that is none."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from landscape.errors import InputError
from landscape.models import build_model
from landscape.training.checkpoints import load_checkpoint, prepare_checkpoint, save_checkpoint

CASES = {
    "linear-mnist": {"input_shape": (1, 5, 3), "classes": 4},
    "tiny-cnn": {"input_shape": (1, 8, 9), "classes": 4},
}


def save(path, name="linear-mnist", **changes):
    torch.manual_seed(0)
    model = build_model(name, **CASES[name]).to(memory_format=torch.channels_last).train()
    fields = {
        "model_name": name,
        "model_arguments": CASES[name],
        "data": {"name": "digits", "split": "train", "limit": None, "source": "here"},
        "epoch": np.int64(3),
        "metrics": {"test_loss": torch.tensor(0.5), "test_accuracy": np.float32(0.25)},
        "settings": {"seed": 42, "out": Path("a/b")},
    }
    save_checkpoint(path, model, **fields | changes)
    return model


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_round_trips(tmp_path, name):
    model = save(tmp_path / "new" / "model.pth", name)
    checkpoint = load_checkpoint(tmp_path / "new" / "model.pth")
    inputs = torch.randn(3, *CASES[name]["input_shape"])
    torch.testing.assert_close(checkpoint.model(inputs), model.eval()(inputs))  # another memory layout
    for stored, original in zip(checkpoint.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(stored, original) and stored.is_contiguous()
    assert not checkpoint.model.training
    assert checkpoint.sha256 == hashlib.sha256(checkpoint.path.read_bytes()).hexdigest()


def test_the_metadata_are_plain_values(tmp_path):
    save(tmp_path / "model.pth")
    metadata = load_checkpoint(str(tmp_path / "model.pth")).metadata
    assert metadata["model"] == {"name": "linear-mnist", "arguments": {"input_shape": [1, 5, 3], "classes": 4}}
    assert metadata["data"] == {"name": "digits", "split": "train", "limit": None, "source": "here"}
    assert metadata["metrics"] == {"test_loss": 0.5, "test_accuracy": 0.25}
    assert metadata["settings"] == {"seed": 42, "out": "a/b"}
    assert metadata["epoch"] == 3 and metadata["versions"]["torch"] in torch.__version__


def test_plain_torch_reads_the_weights(tmp_path):
    model = save(tmp_path / "model.pth")
    state = torch.load(tmp_path / "model.pth", weights_only=True)["model_state_dict"]
    fresh = build_model("linear-mnist", **CASES["linear-mnist"])
    fresh.load_state_dict(state)
    assert torch.equal(fresh.fc.weight, model.fc.weight)


def test_equal_content_gives_equal_bytes_under_any_name(tmp_path):
    save(tmp_path / "a.pth")
    save(tmp_path / "other.pth")
    save(tmp_path / "third.pth", epoch=4)
    a, other, third = (load_checkpoint(tmp_path / f"{name}.pth").sha256 for name in ("a", "other", "third"))
    assert a == other != third


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    save(tmp_path / "model.pth")
    before = (tmp_path / "model.pth").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        save(tmp_path / "model.pth", epoch=4)
    assert (tmp_path / "model.pth").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]


class Payload:
    """Would write a file if it were unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


def stored(path) -> dict:
    save(path)
    return torch.load(path, weights_only=True)


def changed(path, **entries) -> dict:
    return stored(path) | entries


BAD = {
    "garbage": (lambda path: b"this is no checkpoint at all", "no checkpoint, or a damaged one"),
    "empty": (lambda path: b"", "no checkpoint, or a damaged one"),
    "truncated": (lambda path: (stored(path), path.read_bytes()[:-400])[1], "no checkpoint, or a damaged one"),
    "code": (lambda path: changed(path, settings=Payload(path.parent / "ran")), "pickled code, which is never run"),
    "module": (lambda path: torch.nn.Linear(2, 2), "pickled code, which is never run"),
    "bare state dict": (lambda path: stored(path)["model_state_dict"], "bare state dict"),
    "bare tensor": (lambda path: torch.ones(3), "holds a Tensor, not a checkpoint"),
    "foreign dict": (lambda path: {"epoch": 3, "net": 1}, "lacks model_state_dict, model, data, metrics"),
    "wrong types": (lambda path: changed(path, model="linear"), "model is a str, no dict"),
    "nameless": (lambda path: changed(path, model={"arguments": {}}), "does not name its model"),
    "unknown model": (lambda path: changed(path, model={"name": "vgg", "arguments": {}}), "unknown model 'vgg'"),
    "wrong shape": (
        lambda path: changed(path, model={"name": "linear-mnist", "arguments": {}}),
        "does not fit the model it names: .*size mismatch",
    ),
    "other weights": (lambda path: changed(path, model_state_dict={"x": torch.ones(1)}), "does not fit .*fc.weight"),
    "no tensors": (lambda path: changed(path, model_state_dict={"fc.weight": 3, "fc.bias": 4}), "does not fit"),
    "arguments": (lambda path: changed(path, model={"name": "tiny-cnn", "arguments": [1]}), "does not fit"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path, case):
    make, message = BAD[case]
    path = tmp_path / "model.pth"
    content = make(path)
    if not isinstance(content, bytes):
        torch.save(content, buffer := io.BytesIO())
        content = buffer.getvalue()
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("length", range(0, 2000, 137))
def test_any_truncation_is_one_line(tmp_path, length):
    save(tmp_path / "model.pth")
    (tmp_path / "model.pth").write_bytes((tmp_path / "model.pth").read_bytes()[:length])
    with pytest.raises(InputError, match="no checkpoint, or a damaged one"):
        load_checkpoint(tmp_path / "model.pth")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pth does not exist; train it first"):
        load_checkpoint(tmp_path / "nowhere.pth")


def test_a_place_that_cannot_hold_a_checkpoint_is_refused_early(tmp_path):
    with pytest.raises(InputError, match="it is a folder; add a file name"):
        prepare_checkpoint(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write into"):
        prepare_checkpoint(tmp_path / "file" / "model.pth")
    prepare_checkpoint(tmp_path / "new" / "model.pth")
    prepare_checkpoint(tmp_path / "file")
