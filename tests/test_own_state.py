"""Networks with weights and data of the user's own, in one command: what is read, what fits, and what is refused."""

import io
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import ROOT, run
from torch import nn

import landscape_lib as ll
from landscape.storage.states import read_state

MINE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh())
        self.head = nn.Linear(5, classes)

    def forward(self, x):
        return self.head(self.body(x))


def build():
    return Net()


def wide():
    return Net(classes=7)


def no_loaders():
    return open("nowhere.csv").read(), None


def failing():
    scale = 1 / 0
    return Net()


def arrays(count):
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 4, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def tensors():
    return arrays(30), arrays(20)


def loaders():
    train, test = (TensorDataset(*arrays(count)) for count in (30, 20))
    return DataLoader(train, batch_size=7, shuffle=True, drop_last=True), DataLoader(test, batch_size=8)


def inputs_only():
    return arrays(30)[0], arrays(20)[0]


def one():
    return DataLoader(TensorDataset(*arrays(30)))


def numbers():
    return tuple((inputs, inputs[:, :3].clone()) for inputs, _ in tensors())


def ragged():
    batches = [{"x": torch.ones(k, 4), "name": [str(k)] * k} for k in (3, 4)]
    return DataLoader(batches, batch_size=None), DataLoader(batches, batch_size=None)


def squared(model, batch):
    return model(batch[0]).square().sum(1)


def alone(model, batch):
    return model(batch).square().sum(1)


def named(model, batch):
    return model(batch["x"]).square().sum(1)


def bad_loss(model, batch):
    return model(batch[0]).foo()
