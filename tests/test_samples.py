"""What data may be: batches of every kind, values beside their tensors, odd tensors; and nobody writes into them."""

import collections
import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import landscape_lib as ll
from landscape.objective import samples

GENERATOR = torch.Generator().manual_seed(4)
ROWS = torch.randn(43, 4, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.randint(0, 3, (43,), generator=GENERATOR)
Pair = collections.namedtuple("Pair", "x y")


@dataclasses.dataclass
class Fields:
    x: torch.Tensor
    y: torch.Tensor


class Mapped(collections.UserDict):
    """A mapping that is no dict, as tokenizers give."""


class Items(Dataset):
    """Samples one by one, each made by ``make``; ``inputs`` and ``targets`` are not what it gives."""

    def __init__(self, make, rows=ROWS):
        self.make, self.inputs, self.targets = make, 100 * rows, torch.zeros(len(rows), dtype=torch.int64)

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, index):
        return self.make(ROWS[index], LABELS[index])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(ROWS, LABELS, strict=True))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double().eval()


def objective(model, data, **options):
    return ll.objective(model, data, device="cpu", **{"dtype": torch.float64, **options})


class Walked:
    """A loader that is none of torch's."""

    def __init__(self, rows, labels):
        self.rows, self.labels = rows, labels

    def __iter__(self):
        return zip(self.rows.split(9), self.labels.split(9), strict=True)


def losses(model, rows=ROWS):
    return F.cross_entropy(model(rows), LABELS, reduction="none").detach()


def by_name(model, batch):
    x, y = (batch.x, batch.y) if hasattr(batch, "x") else (batch["x"], batch["y"])
    return F.cross_entropy(model(x), y, reduction="none")


def collated(make):
    return lambda samples: make(*(torch.stack(part) for part in zip(*samples, strict=True)))


KINDS = {
    "named tuples": (lambda: Items(Pair), "cross_entropy"),
    "named tuple": (lambda: Pair(ROWS, LABELS), by_name),
    "dict": (lambda: {"x": ROWS, "y": LABELS}, by_name),
    "mapping": (lambda: Mapped(x=ROWS, y=LABELS), by_name),
    "dataclass": (lambda: Fields(ROWS, LABELS), by_name),
    "batches of mappings": (
        lambda: DataLoader(TensorDataset(ROWS, LABELS), 10, collate_fn=collated(lambda x, y: Mapped(x=x, y=y))),
        by_name,
    ),
    "batches of dataclasses": (
        lambda: DataLoader(TensorDataset(ROWS, LABELS), 10, collate_fn=collated(Fields)),
        by_name,
    ),
    "list of samples": (lambda: list(zip(ROWS, LABELS, strict=True)), "cross_entropy"),
    "tuple of samples": (lambda: tuple(zip(ROWS, LABELS, strict=True)), "cross_entropy"),
    "arrays": (lambda: (ROWS.flip(0).numpy()[::-1], LABELS.numpy()), "cross_entropy"),
    "lists of numbers": (lambda: {"x": ROWS.tolist(), "y": LABELS.tolist()}, by_name),
    "labels in a list": (lambda: (ROWS, LABELS.tolist()), "cross_entropy"),
    "constants beside tensors": (
        lambda: {"x": ROWS, "y": LABELS, "split": "train", "scale": 0.5, "flag": True, "rank": 4, "none": None},
        by_name,
    ),
    "list of dataclasses": (lambda: [Fields(x, y) for x, y in zip(ROWS, LABELS, strict=True)], by_name),
    "list of rows of numbers": (
        lambda: [{"x": x.tolist(), "y": int(y)} for x, y in zip(ROWS, LABELS, strict=True)], by_name,
    ),
    "batches of arrays": (
        lambda: DataLoader(TensorDataset(ROWS, LABELS), 10, collate_fn=collated(lambda x, y: (x.numpy(), y.numpy()))),
        "cross_entropy",
    ),
    "batches that can be walked through": (lambda: Walked(ROWS, LABELS), "cross_entropy"),
    "stream": (Stream, "cross_entropy"),
    "dataset with inputs and targets": (lambda: Items(lambda x, y: (x, y)), "cross_entropy"),
    "nested": (lambda: ({"a": (ROWS[:, :2], ROWS[:, 2:])}, LABELS, None), lambda net, b: F.cross_entropy(
        net(torch.cat(b[0]["a"], 1)), b[1], reduction="none")),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_batch_gives_the_same_losses(kind):
    data, loss = KINDS[kind]
    model = network()
    torch.testing.assert_close(objective(model, data(), loss=loss, batch_size=7)(model), losses(model))


def test_encoded_texts_in_a_list_are_samples():
    tokens = torch.randint(0, 9, (12, 5), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9)).double()
    loss = lambda net, b: F.cross_entropy(net(b["input_ids"]).transpose(1, 2), b["labels"], reduction="none").mean(1)  # noqa: E731
    found = objective(model, [{"input_ids": row, "labels": row} for row in tokens], loss=loss)(model)
    torch.testing.assert_close(found, loss(model, {"input_ids": tokens, "labels": tokens}).detach())


