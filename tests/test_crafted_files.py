"""Files made to fill the memory or to run code, and files of other programs: one line, and nothing done."""

import hashlib
import io
import json
import os
import pickle
import resource
import sys
import zipfile

import numpy as np
import pytest
import torch
from test_damaged_files import IDENTITY, network, statistics, surface, write_checkpoint, write_recording
from torch import nn

import landscape_lib as ll
from landscape.evaluation.resume import load_progress, save_progress
from landscape.evaluation.statistics import Statistics
from landscape.storage.digests import array_digest, digest_of
from landscape.storage.json_files import read_json
from landscape.training.checkpoints import load_checkpoint, save_checkpoint
from landscape.training.state import TrainingState

MEGABYTE = 2**20


@pytest.fixture
def little_memory():
    """The process takes at most 200 MiB more than it ever had."""
    scale = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * scale < 200 * MEGABYTE


def refused(read, path, *words):
    with pytest.raises(ll.InputError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text
    return text


def saved(path, content):
    torch.save(content, buffer := io.BytesIO())
    path.write_bytes(buffer.getvalue())
    return path


def sealed(path, arrays):
    """An .npz with the digest that belongs to it."""
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    digest = digest_of(dict(sorted(plain.items())), array_digest)
    np.savez_compressed(path, **plain, digest=np.array(digest))
    return path


# ---------------------------------------------------------------- recordings


def header(version=2, **changes):
    layout = {"shapes": {"w": [2]}, "dtype": "<f4", "unit": "step", "notes": {}, **changes}
    text = json.dumps({key: value for key, value in layout.items() if value is not ...}).encode()
    digest = hashlib.sha256(text).hexdigest().encode() + b" " if version == 2 else b""
    return b"landscape points %d\n" % version + digest + text + b"\n"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "O"}, {"dtype": "V8"}, {"dtype": ">f4"}, {"dtype": "<f4,<f4"}, {"dtype": 3}, {"dtype": ...},
        {"shapes": {"w": [-2]}}, {"shapes": {"w": [2**62, 4]}}, {"shapes": {"w": [1.5]}}, {"shapes": {}},
        {"shapes": [2]}, {"shapes": {"w": [True]}}, {"unit": "<b>"}, {"notes": 3}, {"notes": ...},
    ],
)  # fmt: skip
def test_a_recording_of_other_types_is_refused(tmp_path, version, changes):
    (tmp_path / "x.points").write_bytes(header(version, **changes) + bytes(range(200)) * 20)
    refused(ll.RecordedPoints, tmp_path / "x.points", "no file of recorded points, or a damaged one")


def test_a_recording_of_the_earlier_version_is_read_and_gone_on_with(tmp_path):
    path, model = tmp_path / "run.points", {"w": torch.tensor([1.0, 2.0])}
    write = ll.TrajectoryRecorder(path)
    write.record(model, loss=0.5)
    content = path.read_bytes()
    first, layout, records = content.split(b"\n", 2)
    records = content[len(first) + len(layout) + 2 :]
    text = first.replace(b"2", b"1") + b"\n" + layout[65:].rstrip()
    path.write_bytes(text + b" " * (-(len(text) + 1) % 8) + b"\n" + records)
    found = ll.RecordedPoints(path)
    assert len(found) == 1 and found[0]["w"].tolist() == [1, 2] and found.losses.tolist() == [0.5]
    ll.TrajectoryRecorder(path, resume=True).record(model, loss=0.25)
    assert ll.RecordedPoints(path).losses.tolist() == [0.5, 0.25]


