"""Trackers: what TensorBoard reads back, what W&B is sent, and hooks that change no training."""

import io
import sys
import types

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from surfaces import plane

import landscape_lib as ll

METADATA = {"measures": ["critical"], "optimizer": "SGD"}


def sharpness_history(steps=(0, 10, 20)):
    count = len(steps)
    nan = np.full(count, np.nan)
    values = {"lr": np.full(count, 0.1), "loss": np.linspace(2, 1, count), "critical": np.array([5.0, np.nan, 21.0])}
    others = dict.fromkeys(("batch", "batch_error", "preconditioned", "threshold"), nan)
    return ll.results.SharpnessHistory(np.array(steps), **values, **others, metadata=METADATA)


def trained(tracker=None):
    data = [ll.load_dataset("digits", split=split) for split in ("train", "test")]
    small = [part.subset(60, seed=0) for part in data]
    torch.manual_seed(0)
    model = ll.build_model("simplenet", input_shape=(1, 8, 8), classes=10)
    hook = tracker.on_epoch if tracker else None
    return ll.fit(model, *small, epochs=2, batch_size=20, lr=0.1, seed=1, epoch_zero=True, on_epoch=hook), model


@pytest.fixture
def read_back(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read():
        events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0, "scalars": 0})
        events.Reload()
        scalars = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
        return scalars, {tag: events.Images(tag) for tag in events.Tags()["images"]}

    return read


def test_tensorboard_reads_the_metrics_of_a_run_and_training_is_the_same(tmp_path, read_back):
    with ll.trackers.TensorBoard(tmp_path / "run") as tracker:
        metrics, model = trained(tracker)
    scalars, _ = read_back()
    for name in ("lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        assert scalars[name][1] == pytest.approx(metrics[0][name], rel=1e-6)
        assert scalars[name][2] == pytest.approx(metrics[1][name], rel=1e-6)
    assert 0 in scalars["test_loss"] and 0 not in scalars["train_loss"]
    plain, other = trained()
    assert plain == metrics
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_tensorboard_reads_the_numbers_and_the_picture_of_results(tmp_path, read_back, clean_figures):
    surface, figure = plane(), Figure()
    surface.quantities["penalty"] = 2 * surface.loss
    figure.add_subplot()
    with ll.trackers.TensorBoard(tmp_path / "run") as tracker:
        tracker.on_step(7, None, torch.tensor(0.5))
        tracker.add("plane", surface)
        tracker.add("sharpness", sharpness_history())
        tracker.add("own", figure.axes[0], step=3)
        tracker.add("width", torch.tensor(4.0), step=3)
    scalars, images = read_back()
    centre = surface.centre
    assert scalars["loss"] == {7: 0.5} and scalars["width"] == {3: 4.0}
    assert scalars["plane/loss"] == {7: pytest.approx(surface.loss[centre], rel=1e-6)}
    assert scalars["plane/accuracy"] == {7: pytest.approx(surface.accuracy[centre], rel=1e-6)}
    assert scalars["plane/penalty"] == {7: pytest.approx(2 * surface.loss[centre], rel=1e-6)}
    assert scalars["plane/smallest_loss"] == {7: pytest.approx(surface.loss.min(), rel=1e-6)}
    assert scalars["sharpness/critical"] == {0: 5.0, 20: 21.0}
    assert scalars["sharpness/2_over_lr"] == {0: 20.0, 10: 20.0, 20: 20.0}
    assert "sharpness/batch" not in scalars
    assert {tag: [image.step for image in found] for tag, found in images.items()} == {
        "plane": [7], "sharpness": [7], "own": [3]
    }  # fmt: skip
    pixels = np.asarray(Image.open(io.BytesIO(images["plane"][0].encoded_image_string)))
    assert pixels.shape == (460, 560, 3) and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 30  # the bands of a plane


class Run:
    """A run of W&B that keeps what it is sent."""

    def __init__(self, **settings):
        self.settings, self.sent, self.axes, self.finished = settings, [], [], False

    def define_metric(self, name, step_metric):
        self.axes.append((name, step_metric))

    def log(self, values):
        self.sent.append(values)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    """A module in place of wandb, whose runs keep what they are sent."""
    module = types.ModuleType("wandb")
    module.runs = []
    module.Image = lambda pixels: ("image", pixels.shape)

    def init(**settings):
        module.runs.append(Run(**settings))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_wandb_is_sent_numbers_and_pictures_at_steps_that_need_not_increase(wandb):
    with ll.trackers.Wandb(project="landscapes", mode="offline") as tracker:
        metrics, _ = trained(tracker)
        tracker.add("sharpness", sharpness_history())
    (run,) = wandb.runs
    assert run.settings == {"project": "landscapes", "mode": "offline"} and run.finished
    assert run.axes == [("*", "step")]
    assert [values["step"] for values in run.sent] == [0, 1, 2, 0, 10, 20, 2]
    assert run.sent[2] == {**metrics[1], "step": 2}
    assert run.sent[3] == {"sharpness/loss": 2.0, "sharpness/critical": 5.0, "sharpness/2_over_lr": 20.0, "step": 0}
    assert run.sent[-1] == {"sharpness": ("image", (460, 560, 3)), "step": 2}


def test_a_run_of_the_users_own_stays_open(wandb):
    run = Run()
    with ll.trackers.Wandb(run) as tracker:
        tracker.add("a", 1)
    assert run.sent == [{"a": 1.0, "step": 0}] and not run.finished and not wandb.runs


def test_a_further_process_sends_nothing(wandb, monkeypatch):
    monkeypatch.setattr("landscape.runtime.ranks.is_first_rank", lambda: False)
    with ll.trackers.Wandb(project="landscapes") as tracker:
        tracker.add("plane", plane())
        tracker.on_epoch(1, None, {"test_loss": 1.0})
    assert not wandb.runs


@pytest.mark.parametrize(
    ("make", "package"),
    [(lambda: ll.trackers.TensorBoard("runs"), "tensorboard"), (lambda: ll.trackers.Wandb(), "wandb")],
)
def test_a_missing_package_is_named(monkeypatch, here, make, package):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ll.InputError, match=f"needs the package {package}: pip install {package}$"):
        make()
    assert not list(here.iterdir())