def test_columns_of_pandas_are_arrays():
    pandas, model = pytest.importorskip("pandas"), network()
    data = pandas.DataFrame(ROWS.numpy()), pandas.Series(LABELS.numpy(), index=range(50, 93))
    torch.testing.assert_close(objective(model, data)(model), losses(model))
    alone = objective(model, data[0], loss=lambda net, x: net(x).square().mean(1))
    torch.testing.assert_close(alone(model), model(ROWS).square().mean(1).detach())


def data_set():
    datasets = pytest.importorskip("datasets")
    return datasets, datasets.Dataset.from_dict({"x": ROWS.tolist(), "y": LABELS.tolist(), "text": ["a"] * 43})


@pytest.mark.parametrize(
    "form",
    [
        lambda data: data,
        lambda data: data.remove_columns("text").with_format("torch"),
        lambda data: data.with_format("torch", columns=["x", "y"]),
        lambda data: data.with_format("numpy"),
        lambda data: data.to_iterable_dataset(),
        lambda data: DataLoader(data.with_format("torch"), batch_size=5),
    ],
)
def test_data_sets_of_the_datasets_library_are_taken(form):
    _, data = data_set()
    model = network().float()
    found = ll.objective(model, form(data), loss=by_name, device="cpu", dtype=torch.float64)(model)
    torch.testing.assert_close(found, losses(network(), ROWS.float().double()), rtol=1e-5, atol=1e-6)


def test_a_data_set_keeps_the_transform_that_it_has():
    datasets, data = data_set()
    model = network()
    doubled = data.with_transform(lambda rows: {"x": 2 * torch.tensor(rows["x"]).double(), "y": rows["y"]})
    torch.testing.assert_close(objective(model, doubled, loss=by_name)(model), losses(model, 2 * ROWS.float().double()))
    with pytest.raises(ll.InputError, match=r"several data sets \(train\); pass one of them, such as data\['train'\]"):
        objective(model, datasets.DatasetDict(train=data), loss=by_name)


def test_samples_that_a_loader_leaves_out_are_told():
    model, data = network(), TensorDataset(ROWS, LABELS)
    with pytest.warns(UserWarning, match=r"leaves out 3 of 43 samples \(drop_last=True\)"):
        found = objective(model, DataLoader(data, batch_size=10, drop_last=True))
    torch.testing.assert_close(found(model), losses(model)[:40])