def test_a_flip_in_the_third_of_twenty_records_costs_one_point_and_no_byte(tmp_path):
    path, points = tmp_path / "run.points", [{"w": torch.full((3,), float(k))} for k in range(22)]
    recorder = ll.TrajectoryRecorder(path)
    for point in points[:20]:
        recorder.record(point)
    content = bytearray(path.read_bytes())
    content[-17 * (len(content) // 24)] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged; the 19"):
        damaged = ll.RecordedPoints(path).steps.tolist()
    with pytest.warns(UserWarning, match="kept as"):
        recorder = ll.TrajectoryRecorder(path, resume=True)
    for point in points[20:]:
        recorder.record(point)
    found = ll.RecordedPoints(path)  # without a warning
    assert found.steps.tolist() == [*damaged, 20, 21] and len(damaged) == 19
    assert [point["w"][0].item() for point in found] == [*damaged, 20, 21]
    (copy,) = tmp_path.glob("run.points.damaged-*")
    assert copy.read_bytes() == content


def removed(path):
    path.unlink()


def truncated(path):
    os.truncate(path, path.stat().st_size - 30)


def recorded_again(path):
    ll.TrajectoryRecorder(path).record(network())


def gone_on_with(path):
    ll.TrajectoryRecorder(path, resume=True).record(network())


@pytest.mark.parametrize("happens", [removed, truncated, recorded_again, gone_on_with])
def test_a_recording_that_others_change_loses_no_point_silently(tmp_path, happens):
    path, recorder = tmp_path / "run.points", ll.TrajectoryRecorder(tmp_path / "run.points")
    recorder.record(network())
    happens(path)
    with pytest.raises(ll.InputError, match=r"was removed, cut or written by another recorder after 1 point"):
        recorder.record(network())


def test_two_recorders_that_begin_together_do_not_mix(tmp_path):
    one, other = (ll.TrajectoryRecorder(tmp_path / "run.points") for _ in range(2))
    one.record(network(), loss=1.0)
    with pytest.raises(ll.InputError, match="another recorder"):
        other.record(network(), loss=2.0)
    one.record(network(), loss=3.0)
    assert ll.RecordedPoints(tmp_path / "run.points").losses.tolist() == [1, 3]


# ---------------------------------------------------------------- arrays


WRONG_SURFACES = {
    "NaN axis": ({"alphas": np.array([np.nan, 0, 1, 2])}, "alphas is not finite"),
    "reversed axis": ({"alphas": np.linspace(1, -1, 4)}, "alphas does not increase"),
    "shuffled axis": ({"betas": np.array([-1.0, 2.0, 0.0])}, "betas does not increase"),
    "equal places": ({"betas": np.array([-1.0, -1.0, 0.0])}, "betas does not increase"),
    "turned loss": ({"loss": np.ones((3, 4))}, "loss has shape (3, 4), the axes give (4, 3)"),
    "flat accuracy": ({"accuracy": np.ones(12)}, "accuracy has shape (12,)"),
    "turned accuracy": ({"accuracy": np.ones((3, 4))}, "accuracy has shape (3, 4), the axes give (4, 3)"),
    "accuracy above 1": ({"accuracy": np.full((4, 3), 75.0)}, "accuracy lies outside 0 to 1"),
    "negative error": ({"standard_error": np.full((4, 3), -1.0)}, "standard_error lies outside"),
    "single samples": ({"per_sample": np.ones((4, 5, 3))}, "per_sample has shape (4, 5, 3)"),
    "other samples": ({"per_sample": np.ones((4, 3, 7))}, "per_sample has 7 samples, the data 5"),
    "text": ({"loss": np.full((4, 3), "x")}, "loss has values of type"),
    "complex": ({"loss": np.ones((4, 3), complex)}, "no plain numbers"),
    "mask of numbers": ({"evaluated": np.ones((4, 3))}, "evaluated has values of type float64"),
    "unknown": ({"extra": np.ones(3)}, "it holds"),
    "metadata": ({"metadata": np.array("[1]")}, "its metadata: the content is a list"),
    "section": ({"metadata": np.array('{"data": 3}')}, "data is a int, no dict"),
    "deep metadata": ({"metadata": np.array('{"x":' * 300_000 + "1" + "}" * 300_000)}, "nested too deep"),
    "broken metadata": ({"metadata": np.array('{"x":')}, "its metadata"),
}


@pytest.mark.parametrize("case", WRONG_SURFACES)
@pytest.mark.parametrize("with_digest", [True, False])
def test_a_surface_that_cannot_be_is_refused(tmp_path, case, with_digest):
    changes, message = WRONG_SURFACES[case]
    arrays = surface().stored_arrays() | {"metadata": json.dumps(surface().metadata), **changes}
    path = tmp_path / "s.npz"
    sealed(path, arrays) if with_digest else np.savez(path, **arrays)
    refused(ll.Surface.load, path, message)


@pytest.mark.parametrize("case", ["NaN axis", "reversed axis", "turned accuracy", "accuracy above 1", "other samples"])
def test_what_cannot_be_read_is_not_written(tmp_path, case):
    from dataclasses import replace

    changes, message = WRONG_SURFACES[case]
    refused(replace(surface(), **changes).save, tmp_path / "s.npz", message)
    assert not list(tmp_path.iterdir())


def test_an_edited_array_of_ours_is_refused_and_one_of_an_earlier_version_is_read(tmp_path):
    path = surface().save(tmp_path / "s.npz")
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"loss": arrays["loss"] + 1})
    refused(ll.Surface.load, path, "its digest differs")
    del arrays["digest"]
    np.savez(path, **arrays)
    np.testing.assert_array_equal(ll.Surface.load(path).loss, surface().loss)