def test_what_is_no_result_is_refused(wandb):
    with pytest.raises(ll.InputError, match=r"add\(name, result\) takes a result, a number or a figure, not str"):
        ll.trackers.Wandb().add("a", "text")


@pytest.mark.parametrize("value", [np.float32(2), np.int64(2), np.array(2.0), np.array([2]), torch.tensor([2])])
def test_numbers_of_numpy_and_torch_are_sent(wandb, value):
    run = Run()
    with ll.trackers.Wandb(run) as tracker:
        tracker.on_epoch(1, None, {"metric": value, "flag": True, "complex": torch.tensor(1j), "text": "a"})
        tracker.on_step(2, None, value)
        tracker.add("a", value, step=np.int64(3))
    assert run.sent == [{"metric": 2.0, "step": 1}, {"loss": 2.0, "step": 2}, {"a": 2.0, "step": 3}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", True), "a number or a figure, not bool$"),
        (("a", torch.tensor(1j)), "a number or a figure, not Tensor$"),
        (("a", np.ones(2)), "a number or a figure, not ndarray$"),
        ((5, 1.0), r"add\(name, result\) takes a text as name, not int$"),
        (("a", 1.0, "x"), "step is x; it must be a whole number from 0"),
        (("a", 1.0, -1), "step is -1; it must be a whole number from 0"),
        (("a", 1.0, 1.5), "step is 1.5; it must be a whole number from 0"),
    ],
)
def test_what_cannot_be_sent_is_refused(wandb, arguments, message):
    run = Run()
    with pytest.raises(ll.InputError, match=message):
        ll.trackers.Wandb(run).add(*arguments[:2], step=arguments[2] if len(arguments) > 2 else None)
    assert not run.sent


@pytest.mark.parametrize("name", ["loss", "standard_error", "accuracy", "smallest_loss"])
def test_a_quantity_with_the_name_of_another_number_is_refused(wandb, name):
    surface, run = plane(), Run()
    surface.quantities[name] = 2 * surface.loss
    with pytest.raises(ll.InputError, match=f"the quantity '{name}' has the name of another number"):
        ll.trackers.Wandb(run).add("plane", surface)
    assert not run.sent


def test_a_closed_tracker_sends_nothing(wandb):
    tracker = ll.trackers.Wandb()
    tracker.close()
    tracker.close()
    for send in (
        lambda: tracker.add("a", 1.0),
        lambda: tracker.on_epoch(1, None, {"a": 1.0}),
        lambda: tracker.on_step(1, None, torch.tensor(1.0)),
    ):
        with pytest.raises(ll.InputError, match="this Wandb tracker is closed"):
            send()
    assert not wandb.runs[0].sent


@pytest.mark.parametrize("folder", [None, 5])
def test_what_is_no_folder_and_no_run_is_refused(wandb, folder):
    pytest.importorskip("tensorboard")
    with pytest.raises(ll.InputError, match=r"TensorBoard\(folder\) takes a folder or a SummaryWriter, not"):
        ll.trackers.TensorBoard(folder)
    with pytest.raises(ll.InputError, match=r"Wandb\(run\) takes a run, as wandb.init returns it, not str$"):
        ll.trackers.Wandb("run")


def test_a_file_as_folder_is_refused(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ll.InputError, match=r"cannot write into .*run: File exists"):
        ll.trackers.TensorBoard(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"
