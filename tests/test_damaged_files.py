"""Files of every kind, damaged in every way: what comes out is what went in, or one line that says why not."""

import io
import json
import random
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch

import landscape_lib as ll
from landscape.datasets.cache import cached_arrays
from landscape.evaluation.resume import load_progress, save_progress
from landscape.evaluation.statistics import Statistics
from landscape.storage.digests import DIGEST
from landscape.storage.records import read_record, write_record
from landscape.studies.kit.results_file import StoredResults
from landscape.training.checkpoints import load_checkpoint, save_checkpoint
from landscape.training.state import TrainingState

ROUNDS = 20  # of each mutation of each file
IDENTITY = {"slice": "s", "data": "d", "first losses": [1.0, 2.0]}


def network():
    torch.manual_seed(0)
    return ll.build_model("linear-mnist", input_shape=(1, 3, 3), classes=4)


def write_checkpoint(path):
    fields = {"model_arguments": {"input_shape": [1, 3, 3], "classes": 4}, "data": {"name": "digits"}}
    save_checkpoint(path, network(), model_name="linear-mnist", epoch=3, metrics={"a": 0.5}, settings={}, **fields)


def write_unsealed_checkpoint(path):
    """As earlier versions wrote it, without a digest."""
    write_checkpoint(path)
    torch.save(torch.load(path, weights_only=True), buffer := io.BytesIO())
    path.write_bytes(buffer.getvalue())


def read_checkpoint(path):
    found = load_checkpoint(path)
    return found.metadata, found.model.state_dict()


def training_state(path, seed=0):
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 1, 3, 3)).sum().backward()
    optimizer.step()
    generator = torch.Generator().manual_seed(seed)
    return TrainingState(path, {"lr": 0.1, "milestones": (1, 2)}, model, optimizer, generator)


def write_state(path):
    training_state(path).save([{"lr": 0.1, "test_loss": 0.25}])


def read_state(path):
    state = training_state(path, seed=1)
    history = state.restore()
    return history, state.model.state_dict(), state.optimizer.state_dict(), state.generator.get_state()


def surface():
    values = np.random.default_rng(0).random((4, 3))
    values[1, 2] = np.nan
    per_sample = np.random.default_rng(1).random((4, 3, 5)).astype(np.float32)
    axes = np.linspace(-1, 1, 4), np.array([-1.0, 0.0, 2.0])
    return ll.Surface(*axes, values, values, values, per_sample, {"data": {"size": 5}, "slice": {"seed": 3}})


def trajectory():
    columns = np.random.default_rng(0).random((4, 5))
    places = np.random.default_rng(1).random((5, 2))
    return ll.results.Trajectory(np.array([0, 2, 3, 5, 9]), places, *columns, {"name": "run", "unit": "epoch"})


def eigenpairs():
    values = np.array([3.0, 2.0])
    return ll.results.Eigenpairs(
        values, values / 100, values > 2, np.ones((2, 7), np.float32), 40, {"operator": "hessian"}
    )


def density():
    return ll.results.SpectralDensity(np.arange(6.0).reshape(2, 3), np.full((2, 3), 1 / 3), 6, {"steps": 3})


def trace():
    return ll.results.TraceEstimate(2.5, 0.5, 4, True, np.array([2.0, 3.0]), {"method": "hutch++"})


def statistics():
    found = Statistics(6, 5, per_sample=True, dtype=torch.float32)
    found.finished[:4], found.total[:4], found.hits[:4] = True, torch.arange(4.0), 2
    found.spread[:4], found.per_sample[:4] = 0.5, 0.75
    return found


def read_progress(path):
    return load_progress(path, IDENTITY, Statistics(6, 5, per_sample=True, dtype=torch.float32))


def points():
    generator = torch.Generator().manual_seed(0)
    return [{"w": torch.randn(3, 2, generator=generator), "b": torch.randn(3, generator=generator)} for _ in range(6)]


def write_recording(path):
    recorder = ll.TrajectoryRecorder(path, notes={"lr": 0.1})
    for step, point in enumerate(points()):
        recorder.record(point, loss=step / 3)


def read_recording(path):
    """Every point that is given is one that was recorded, at its step; then the notes and the shapes are right too."""
    found = ll.RecordedPoints(path)
    for step, loss, point in zip(found.steps, found.losses, found, strict=True):
        assert loss == step / 3 and all(torch.equal(point[name], value) for name, value in points()[step].items())
    return found.notes, found.unit, found.shapes


def write_cache(path):
    cached_arrays(path, ("pixels", "targets"), {"images": "two"}, decoded)


def decoded():
    return {"pixels": np.arange(60, dtype=np.uint8).reshape(5, 2, 2, 3), "targets": np.arange(5)}


def read_cache(path):
    return cached_arrays(path, ("pixels", "targets"), {"images": "two"}, decoded)


def write_summary(path):
    path.with_name("x.npz").write_bytes(b"x")
    write_record(
        path, {"seed": 3}, {"final": {"train_loss": 0.25}, "checkpoints": {"0": "x"}}, [path.with_name("x.npz")]
    )


def read_summary(path):
    if (found := read_record(path)) is None:
        raise ll.InputError("work is done again")
    return {key: found[key] for key in ("recipe", "final", "checkpoints", "files")}  # what is read of it


def write_results(path):
    StoredResults(path).get(3, "training", {"lr": 0.1}, lambda: {"loss": 0.25, "epochs": [1.5, 2.5]})


def read_results(path):
    def compute():
        raise ll.InputError("work is done again")

    return StoredResults(path).get(3, "training", {"lr": 0.1}, compute)


