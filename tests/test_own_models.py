"""Networks of the user's own: which arguments they get, and that no checkpoint can make their code run."""

import importlib
import sys

import pytest
import torch
from torch import nn

import landscape_lib as ll
from landscape.errors import InputError
from landscape.models import build_model, check_model

FILE = """
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from beside import WIDTH

Path("ran").touch()


@dataclass
class Settings:
    classes: "int"


def build(input_shape, classes):
    channels, height, width = input_shape
    assert type(input_shape) is tuple
    first = nn.Linear(channels * height * width, WIDTH)
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), nn.Linear(WIDTH, classes))


def classes_only(classes=3, hidden=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.Linear(hidden, Settings(classes).classes))


def anything(**arguments):
    model = nn.Flatten()
    model.arguments = arguments
    return model


class Net(nn.Linear):
    def __init__(self, classes):
        super().__init__(2, classes)


def needs(width):
    return nn.Linear(width, 1)


def wrong():
    return "a network"


def broken():
    raise KeyError("my own mistake")


WIDTH_AGAIN = 5
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mine.py").write_text(FILE)
    (tmp_path / "nets" / "beside.py").write_text("WIDTH = 5\n")
    return tmp_path


def test_a_function_gets_the_arguments_that_it_takes(here, capsys):
    shape = [1, 8, 8]
    assert build_model("nets/mine.py:build", input_shape=shape, classes=3)[1].out_features == 5
    assert "Running nets/mine.py, whose function build builds the model" in capsys.readouterr().out
    assert build_model("nets/mine.py:classes_only", input_shape=shape, classes=2, hidden=6)[1].out_features == 6
    given = build_model("nets/mine.py:anything", input_shape=shape, classes=2, depth=1).arguments
    assert given == {"input_shape": (1, 8, 8), "classes": 2, "depth": 1}
    assert build_model(f"{here}/nets/mine.py:Net", input_shape=shape, classes=7).out_features == 7


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("nets/none.py:build", {}, "nets/none.py does not exist; give FILE.py:FUNCTION that builds the model"),
        ("nets/mine.py", {}, "'nets/mine.py' names no function; write FILE.py:FUNCTION"),
        ("nets/mine.py:", {}, "'nets/mine.py:' names no function"),
        ("nets/mine.py:other", {}, "nets/mine.py has no function 'other'"),
        ("nets/mine.py:WIDTH_AGAIN", {}, "nets/mine.py has no function 'WIDTH_AGAIN'"),
        ("nets/mine.py:wrong", {}, "nets/mine.py:wrong returned a str; it must return a torch.nn.Module"),
        (
            "nets/mine.py:needs",
            {"classes": 3},
            "nets/mine.py:needs cannot be called with {}: missing a required argumen",
        ),
        (
            "nets/mine.py:build",
            {"input_shape": (1,), "classes": 2, "hidden": 3},
            "unexpected keyword argument 'hidden'",
        ),
    ],
)
def test_what_cannot_be_built_is_one_line(here, name, arguments, message):
    with pytest.raises(InputError) as caught:
        build_model(name, **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def build(:\n    pass", r"bad\.py, line 1: SyntaxError: .*"),
        ("\n\nimport no_such_module\n", r"bad\.py, line 3: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def build():\n    raise KeyError('my own\\nmistake')", r"bad\.py, line 2: KeyError: 'my own\\nmistake'"),
        ("def build():\n    import torch\n    torch.zeros(2) @ torch.zeros(3)", r"bad\.py, line 3: RuntimeError: .*"),
        ("import sys\n\nsys.exit(3)", r"bad\.py, line 3: SystemExit: 3"),
        ("def build():\n    return build()", r"bad\.py, line 2: RecursionError: .*"),
        ("a = b'\0'", r"bad\.py.*: (SyntaxError|ValueError): source code (string )?cannot contain null bytes"),
        ("import torch\n\nbuild = torch.nn.Linear", r"cannot be called with \{\}: missing a required argument.*"),
        ("import torch\n\ndef build():\n    return torch.nn.Linear", "returned the class Linear itself; it must .*"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_its_place(here, code, message):
    (here / "bad.py").write_text(code)
    with pytest.raises(InputError, match=message) as caught:
        build_model("bad.py:build")
    assert "\n" not in str(caught.value)


def test_what_is_no_python_is_refused_without_running_it(here):
    (here / "bad.py").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    (here / "late.py").write_text("from pathlib import Path\n\nPath('ran').touch()\n\ndef build(:\n")
    for name in ("bad.py:build", "late.py:build"):
        with pytest.raises(InputError, match=r"(bad|late)\.py.*Error"):
            check_model(name)
    check_model("nets/mine.py:broken")
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet15", {}, "depth 6n"),
        ("torchvision:nope", {}, "torchvision has no classification model 'nope'"),
        ("simplenet", {"normalization": "batch"}, "cannot be built with {'normalization': 'batch'}"),
        ("", {}, "unknown model ''"),
    ],
)
def test_a_model_is_checked_without_data(name, arguments, message):
    before = torch.get_rng_state()
    with pytest.raises(InputError, match=message):
        check_model(name, **arguments)
    check_model("resnet14", shortcuts=False)
    assert torch.equal(before, torch.get_rng_state())


@pytest.fixture
def checkpoint(here):
    """A checkpoint of nets/mine.py:build, the trace of running that file removed."""
    arguments = {"input_shape": (1, 8, 8), "classes": 10}
    model = build_model("nets/mine.py:build", **arguments)
    fields = {"data": {"name": "digits", "limit": 40}, "epoch": 1, "metrics": {}, "settings": {}}
    ll.save_checkpoint("own.pth", model, model_name="nets/mine.py:build", model_arguments=arguments, **fields)
    (here / "ran").unlink()
    (here / "nets" / "mine.py").write_text(FILE + "\n# changed, so that it is run again\n")
    return model


def test_a_checkpoint_alone_never_runs_code(here, checkpoint):
    with pytest.raises(InputError) as caught:
        ll.load_checkpoint("own.pth")
    assert str(caught.value).endswith("only if you name it: load_checkpoint(path, model='nets/mine.py:build')")
    for other in ("", "tiny-cnn"):
        with pytest.raises(InputError):
            ll.load_checkpoint("own.pth", model=other)
    assert not (here / "ran").exists()


def test_a_checkpoint_is_loaded_by_the_code_that_the_caller_names(here, checkpoint):
    loaded = ll.load_checkpoint("own.pth", model="nets/mine.py:build")
    assert (here / "ran").exists() and not loaded.model.training
    for stored, original in zip(loaded.model.parameters(), checkpoint.parameters(), strict=True):
        assert torch.equal(stored, original)
    assert loaded.model_name == "nets/mine.py:build"
    with pytest.raises(InputError, match=r"does not fit 'nets/mine\.py:classes_only': .*size mismatch"):
        ll.load_checkpoint("own.pth", model="nets/mine.py:classes_only")
    with pytest.raises(InputError, match=r"does not fit 'gone\.py:build': gone\.py does not exist"):
        ll.load_checkpoint("own.pth", model="gone.py:build")


def test_another_name_builds_a_model_of_the_toolkit_too(here):
    model = ll.build_model("resnet8", input_shape=(1, 8, 8))
    fields = {"data": {"name": "digits"}, "epoch": 1, "metrics": {}, "settings": {}}
    ll.save_checkpoint("own.pth", model, model_name="lost.py:net", model_arguments={"input_shape": (1, 8, 8)}, **fields)
    assert isinstance(ll.load_checkpoint("own.pth", model="resnet8").model, nn.Module)


@pytest.mark.parametrize("script", ["visualize_loss_landscape", "visualize_single_sample_landscapes"])
def test_the_scripts_draw_a_network_of_your_own_when_told_its_code(here, checkpoint, monkeypatch, capsys, script):
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr("warnings.showwarning", print)  # run_script replaces it
    main = importlib.import_module(script).main
    options = ["--checkpoint", "own.pth", "--resolution", "3", "--device", "cpu"]
    options += ["--no-figures"] if script == "visualize_loss_landscape" else ["--samples", "2"]
    with pytest.raises(SystemExit) as caught:
        ll.cli.run_script(main, options)
    assert caught.value.code == 2 and "--model 'nets/mine.py:build'" in capsys.readouterr().err
    assert not (here / "ran").exists()
    ll.cli.run_script(main, [*options, "--model", "nets/mine.py:build"])
    assert (here / "ran").exists()
    assert list((here / "loss_landscape_results").glob("*loss_grid*_nets-mine.py-build.npz"))