def test_batches_of_several_lengths_are_weighted_by_what_counts():
    """Padded to the longest of each batch: the mean over all tokens is neither that over sentences nor over batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 11)).double()
    sentences = [torch.randint(0, 11, (length,)) for length in torch.randint(2, 13, (17,)).tolist()]

    def padded(rows):
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return {"ids": ids, "labels": nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)}

    def tokens(net, batch):
        each = F.cross_entropy(net(batch["ids"]).transpose(1, 2)[:, :, :-1], batch["labels"][:, 1:], reduction="none")
        counts = (batch["labels"][:, 1:] != -100).sum(1)
        return ll.Weighted(each.sum(1) / counts, counts)

    plane = ll.random_plane(model, seed=1)
    data = DataLoader(sentences, batch_size=3, collate_fn=padded)
    surface = ll.evaluate(objective(model, data, loss=tokens), plane, resolution=3, progress=False)
    moved = ll.model_at(model, plane(1.0, -1.0))
    each = torch.cat([F.cross_entropy(moved(row)[:-1], row[1:], reduction="none") for row in sentences])
    assert surface.loss[2, 0] == pytest.approx(each.mean().item(), rel=1e-12)
    found = ll.top_eigenpairs(ll.hessian_product(objective(model, data, loss=tokens), model), k=1).values[0]
    parameters = dict(model.named_parameters())
    shapes = [value.shape for value in parameters.values()]

    def mean(vector):
        pieces = vector.split([shape.numel() for shape in shapes])
        point = {n: p.reshape(s) for n, p, s in zip(parameters, pieces, shapes, strict=True)}
        out = [torch.func.functional_call(model, point, row)[:-1] for row in sentences]
        return F.cross_entropy(torch.cat(out), torch.cat([row[1:] for row in sentences]))

    vector = torch.cat([value.detach().flatten() for value in parameters.values()])
    matrix = torch.autograd.functional.hessian(mean, vector)
    assert found == pytest.approx(torch.linalg.eigvalsh(matrix)[-1].item(), rel=1e-6)


def test_a_single_tensor_is_its_own_target():
    model = network()
    found = objective(model, ROWS, loss=lambda net, x: net(x).square().mean(1))(model)
    torch.testing.assert_close(found, model(ROWS).square().mean(1).detach())


def loader(make, size=8):
    """Batches of rows, labels and what ``make`` (first row, labels) gives."""
    return DataLoader(
        [(ROWS[i : i + size], LABELS[i : i + size], make(i, LABELS[i : i + size])) for i in range(0, 43, size)],
        batch_size=None,
        collate_fn=lambda batch: batch,
    )


def scaled(factor):
    def loss(model, batch):
        return factor(batch[2], len(batch[1])) * F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    return loss


VALUES = {
    "number": (lambda start, _: 1.0 + start, lambda value, _: value),
    "tensor without axes": (lambda start, _: torch.tensor(1.0 + start), lambda value, _: value),
    "names": (
        lambda start, labels: [str(start + k) for k in range(len(labels))],
        lambda names, _: torch.tensor([float(name) for name in names]),
    ),
    "array": (lambda start, labels: labels.numpy() + start, lambda array, _: torch.from_numpy(array)),
    "the same for all": (
        lambda *_: {"temperature": 2.0, "language": "en", "mask": None},
        lambda v, _: v["temperature"],
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_beside_the_tensors_stay_with_their_batch(name):
    make, factor = VALUES[name]
    model, loss = network(), scaled(factor)
    expected = torch.cat([loss(model, batch) for batch in loader(make)]).detach()
    target = objective(model, loader(make), loss=loss)
    torch.testing.assert_close(target(model), expected)
    product = ll.hessian_product(target, model).matvec(np.ones(51))
    plain = ll.hessian_product(
        objective(model, (ROWS, LABELS, expected / losses(model)), loss=scaled(lambda v, _: v)), model
    )
    np.testing.assert_allclose(product, plain.matvec(np.ones(51)), atol=1e-12)


@pytest.mark.parametrize("size", [8, 43])
@pytest.mark.parametrize("kind", [int, torch.tensor])
def test_a_count_of_the_samples_beside_them_is_their_number(kind, size):
    model = network()
    loss = lambda net, b: F.cross_entropy(net(b[0]), b[1], reduction="sum") / b[2]  # noqa: E731
    target = objective(model, loader(lambda _, labels: kind(len(labels)), size), loss=loss)
    assert float(target(model).mean()) == pytest.approx(float(losses(model).mean()))
    with pytest.raises(ll.InputError, match="whole_batch=True needs batches that can be joined"):
        objective(model, loader(lambda _, labels: kind(len(labels))), loss=loss, whole_batch=True)


def test_other_values_on_a_second_pass_are_noticed():
    counter = iter(range(10**6))
    data = DataLoader(Items(lambda x, y: (x, y)), 10, collate_fn=lambda items: (*collated(Pair)(items), next(counter)))
    with pytest.raises(ll.InputError, match="other data on a second pass"):
        objective(network(), data, loss=lambda net, b: net(b[0]).square().mean(1))


class Graph:
    pass


class Fails(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.zeros(index + 1), 0


REFUSED = {
    "object": (lambda: loader(lambda *_: Graph()), r"a test_samples.Graph, which cannot be divided .* \(in '2'\)"),
    "list of batches": (lambda: list(DataLoader(TensorDataset(ROWS, LABELS), 10)), "may be a sample or a batch of 10"),
    "pair of pairs": (lambda: ((ROWS, LABELS), (ROWS, LABELS)), "may be a sample or a batch of 43"),
    "unequal samples": (Fails, "cannot be made into batches .*collate_fn"),
    "packed sequences": (
        lambda: DataLoader([ROWS[:3], ROWS[:2], ROWS[:1]], 3, collate_fn=nn.utils.rnn.pack_sequence),
        "must have one length",
    ),
    "no tensors": (lambda: DataLoader(["a", "b"]), "holds no tensor with one row a sample, only str"),
    "no axes": (lambda: (torch.tensor(1.0), torch.tensor(2)), "only a tensor without axes"),
    "nothing": (lambda: None, "not NoneType; a loss that needs no data"),
    "empty list": (list, "not an empty list"),
    "no samples": (lambda: (ROWS[:0], LABELS[:0]), "no samples"),
    "empty dataset": (lambda: TensorDataset(ROWS[:0], LABELS[:0]), "no samples"),
    "text": (lambda: (ROWS.numpy(), np.array(["a"] * 43)), "in '1' an array of <U1; pass numbers"),
    "names beside tensors": (lambda: {"x": ROWS, "id": ["a"] * 43}, "hold 'id', a list of 43, beside tensors: leave"),
    "a count beside tensors": (lambda: {"x": ROWS, "t": {"n": 43}}, r"hold 't\.n', 43, beside tensors: leave it out"),
    "ragged lists": (lambda: {"x": ROWS, "ids": [[1, 2], [3]]}, "hold in 'ids' lists of unequal lengths; pad them"),
    "several data sets": (lambda: {"train": TensorDataset(ROWS, LABELS), "test": [1]}, r"\(train, test\); pass one"),
    "generator": (lambda: (row for row in ROWS), "a generator can be iterated over only once; pass a list"),
    "sparse": (lambda: (ROWS.to_sparse(), LABELS), r"sparse_coo tensor; convert it first: to_dense\(\) \(in '0'\)"),
    "meta": (lambda: (ROWS.to("meta"), LABELS), "a meta tensor"),
    "nested": (lambda: (torch.nested.nested_tensor([ROWS[0], ROWS[1]]), LABELS[:2]), "a nested tensor"),
    "quantized": (
        lambda: (torch.quantize_per_tensor(ROWS.float(), 0.1, 0, torch.qint8), LABELS), r"quantized tensor.*dequantize",
    ),
    "complex rows": (lambda: (ROWS.to(torch.complex128), LABELS), "does not accept inputs"),
    "bool rows": (lambda: (ROWS > 0, LABELS), "does not accept inputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")  # torch deprecates quantized and prototypes nested tensors
def test_data_that_cannot_be_used_are_one_clear_line(name):
    make, why = REFUSED[name]
    with pytest.raises(ll.InputError, match=why) as caught:
        objective(network(), make())
    assert "\n" not in str(caught.value)


def test_conjugate_views_half_precision_and_nan_are_taken_as_they_are():
    model = network()
    spectrum = torch.fft.fft(ROWS)
    absolute = lambda net, b: net((b[0] * b[1]).abs()).square().mean(1)  # noqa: E731
    found = objective(model, (spectrum.conj(), spectrum), loss=absolute)(model)
    torch.testing.assert_close(found, model((spectrum.conj() * spectrum).abs()).square().mean(1).detach())
    half = ROWS.to(torch.bfloat16)
    found = objective(model, (half, LABELS))(model)
    torch.testing.assert_close(found, F.cross_entropy(model(half.double()), LABELS, reduction="none").detach())
    broken = ROWS.clone()
    broken[7] = torch.nan
    found = objective(model, (broken, LABELS))(model)
    assert found.isnan().nonzero().flatten().tolist() == [7]


def test_arrays_of_the_other_byte_order_are_taken():
    model, swapped = network(), [array.astype(array.dtype.newbyteorder()) for array in (ROWS.numpy(), LABELS.numpy())]
    torch.testing.assert_close(objective(model, tuple(swapped))(model), losses(model))


def test_a_text_beside_tensors_stays_with_all_data_as_one_batch():
    model, batch = network(), {"x": ROWS, "y": LABELS, "kind": "half"}
    data = DataLoader([batch], batch_size=None)
    loss = lambda net, b: F.cross_entropy(net(b["x"]) / (1 + (b["kind"] == "half")), b["y"], reduction="none")  # noqa: E731
    torch.testing.assert_close(objective(model, data, loss=loss)(model), loss(model, batch).detach())


@pytest.mark.parametrize("streamed", [False, True])
def test_batches_without_samples_are_passed_over(streamed, monkeypatch):
    batches = [(ROWS[start:stop], LABELS[start:stop]) for start, stop in ((0, 20), (20, 20), (20, 43), (43, 43))]
    if streamed:
        monkeypatch.setattr(samples, "available_memory", lambda device: 0)
    model = network()
    found = objective(model, DataLoader(batches, batch_size=None))
    assert (found.samples.tensors is None) == streamed
    torch.testing.assert_close(found(model), losses(model))


def test_a_dtype_other_than_float32_and_float64_is_refused():
    with pytest.raises(ll.InputError, match=r"torch\.float32, torch\.float64 or None, not torch\.float16"):
        ll.objective(network(), (ROWS, LABELS), dtype=torch.float16)


class Overwrites(nn.Module):
    """Doubles its inputs in place, unlike ReLU not the same when done twice."""

    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, rows):
        return self.net(rows.mul_(2))


def overwriting(model, batch):
    batch[0].mul_(2)
    return F.cross_entropy(model(batch[0]), batch[1].sub_(0), reduction="none")


@pytest.mark.parametrize("kind", ["network", "loss"])
@pytest.mark.parametrize("method", ["direct", "auto"])
def test_nobody_writes_into_the_data(kind, method):
    rows, labels = ROWS.clone(), LABELS.clone()
    model = Overwrites() if kind == "network" else network()
    loss = "cross_entropy" if kind == "network" else overwriting
    target = objective(model, (rows, labels), loss=loss, batch_size=7)
    plane = ll.random_plane(model, seed=1)
    surface = ll.evaluate(target, plane, resolution=3, method=method, progress=False)
    ll.sharpness(target, model, "sam")
    ll.hessian_product(target, model).matvec(np.ones(51))
    ll.fit_curve(target, model, Overwrites() if kind == "network" else network(1), epochs=1, progress=False)
    torch.testing.assert_close(rows, ROWS, rtol=0, atol=0)
    torch.testing.assert_close(labels, LABELS, rtol=0, atol=0)
    for i, a in enumerate((-1, 0, 1)):
        moved = copy.deepcopy(model)
        moved.load_state_dict({**moved.state_dict(), **plane(a, 1)})
        forward = functools.partial(overwriting, moved) if kind == "loss" else None
        own = (2 * ROWS, LABELS.clone())
        expected = forward((ROWS.clone(), own[1])) if forward else F.cross_entropy(moved.net(own[0]), own[1])
        assert surface.loss[i, 2] == pytest.approx(float(expected.mean().detach()), rel=1e-12)


def test_activations_of_a_network_that_overwrites_its_inputs_are_matched_without_harm():
    rows = ROWS.clone()
    first, second = (nn.Sequential(nn.ReLU(inplace=True), *network(seed)) for seed in (0, 1))
    ll.align(first, second, method="activations", data=(rows, LABELS))
    torch.testing.assert_close(rows, ROWS, rtol=0, atol=0)


class OverwritesSome(nn.Module):
    """Doubles rows in place where ``chosen`` says so, by their values and the weights."""

    def __init__(self, chosen):
        super().__init__()
        self.net, self.chosen = network(), chosen

    def forward(self, rows):
        marked = self.chosen(rows, self.net[0].weight)
        if marked.any():
            rows[marked] = 2 * rows[marked]
        return self.net(rows)


def through_numpy(model, batch):
    rows = batch[0].numpy()
    rows *= 2
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def test_values_that_are_written_through_numpy_are_noticed():
    model, rows = network(), ROWS.clone()
    found = objective(model, (rows, LABELS), loss=through_numpy)(model)
    torch.testing.assert_close(found, losses(model, 2 * ROWS))
    torch.testing.assert_close(rows, ROWS, rtol=0, atol=0)


def test_a_loss_that_takes_entries_out_of_its_batch_finds_them_every_time():
    def popping(net, batch):
        labels = batch.pop("y")
        return F.cross_entropy(net(**batch), labels, reduction="none")

    model, rows = network(), {"input": ROWS, "y": LABELS}
    target = objective(model, rows, loss=popping)
    for _ in range(2):
        torch.testing.assert_close(target(model), losses(model))
    surface = ll.evaluate(target, ll.random_plane(model, seed=1), resolution=3, method="direct", progress=False)
    assert surface.loss[1, 1] == pytest.approx(float(losses(model).mean())) and set(rows) == {"input", "y"}


def test_a_network_that_overwrites_rare_samples_gives_what_it_gives_for_a_copy():
    rows = torch.cat([ROWS] * 20)
    rows[777] = 5.0
    given, labels = rows.clone(), torch.cat([LABELS] * 20)
    model = OverwritesSome(lambda inputs, _: inputs.amin(1) >= 5)
    found = objective(model, (given, labels), batch_size=50)
    expected = rows.clone()
    expected[777] = 10.0
    for _ in range(2):
        torch.testing.assert_close(
            found(model), F.cross_entropy(model.net(expected), labels, reduction="none").detach()
        )
    torch.testing.assert_close(given, rows, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["direct", "auto"])
@pytest.mark.parametrize("form", ["tensors", "batches", "streamed"])
def test_a_network_that_overwrites_samples_far_away_harms_none_and_is_refused_or_right(form, method, monkeypatch):
    rows = ROWS.clone()
    data = rows, LABELS
    if form != "tensors":
        data = DataLoader([(rows[:20], LABELS[:20], 1), (rows[20:], LABELS[20:], 2)], batch_size=None)
    if form == "streamed":
        monkeypatch.setattr(samples, "available_memory", lambda device: 0)
    loss = "cross_entropy" if form == "tensors" else lambda net, b: F.cross_entropy(net(b[0]), b[1], reduction="none")
    model = OverwritesSome(lambda inputs, weight: inputs[:, 0] * 0 + weight.norm() > 1.5 * size)
    size = model.net[0].weight.norm().detach()
    target, plane = objective(model, data, loss=loss), ll.random_plane(model, seed=1)
    arguments = {"alpha_range": (-3, 3), "beta_range": (-2, 2), "resolution": 3, "method": method, "progress": False}
    if form == "streamed":
        found = ll.evaluate(target, plane, **arguments).loss[2, 2]
        moved = copy.deepcopy(model)
        moved.load_state_dict(plane(3, 2))
        assert found == pytest.approx(float(losses(moved.net, 2 * ROWS).mean()), rel=1e-9)
    else:
        for _ in range(2):  # also a second time, when samples are no longer what they were
            with pytest.raises(ll.InputError, match=r"writes into its batch.*x = x\.clone"):
                ll.evaluate(target, plane, **arguments)
    torch.testing.assert_close(rows, ROWS, rtol=0, atol=0)


def test_data_that_change_later_are_refused_or_were_copied():
    rows, labels = ROWS.float(), LABELS.clone()
    plain = nn.Sequential(nn.Linear(rows.shape[1], 5), nn.ReLU(), nn.Linear(5, 3))
    unknown = nn.Sequential(*plain, nn.Unflatten(1, (3,)))  # a layer whose passes nothing is known of
    borrowed, copied = (ll.objective(model, (rows, labels), device="cpu") for model in (plain, unknown))
    expected = F.cross_entropy(plain(rows), labels, reduction="none")
    torch.testing.assert_close(borrowed(plain), expected)
    rows += 1
    with pytest.raises(ll.InputError, match=r"were changed after the objective was made .*tensor\.clone\(\)"):
        borrowed(plain)
    torch.testing.assert_close(copied(unknown), expected)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.randn(43, 3), "class probabilities, but some are negative; for regression pass loss='mse'"),
        (torch.full((43, 3), 0.5), "class probabilities, but they do not sum to 1"),
        (torch.ones(43, 1), "class probabilities, but there is only one class"),
    ],
)
def test_numbers_that_are_no_probabilities_are_no_targets_of_cross_entropy(targets, message):
    model, rows = nn.Linear(4, targets.shape[1]), ROWS.float()
    for data in ((rows, targets), DataLoader(TensorDataset(rows, targets), batch_size=10)):
        with pytest.raises(ll.InputError, match=message):
            ll.objective(model, data, device="cpu")
    soft = targets.softmax(1)
    if targets.shape[1] > 1:
        losses = ll.objective(model, (rows, soft), device="cpu")(ll.parameters_of(model))
        expected = -(soft.double() * model(rows).double().log_softmax(1)).sum(1)
        assert torch.allclose(losses.double(), expected, atol=1e-5)