def bomb(path, name, header_, size, arrays):
    """``arrays`` with one more member that unpacks to ``size`` bytes of zeros behind its header."""
    np.savez(path, **arrays)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file,
        file.open(f"{name}.npy", "w", force_zip64=True) as out,
    ):
        np.lib.format.write_array_header_1_0(out, header_)
        for _ in range(size // MEGABYTE):
            out.write(bytes(MEGABYTE))


@pytest.mark.parametrize(
    ("name", "shape", "type_"),
    [("loss", (2**20, 40), "<f8"), ("unknown", (2**20, 40), "<f8"), ("metadata", (), f"<U{80 * MEGABYTE}")],
)
def test_a_small_file_of_large_arrays_is_refused_before_it_is_unpacked(tmp_path, little_memory, name, shape, type_):
    arrays = {
        key: value for key, value in vars(surface()).items() if value is not None and key not in (name, "quantities")
    }
    arrays["metadata"] = "{}"
    arrays.pop(name, None)
    size = int(np.prod(shape, dtype=int)) * np.dtype(type_).itemsize
    bomb(tmp_path / "s.npz", name, {"descr": type_, "fortran_order": False, "shape": shape}, size, arrays)
    assert (tmp_path / "s.npz").stat().st_size < 3 * MEGABYTE
    refused(ll.Surface.load, tmp_path / "s.npz")


def test_an_array_that_tells_more_than_it_has_is_refused(tmp_path, little_memory):
    arrays = {key: value for key, value in surface().stored_arrays().items() if key != "loss"}
    arrays["metadata"] = "{}"
    bomb(tmp_path / "s.npz", "loss", {"descr": "<f8", "fortran_order": False, "shape": (2**30, 2)}, 0, arrays)
    refused(ll.Surface.load, tmp_path / "s.npz", "its header declares")


# ---------------------------------------------------------------- finished points


WRONG_PROGRESS = {
    "one total": {"total": np.zeros(1)},
    "short": {"total": np.zeros(5)},
    "numbers for done": {"done": np.ones(6)},
    "too many hits": {"hits": np.full(6, 6.0)},
    "fewer samples": {"per_sample": np.zeros((6, 4), np.float32)},
    "no spread": {"spread": ...},
    "no single samples": {"per_sample": ...},
    "identity": {"identity": "[1]"},
    "unknown": {"other": np.zeros(6)},
}


@pytest.mark.parametrize("case", WRONG_PROGRESS)
@pytest.mark.parametrize("with_digest", [True, False])
def test_points_that_do_not_belong_to_the_grid_are_refused(tmp_path, case, with_digest):
    path = tmp_path / "progress.npz"
    arrays = {"identity": json.dumps(IDENTITY), **statistics().arrays(), **WRONG_PROGRESS[case]}
    arrays = {key: value for key, value in arrays.items() if value is not ...}
    sealed(path, arrays) if with_digest else np.savez(path, **arrays)
    fresh = Statistics(6, 5, per_sample=True, dtype=torch.float32)
    refused(lambda path: load_progress(path, IDENTITY, fresh), path, "progress.npz")


def test_points_that_are_not_finite_are_evaluated_again_where_no_digest_vouches_for_them(tmp_path):
    path, known = tmp_path / "progress.npz", statistics()
    known.total[1] = torch.nan
    save_progress(path, IDENTITY, known)
    fresh = Statistics(6, 5, per_sample=True, dtype=torch.float32)
    assert load_progress(path, IDENTITY, fresh)["done"].tolist() == [True] * 4 + [False] * 2
    np.savez(path, **{key: value for key, value in np.load(path).items() if key != "digest"})
    assert load_progress(path, IDENTITY, fresh)["done"].tolist() == [True, False, True, True, False, False]


# ---------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mlp", {"width": 40_000}), ("mlp", {"depth": 300_000, "width": 2, "classes": 2}), ("mlp", {"depth": 10**12}),
        ("mlp", {"width": 10**30}), ("mlp", {"width": "x"}), ("mlp", {"classes": -1}), ("resnet300002", {}),
        ("linear-mnist", {"classes": 10**9}), ("linear-mnist", {"input_shape": [10**6, 10**6]}),
        ("simplenet", {"hidden": 10**12}), ("linear-mnist", {"input_shape": 3}), ("linear-mnist", {"classes": None}),
        ("torchvision:resnet18", {"input_shape": [3, 10**5, 10**5]}), ("norm-cnn", {"normalization": ["x"]}),
        ("linear-mnist", {"input_shape": []}), ("vgg9", {"input_shape": [3, 32]}), ("linear-mnist", {"self": 3}),
    ],
)  # fmt: skip
def test_a_checkpoint_of_a_model_far_larger_than_its_weights_takes_no_memory(tmp_path, little_memory, name, arguments):
    write_checkpoint(tmp_path / "model.pth")
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    content["model"] = {"name": name, "arguments": arguments}
    refused(load_checkpoint, saved(tmp_path / "model.pth", content), "does not fit the model it names")