KINDS = {
    "checkpoint.pth": (write_checkpoint, read_checkpoint),
    "earlier.pth": (write_unsealed_checkpoint, read_checkpoint),
    "state.pth": (write_state, read_state),
    "surface.npz": (lambda path: surface().save(path), lambda path: vars(ll.Surface.load(path))),
    "trajectory.npz": (lambda path: trajectory().save(path), lambda path: vars(ll.results.Trajectory.load(path))),
    "eigenpairs.npz": (lambda path: eigenpairs().save(path), lambda path: vars(ll.results.Eigenpairs.load(path))),
    "density.npz": (lambda path: density().save(path), lambda path: vars(ll.results.SpectralDensity.load(path))),
    "trace.npz": (lambda path: trace().save(path), lambda path: vars(ll.results.TraceEstimate.load(path))),
    "progress.npz": (lambda path: save_progress(path, IDENTITY, statistics()), read_progress),
    "run.points": (write_recording, read_recording),
    "cache.npz": (write_cache, read_cache),
    "summary.json": (write_summary, read_summary),
    "results.json": (write_results, read_results),
}


# ---------------------------------------------------------------- mutations of bytes


def flip(content, chance):
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def cut(content, chance):
    del content[chance.randrange(len(content)) :]


def lose(content, chance):
    begin = chance.randrange(len(content))
    del content[begin : begin + chance.randrange(1, 40)]


def insert(content, chance):
    begin = chance.randrange(len(content))
    content[begin:begin] = chance.randbytes(chance.randrange(1, 40))


def blank(content, chance):
    begin = chance.randrange(len(content))
    content[begin : begin + 32] = bytes(len(content[begin : begin + 32]))


def exchange(content, chance):
    one, other = sorted(chance.sample(range(len(content)), 2))
    size = min(24, other - one, len(content) - other)
    content[one : one + size], content[other : other + size] = content[other : other + size], content[one : one + size]


def scribble(content, chance):
    begin = chance.randrange(len(content))
    content[begin : begin + 8] = chance.randbytes(len(content[begin : begin + 8]))


def enlarge(content, chance):
    """A number somewhere becomes huge: sizes, counts and offsets among them."""
    begin = chance.randrange(max(1, len(content) - 4))
    content[begin : begin + 4] = struct.pack("<I", chance.choice((2**31 - 1, 2**32 - 1, 2**24)))


MUTATIONS = (flip, flip, cut, lose, insert, blank, exchange, scribble, enlarge)


# ---------------------------------------------------------------- mutations of what the bytes mean


def members_mutated(content, chance):
    """The archive with members exchanged, missing, renamed, twice or of another one's content; valid otherwise."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        parts, comment = [(info.filename, file.read(info)) for info in file.infolist()], file.comment
    k, other = chance.sample(range(len(parts)), 2)
    how = chance.choice(("exchange", "drop", "rename", "twice", "copy", "byte", "add"))
    if how == "exchange":
        parts[k], parts[other] = (parts[k][0], parts[other][1]), (parts[other][0], parts[k][1])
    elif how == "drop":
        del parts[k]
    elif how == "rename":
        parts[k] = (parts[k][0] + "x", parts[k][1])
    elif how == "copy":
        parts[k] = (parts[k][0], parts[other][1])
    elif how == "byte" and parts[k][1]:
        changed = bytearray(parts[k][1])
        flip(changed, chance)
        parts[k] = (parts[k][0], bytes(changed))
    elif how in ("twice", "add"):
        parts.append((parts[k][0] if how == "twice" else "added", parts[k][1]))
    with warnings.catch_warnings(), zipfile.ZipFile(target := io.BytesIO(), "w") as file:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, part in parts:
            file.writestr(name, part)
        file.comment = comment
    return target.getvalue()


ODD = (None, True, -1, 1e400, float("nan"), "", "x" * 5000, [], {}, [[[[]]]], 10**30, "\ud800", {"a": {"b": [1]}})


def json_mutated(content, chance):
    """The text with one value replaced, the digest left as it is."""
    value = json.loads(content)
    places = []

    def collect(part):
        for key, entry in part.items() if isinstance(part, dict) else enumerate(part):
            places.append((part, key))
            if isinstance(entry, dict | list):
                collect(entry)

    collect(value)
    part, key = chance.choice([place for place in places if place[1] != DIGEST])
    part[key] = chance.choice(ODD)
    return json.dumps(value).encode()


def mutated(name, content, chance, how):
    if how is not None:
        how(changed := bytearray(content), chance)
        return bytes(changed)
    if content.startswith(b"PK") and name != "earlier.pth":  # which nothing tells from another one
        return members_mutated(content, chance)
    return json_mutated(content, chance) if name.endswith(".json") else content


def plain(value):
    """``value`` as nested tuples that can be compared, NaN with NaN."""
    if isinstance(value, dict):
        return tuple((str(key), plain(entry)) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    return repr(value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_gives_what_was_written_or_one_line(kind, tmp_path, capsys):
    write, read = KINDS[kind]
    path = tmp_path / kind
    write(path)
    content, refused = path.read_bytes(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of recordings that are cut, and caches made again
        expected = plain(read(path))
        for number, how in enumerate([*MUTATIONS, None, None] * ROUNDS):
            chance = random.Random(f"{kind} {number}")
            path.write_bytes(changed := mutated(kind, content, chance, how))
            try:
                assert plain(read(path)) == expected, (number, how)
            except ll.InputError as error:
                refused += 1
                assert "\n" not in str(error) and changed != content
    assert refused or kind == "cache.npz"