"""


@pytest.fixture
def mine(here):
    """The module mine.py in the working folder, and a trained network of it."""
    Path("mine.py").write_text(MINE)
    names = {}
    exec(MINE, names)
    torch.manual_seed(0)
    names["model"] = names["build"]()
    names["model"](names["arrays"](30)[0])  # so that the running statistics are not the first ones
    return names


def plain_loss(model, inputs, targets):
    """Float64 oracle: the mean cross-entropy of a plain pass."""
    with torch.no_grad():
        logits = model.double().eval()(inputs.double()).numpy()
    model.float()
    logits = logits - logits.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(targets)), targets.numpy()]))


def lightning_checkpoint(path, model):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"lr": 0.1})
            self.net = model
            self.criterion = nn.CrossEntropyLoss(weight=torch.ones(3))

        def training_step(self, batch, _):
            return self.criterion(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.0)

    data = torch.utils.data.TensorDataset(torch.zeros(4, 4), torch.zeros(4, dtype=torch.int64))
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=path.parent, **options)
    trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=4))
    trainer.save_checkpoint(path)


def save_safetensors(path, model):
    pytest.importorskip("safetensors.torch").save_file(model.state_dict(), path)


def exported(path, model):
    program = torch.export.export(model.eval(), (torch.ones(2, 4),))
    with Path(path).open("wb") as file:
        torch.export.save(program, file)


SAVED = {
    "state dict": lambda path, model: torch.save(model.state_dict(), path),
    "in a training run": lambda path, model: torch.save({"epoch": 3, "model": model.state_dict(), "lr": 0.1}, path),
    "compiled": lambda path, model: torch.save({f"_orig_mod.{k}": v for k, v in model.state_dict().items()}, path),
    "parallel": lambda path, model: torch.save(nn.DataParallel(model).state_dict(), path),
    "average": lambda path, model: torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), path),
    "before 1.6": lambda path, model: torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False),
    "lightning": lightning_checkpoint,
    "safetensors": save_safetensors,
    "export": exported,
    "ours": lambda path, model: ll.save_checkpoint(
        path, model, model_name="mine.py:build", data={"name": "mine"}, epoch=2, metrics={}, settings={}
    ),
}


@pytest.mark.filterwarnings("ignore:left out criterion.weight", "ignore::UserWarning:lightning")
@pytest.mark.parametrize("kind", SAVED)
def test_weights_of_every_kind_of_file_fit_the_network(mine, kind):
    path = Path("weights.file")
    SAVED[kind](path, mine["model"])
    loaded = ll.load_checkpoint(path, model=mine["build"]()).model
    for (name, stored), own in zip(loaded.state_dict().items(), mine["model"].state_dict().values(), strict=True):
        assert torch.equal(stored, own), name
    by_name = ll.load_checkpoint(path, model="mine.py:build").model
    assert torch.equal(by_name.head.weight, mine["model"].head.weight) and not by_name.training


def test_what_belongs_to_a_training_module_alone_is_left_out_and_listed(mine):
    weights = {f"model.{name}": value for name, value in mine["model"].state_dict().items()}
    torch.save(weights | {"loss.weight": torch.ones(3)}, "weights.pt")
    with pytest.warns(UserWarning, match=r"left out loss\.weight, which do not begin with 'model\.'"):
        ll.load_checkpoint("weights.pt", model=mine["build"]())
    torch.save(weights | {"model.more.weight": torch.ones(3)}, "weights.pt")
    with pytest.raises(ll.InputError, match=r"does not fit Net: unexpected more\.weight$"):
        ll.load_checkpoint("weights.pt", model=mine["build"]())


def test_weights_that_do_not_fit_are_named_with_their_shapes_and_change_nothing(mine):
    torch.save({"state_dict": mine["model"].state_dict()}, "weights.pt")
    network = mine["wide"]()
    before = network.head.weight.clone()
    with pytest.raises(ll.InputError, match=r"does not fit Net: .*head\.weight: \[3, 5\], not \[7, 5\]") as caught:
        ll.load_checkpoint("weights.pt", model=network)
    assert "\n" not in str(caught.value) and torch.equal(before, network.head.weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int16, torch.bool, torch.complex64])
def test_exported_weights_of_every_type_are_read_to_the_bit_without_running_the_program(tmp_path, dtype, monkeypatch):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("value", torch.arange(12).reshape(3, 4).to(dtype))
            self.register_buffer("view", self.value.T)

        def forward(self, x):
            return x + self.value.sum() + self.view.sum()

    holder = Holder()
    program = torch.export.export(holder, (torch.ones(2, dtype=dtype if dtype != torch.bool else torch.int64),))
    with (tmp_path / "x.pt2").open("wb") as file:
        torch.export.save(program, file)
    monkeypatch.setattr(torch.export, "load", None)
    weights = read_state(tmp_path / "x.pt2").weights
    assert weights["value"].dtype == dtype and torch.equal(weights["value"], holder.value)
    assert torch.equal(weights["view"], holder.view)


TABLE = b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}'


def test_archives_of_earlier_versions_of_torch_export_are_read(tmp_path):
    weights = {"weight": torch.randn(2, 3), "bias": torch.randn(2)}
    torch.save(weights, buffer := io.BytesIO())
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as file:
        file.writestr("serialized_exported_program.json", "{}")
        file.writestr("serialized_state_dict.pt", buffer.getvalue())
    loaded = ll.load_checkpoint(tmp_path / "x.pt2", model=nn.Linear(3, 2)).model
    assert torch.equal(loaded.weight, weights["weight"]) and torch.equal(loaded.bias, weights["bias"])


DAMAGED = {
    "safetensors": (struct.pack("<Q", len(TABLE)) + TABLE + bytes(4), "a damaged safetensors file"),
    "empty": (b"", "it is empty"),
    "text": (b"weights", "is no state, or a damaged one"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_one_line(tmp_path, kind):
    content, message = DAMAGED[kind]
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ll.InputError, match=message) as caught:
        ll.load_checkpoint(tmp_path / "x", model=nn.Linear(1, 1))
    assert "\n" not in str(caught.value)


class Code:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_file_is_never_run(here, new):
    torch.save({"state_dict": {"weight": torch.ones(1)}, "more": Code()}, "x.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(ll.InputError, match=r"holds (pickled )?code, which is never run"):
        ll.load_checkpoint("x.pt", model=nn.Linear(1, 1))
    assert not Path("ran").exists()


def command(script, *arguments, model="mine.py:build", data="mine.py:loaders"):
    common = ["--model", model, "--data", data, "--resolution", 3, "--device", "cpu"]
    return run(script, "--state", *arguments, *common)


def test_one_command_draws_the_users_network_on_the_users_data(mine, capsys):
    torch.save(mine["model"].state_dict(), "my.pt")
    assert command("visualize_loss_landscape.py", "my.pt") == 0
    out = capsys.readouterr().out
    assert out.count("Running mine.py") == 1 and "all samples are taken, in the order of its data set" in out
    for split, count in (("train", 30), ("test", 20)):
        surface = ll.Surface.load(f"loss_landscape_results/loss_grid_{split}_mine.py-build.npz")
        assert surface.metadata["data"]["name"] == "mine.py:loaders" and surface.metadata["data"]["split"] == split
        assert surface.loss[1, 1] == pytest.approx(plain_loss(mine["model"], *mine["arrays"](count)), rel=1e-6)
    assert Path("loss_landscape_results/landscape_train_2d_contour_mine.py-build.png").stat().st_size > 10_000


def test_parts_of_the_users_data_are_drawn_without_replacement(mine):
    torch.save(mine["model"].state_dict(), "my.pt")
    options = ["--subset", 12, "--minibatches", 2, "--batch-size", 5, "--no-figures", "--batch-norm", "running"]
    assert command("visualize_loss_landscape.py", "my.pt", *options) == 0
    inputs, targets = mine["arrays"](30)
    drawn = torch.randperm(30, generator=torch.Generator().manual_seed(42))[:12].sort().values
    surface = ll.Surface.load("loss_landscape_results/loss_grid_train_mine.py-build.npz")
    assert surface.loss[1, 1] == pytest.approx(plain_loss(mine["model"], inputs[drawn], targets[drawn]), rel=1e-6)
    parts = drawn[torch.randperm(12, generator=torch.Generator().manual_seed(42))[:10].reshape(2, 5)]
    for k, part in enumerate(parts):
        surface = ll.Surface.load(f"loss_landscape_results/loss_grid_train_minibatch{k}_mine.py-build.npz")
        assert surface.loss[1, 1] == pytest.approx(plain_loss(mine["model"], inputs[part], targets[part]), rel=1e-6)


def test_single_samples_curvature_and_comparison_take_the_same_options(mine, capsys):
    torch.save(mine["model"].state_dict(), "a.pt")
    torch.save(mine["build"]().state_dict(), "b.pt")
    assert command("visualize_single_sample_landscapes.py", "a.pt", "--indices", 3, 17) == 0
    single = ll.Surface.load("loss_landscape_results/sample_17_loss_grid_mine.py-build.npz")
    inputs, targets = mine["arrays"](30)
    assert single.loss[1, 1] == pytest.approx(plain_loss(mine["model"], inputs[17:18], targets[17:18]), rel=1e-5)
    assert single.metadata["sample"]["true_class"] == str(int(targets[17]))
    options = ["--k", 1, "--probes", 1, "--steps", 3, "--measures", "sam", "--no-figures", "--no-plane"]
    assert command("measure_curvature.py", "a.pt", *options) == 0
    assert Path("curvature_results/curvature_mine.py-build.json").exists()
    assert command("compare_loss_landscapes.py", "a.pt", "b.pt", "--split", "test") == 0
    assert Path("comparison_results/comparison_test.png").exists()
    assert "a" in capsys.readouterr().out


def test_the_path_of_several_states_is_drawn_in_their_order(mine):
    names, weights = ["d.pt", "b.pt", "c.pt", "a.pt"], mine["model"].state_dict()
    for k, name in enumerate(names):
        moved = {
            "body.0.weight": weights["body.0.weight"] + 0.1 * k,
            "head.weight": weights["head.weight"] + 0.02 * k**2,
        }
        torch.save(weights | moved, name)
    options = ["--no-before-after", "--batch-norm", "batch", "--loss", "mine.py:squared"]
    assert command("visualize_trajectory.py", *names, *options) == 0
    [path] = [path for path in Path("trajectory_results").glob("*.npz") if "surface" not in path.name]
    losses = []
    for name in names:
        mine["model"].load_state_dict(torch.load(name, weights_only=True))
        with torch.no_grad():
            losses.append(float(mine["model"].train()(mine["arrays"](30)[0]).square().sum(1).mean()))
    assert ll.results.Trajectory.load(path).loss == pytest.approx(losses, rel=1e-4)
    assert len(set(np.round(losses, 6))) == 4


@pytest.mark.parametrize(
    ("data", "loss"), [("numbers", "mse"), ("inputs_only", "mine.py:alone"), ("ragged", "mine.py:named")]
)
def test_other_data_and_losses(mine, data, loss):
    torch.save(mine["model"].state_dict(), "my.pt")
    options = ["--loss", loss, "--no-figures"]
    assert command("visualize_loss_landscape.py", "my.pt", *options, data=f"mine.py:{data}") == 0
    surface = ll.Surface.load("loss_landscape_results/loss_grid_train_mine.py-build.npz")
    model = mine["model"].eval()
    inputs = torch.ones(7, 4) if data == "ragged" else mine["arrays"](30)[0]
    with torch.no_grad():
        outputs = model(inputs)
        expected = (outputs - inputs[:, :3]).square().mean() if loss == "mse" else outputs.square().sum(1).mean()
    assert surface.loss[1, 1] == pytest.approx(float(expected), rel=1e-5)


WRONG = {
    "build fails": ({"model": "mine.py:failing"}, ["mine.py, line 30: ZeroDivisionError: division by zero"]),
    "data fails": ({"data": "mine.py:no_loaders"}, ["mine.py, line 26: FileNotFoundError", "returns the data"]),
    "no such function": ({"model": "mine.py:none"}, ["mine.py has no function 'none'"]),
    "other shapes": ({"model": "mine.py:wide"}, ["head.weight: [3, 5], not [7, 5]", "my.pt"]),
    "no targets": ({"data": "mine.py:inputs_only"}, ["the train data of mine.py:inputs_only give no targets", "[4]"]),
    "one loader": ({"data": "mine.py:one"}, ["mine.py:one returned a DataLoader; it must return a pair"]),
    "data is no function": ({"data": "mine.py"}, ["'mine.py' names no function"]),
    "parts of batches": ({"data": "mine.py:ragged", "options": ["--subset", 2, "--loss", "mine.py:named"]},
                         ["come in batches that cannot be divided into samples"]),
    "unknown loss": ({"options": ["--loss", "huber"]}, ["unknown loss 'huber'", "FILE.py:FUNCTION"]),
    "loss fails": ({"options": ["--loss", "mine.py:bad_loss"]}, ["the loss fails on a batch", "no attribute 'foo'"]),
    "two networks": ({"options": ["--checkpoint", "x.pth"]}, ["--checkpoint has no effect with --state"]),
    "too many samples": ({"options": ["--subset", 40]}, ["cannot take 40 samples: mine.py:loaders train has 30"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_one_line_before_any_work(mine, capsys, case):
    torch.save(mine["model"].state_dict(), "my.pt")
    where, words = WRONG[case]
    where = dict(where)
    assert command("visualize_loss_landscape.py", "my.pt", *where.pop("options", []), **where) == 2
    *trace, line = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ") and all(word in line for word in words), line
    assert not list(Path().rglob("*.npz"))
    own = {
        "build fails": ("1 / 0", "ZeroDivisionError"),
        "data fails": ("nowhere.csv", "FileNotFoundError"),
        "loss fails": (".foo", "AttributeError"),
    }
    if case in own:  # the traceback begins in the user's file
        code, last = own[case]
        assert trace[0].startswith("Traceback") and "mine.py" in trace[1] and code in "".join(trace)
        assert trace[-1].startswith(last) and not any("landscape" in part for part in trace)
    else:
        assert trace == []


def test_weights_without_a_network_or_without_data_say_what_is_missing(mine, capsys):
    torch.save(mine["model"].state_dict(), "my.pt")
    assert run("visualize_loss_landscape.py", "--state", "my.pt") == 2
    assert "--model FILE.py:FUNCTION --data FILE.py:FUNCTION" in capsys.readouterr().err
    assert run("visualize_loss_landscape.py", "--state", "my.pt", "--model", "mine.py:build") == 2
    assert "does not name the data of its network; --data FILE.py:FUNCTION" in capsys.readouterr().err


def test_a_network_of_the_toolkit_gets_its_shape_from_the_data(mine):
    torch.manual_seed(0)
    network = ll.build_model("mlp", input_shape=(4,), classes=3)
    torch.save(network.state_dict(), "my.pt")
    assert command("visualize_loss_landscape.py", "my.pt", "--no-figures", model="mlp") == 0
    [path] = Path("loss_landscape_results").glob("loss_grid_train*.npz")
    expected = plain_loss(network, *mine["arrays"](30))
    assert ll.Surface.load(path).loss[1, 1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_page_of_ones_own_network_is_true(here, capsys):
    page = (ROOT / "docs" / "own_network.md").read_text()
    code, commands = re.search(r"```python\n# mine.py\n(.*?)```.*?```\n(.*?)```", page, re.DOTALL).groups()
    Path("mine.py").write_text(code)
    names = {}
    exec(code, names)
    for k, name in enumerate(("early.pt", "other.pt", "my.pt")):
        torch.manual_seed(k)
        torch.save(names["build"]().state_dict(), name)
    assert len(commands.splitlines()) == 5
    small = {
        "visualize_single_sample_landscapes.py": ["--samples", 2],
        "measure_curvature.py": [
            "--k",
            2,
            "--probes",
            2,
            "--steps",
            3,
            "--measures",
            "sam",
            "--no-figures",
            "--no-plane",
        ],
        "visualize_trajectory.py": ["--no-before-after"],
    }
    for line in commands.splitlines():
        _, script, *arguments = line.split()
        assert run(script, *arguments, "--resolution", 3, *small.get(script, ["--no-figures"])) == 0
    written = {path.name for path in here.rglob("*.npz")}
    assert {"loss_grid_test_mine.py-build.npz", "trajectory_surface.npz", "trace_mine.py-build.npz"} <= written