def test_a_network_of_your_own_is_bounded_by_its_weights_too(tmp_path, little_memory):
    (tmp_path / "own.py").write_text("from torch import nn\ndef build(n=3):\n    return nn.Linear(n, n)\n")
    name = f"{tmp_path}/own.py:build"
    options = {"data": {"name": "digits"}, "epoch": 1, "metrics": {}, "settings": {}}
    save_checkpoint(tmp_path / "own.pth", nn.Linear(3, 3), model_name=name, model_arguments={"n": 3}, **options)
    assert load_checkpoint(tmp_path / "own.pth", model=name).model.weight.shape == (3, 3)
    save_checkpoint(tmp_path / "own.pth", nn.Linear(3, 3), model_name=name, model_arguments={"n": 30_000}, **options)
    refused(lambda path: load_checkpoint(path, model=name), tmp_path / "own.pth", "far larger than its weights")


def nested(depth, width=1):
    value = [0]
    for _ in range(depth):
        value = [value] * width
    return value


@pytest.mark.parametrize("settings", [{"x": nested(200)}, {"x": nested(40, 10)}], ids=["deep", "repeated"])
def test_values_that_cannot_be_walked_through_are_refused(tmp_path, settings):
    write_checkpoint(tmp_path / "model.pth")
    content = torch.load(tmp_path / "model.pth", weights_only=True) | {"settings": settings}
    refused(load_checkpoint, saved(tmp_path / "model.pth", content), "nested too deep, or repeat too often")


def test_packed_and_expanded_tensors_are_refused(tmp_path):
    path = tmp_path / "model.pth"
    write_checkpoint(path)
    content = torch.load(path, weights_only=True)
    wide = {"fc.weight": torch.zeros(1).expand(4, 9), "fc.bias": torch.zeros(4)}
    refused(load_checkpoint, saved(path, content | {"model_state_dict": wide}), "only 4 bytes")
    content["model_state_dict"]["fc.weight"] = torch.zeros(2**16, 18)
    saved(path, content)
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as out:
        for info in file.infolist():
            out.writestr(info.filename, file.read(info))
    refused(load_checkpoint, tmp_path / "bomb.pth", "packed")


def with_pickle(path, edit):
    """The checkpoint with another pickle, and right checksums."""
    write_checkpoint(path)
    with zipfile.ZipFile(path) as file:
        parts = {info.filename: file.read(info) for info in file.infolist()}
    (name,) = (name for name in parts if name.endswith("data.pkl"))
    parts[name] = edit(parts[name])
    with zipfile.ZipFile(path, "w") as file:
        for part, content in parts.items():
            file.writestr(part, content)
    return path


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\nbytearray\n(I10000000000\ntR.", b"cos\nsystem\n(S'touch ran'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.", b"r\xff\xff\xff\x7fN.", b"(" * 100_000 + b".",
        b"]" * 100_000 + b"a" * 99_999 + b".", b"\x80\x05\x96" + b"\xff" * 8 + b".", b"ctorch\nload\n.",
        b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n.", b"I1\nQ.", b".", b"N.",
    ],
)  # fmt: skip
def test_a_pickle_that_torch_save_does_not_write_is_not_run(tmp_path, little_memory, program, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(load_checkpoint, with_pickle(tmp_path / "model.pth", lambda _: program), "model.pth")
    assert not (tmp_path / "ran").exists()


def test_a_tensor_larger_than_its_bytes_is_refused(tmp_path):
    def edit(pickled):
        assert pickled.count(b"K$") == 1  # 36 numbers
        return pickled.replace(b"K$", b"K\xff")

    refused(load_checkpoint, with_pickle(tmp_path / "model.pth", edit), "does not have the declared size")


# ---------------------------------------------------------------- files of other programs


def safetensors(content):
    text = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


def archive(**parts):
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
        for name, content in parts.items():
            file.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def torch_file(content, **options):
    torch.save(content, buffer := io.BytesIO(), **options)
    return buffer.getvalue()


STATE = {"fc.weight": torch.ones(4, 9), "fc.bias": torch.ones(4)}
FOREIGN = {
    "safetensors": (safetensors(STATE), "safetensors"),
    "script": (archive(m__constants_pkl="", **{"m__data.pkl": b"N.", "m__constants.pkl": b"N."}), "TorchScript"),
    "export": (archive(m__archive_format="pt2", m__version="0"), "torch.export"),
    "lightning": (torch_file({"state_dict": STATE, "pytorch-lightning_version": "2.4"}), "Lightning"),
    "trainer": (torch_file({"state_dict": STATE, "epoch": 3}), "'state_dict' is a state dict"),
    "state dict": (torch_file(STATE), "bare state dict"),
    "legacy": (torch_file(STATE, _use_new_zipfile_serialization=False), "before version 1.6"),
    "model": (torch_file(nn.Linear(2, 2)), "pickled code, which is never run"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "gguf": (b"GGUF" + bytes(100), "GGUF"),
    "onnx": (b"\x08\x0a\x12\x07pytorch" + bytes(100), "ONNX"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(100), "numpy array"),
    "zip": (archive(a="x"), "a zip archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "gzip"),
    "page": (b"<!DOCTYPE html><html>404</html>", "web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "json": (b'{"a": 1}', "JSON"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_of_another_program_is_told_by_name_and_not_called_damaged(tmp_path, kind):
    content, name = FOREIGN[kind]
    (tmp_path / "x").write_bytes(content)
    for read in (load_checkpoint, ll.Surface.load, ll.RecordedPoints):
        text = refused(read, tmp_path / "x")
        if read is load_checkpoint:
            assert name in text and "damaged" not in text and "train" not in text, text


def test_files_of_other_kinds_of_ours_are_told_by_what_they_hold(tmp_path):
    write_checkpoint(tmp_path / "model.pth")
    surface().save(tmp_path / "s.npz")
    write_recording(tmp_path / "run.points")
    assert "holds accuracy, alphas" in refused(ll.results.Trajectory.load, tmp_path / "s.npz")
    assert "an .npz file of other arrays (alphas" in refused(load_checkpoint, tmp_path / "s.npz")
    assert "a recording of points" in refused(load_checkpoint, tmp_path / "run.points")


def readers(path):
    state = TrainingState(path, {}, network(), torch.optim.SGD(network().parameters(), lr=0.1), torch.Generator())
    progress = Statistics(6, 5, per_sample=True, dtype=torch.float32)
    return [
        load_checkpoint, ll.Surface.load, ll.RecordedPoints, lambda _: state.restore(),
        lambda path: load_progress(path, IDENTITY, progress), lambda path: read_json(path, dict, "record", "make it"),
        lambda path: ll.TrajectoryRecorder(path, resume=True),
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["folder", "pipe", "empty", "dangling link", "unreadable"])
def test_what_is_no_file_is_told_in_one_line(tmp_path, what):
    path = tmp_path / "x"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.touch(mode=0o600 if what == "empty" else 0)
        if what == "unreadable":
            path.write_bytes(b"x")
            if os.access(path, os.R_OK):
                pytest.skip("this user may read everything")
    for read in readers(path):
        refused(read, path, str(path))


@pytest.mark.parametrize("name", ["x\0y", "n" * 300, b"\xff\xfe.pth".decode("utf-8", "surrogateescape")])
def test_a_name_that_no_file_can_have_is_told_in_one_line(tmp_path, name):
    for read in (load_checkpoint, ll.Surface.load, ll.RecordedPoints):
        refused(read, tmp_path / name)


# ---------------------------------------------------------------- wrapped networks


class Outer(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.net = inner


WRAPPED = {
    "DataParallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "compiled DataParallel": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
    "average": torch.optim.swa_utils.AveragedModel,
    "own": Outer,
    "twice": lambda model: Outer(Outer(model)),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_the_weights_of_a_wrapped_network_are_those_of_the_network(tmp_path, wrapped):
    model, path = network(), tmp_path / "model.pth"
    write_checkpoint(path)
    fields = {
        key: value
        for key, value in torch.load(path, weights_only=True).items()
        if key not in ("versions", "model", "model_state_dict")
    }
    arguments = {"input_shape": [1, 3, 3], "classes": 4}
    outer = WRAPPED[wrapped](model)
    save_checkpoint(path, outer, model_name="linear-mnist", model_arguments=arguments, **fields)
    if wrapped not in ("own", "twice"):
        assert torch.load(path, weights_only=True)["model_state_dict"].keys() == model.state_dict().keys()
    assert torch.equal(load_checkpoint(path).model.fc.weight, model.fc.weight)
    content = torch.load(path, weights_only=True)
    saved(path, content | {"model_state_dict": dict(outer.state_dict())})  # by somebody's own script
    assert torch.equal(load_checkpoint(path).model.fc.weight, model.fc.weight)


def test_names_that_fit_with_no_prefix_are_named(tmp_path):
    write_checkpoint(tmp_path / "model.pth")
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    content["model_state_dict"] = {"module.head.weight": torch.ones(4, 9), "module.fc.bias": torch.ones(4)}
    refused(load_checkpoint, saved(tmp_path / "model.pth", content), "missing fc.weight", "unexpected head.weight")
    content["model_state_dict"] = {"fc.weight": torch.ones(4, 9, dtype=torch.complex64), "fc.bias": torch.ones(4)}
    refused(load_checkpoint, saved(tmp_path / "model.pth", content), "fc.weight is of type torch.complex64")
