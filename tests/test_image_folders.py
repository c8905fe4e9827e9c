"""Folders of images as people have them: every file is read right, or refused by name in one line."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from landscape.datasets import folder, images, load_dataset
from landscape.datasets.images import read_image
from landscape.errors import InputError

PIXELS = np.random.default_rng(0)


def colours(shape=(6, 4, 3)):
    return PIXELS.integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    """Two classes of three colour images of 6 x 4 pixels."""
    for split in ("train", "test"):
        for name in "ab":
            place = tmp_path / "set" / split / name
            place.mkdir(parents=True)
            for k in range(3):
                Image.fromarray(colours()).save(place / f"{k}.png")
    return tmp_path / "set"


def load(root, split="train"):
    return load_dataset(f"folder:{root}", split=split, data_dir=root.parent / "cache")


def assert_refused(root, *words):
    with pytest.raises(InputError) as caught:
        load(root)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable()
    for word in words:
        assert word in message


def png(width, height, depth, colour, raw):
    """A PNG of any depth, byte by byte."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


# What lies in folders beside images


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".thumbnails", "__MACOSX", "@eaDir", ".git"])
@pytest.mark.parametrize("filled", [True, False])
def test_folders_that_systems_make_are_no_classes(root, name, filled):
    for split in ("train", "test"):
        (root / split / name).mkdir()
        if filled:
            Image.fromarray(colours()).save(root / split / name / "0.png")
    with pytest.warns(UserWarning, match=f"left out {name}/, which are hidden"):
        data = load(root)
    assert data.classes == ("a", "b") and data.targets.tolist() == [0, 1] * 3


def test_hidden_and_foreign_files_are_left_out_and_named(root):
    for name in ("._0.png", "Thumbs.db", ".DS_Store"):
        (root / "train" / "b" / name).write_bytes(b"no image")
    (root / "train" / "readme.txt").write_text("about")
    inner = root / "train" / "b" / ".ipynb_checkpoints"
    inner.mkdir()
    Image.fromarray(colours()).save(inner / "0-checkpoint.png")
    with pytest.warns(UserWarning, match=r"left out \.DS_Store, \._0\.png, \.ipynb_checkpoints and 2 more"):
        data = load(root)
    assert data.targets.tolist() == [0, 1] * 3


def test_an_empty_class_is_refused(root):
    (root / "train" / "c").mkdir()
    assert_refused(root, "no image in 'c'", ".png")
    (root / "train" / "c" / "moving.gif").write_bytes(b"GIF89a")
    assert_refused(root, "no image in 'c'")


def test_folders_within_a_class_belong_to_it_as_elsewhere(root):
    """The order is that of torchvision's ImageFolder, an implementation of its own."""
    from torchvision.datasets import ImageFolder

    for place in ("a/z", "a/z/y", "a/z-1", "b/c"):
        (root / "train" / place).mkdir()
        Image.fromarray(colours()).save(root / "train" / place / "0.JPEG")
    theirs = [path for path, _ in ImageFolder(root / "train").samples]
    ours, targets, _ = folder.list_images(root / "train")
    assert ours == theirs and targets == [0] * 6 + [1] * 4


@pytest.mark.parametrize("target", [".", "..", "../../b", "../../../train"])
def test_links_that_lead_back_are_refused(root, target):
    inner = root / "train" / "a" / "inner"
    inner.mkdir()
    (inner / "link").symlink_to(target)
    (root / "train" / "b" / "back").symlink_to("../a")
    assert_refused(root, "is a link to a folder that was read before")


def test_a_linked_class_is_read(root):
    (root / "train" / "a").rename(root / "elsewhere")
    (root / "train" / "a").symlink_to("../elsewhere")
    assert load(root).targets.tolist() == [0, 1] * 3


@pytest.mark.parametrize("kind", ["pipe", "broken link", "link to itself"])
def test_what_is_no_file_is_refused_without_waiting(root, kind):
    path = root / "train" / "a" / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere.png" if kind == "broken link" else "x.png")
    assert_refused(root, "a/x.png is a broken link, a pipe or a device")


def test_names_that_cannot_be_decoded_are_read_in_files_and_refused_in_classes(root):
    place = os.fsencode(root / "train" / "a")
    os.rename(place + b"/0.png", place + b"/\xff.png")
    assert load(root).targets.tolist() == [0, 1] * 3
    with open(place + b"/\xff.png", "wb") as file:
        file.write(b"no image")
    assert_refused(root, "a/\\udcff.png is a damaged image")
    os.rename(place, place + b"\xff")
    assert_refused(root, "train/a\\udcff: the name of this class cannot be decoded as text")
    assert_refused(root.parent / "set\udcff", "the name of the folder")


# What an image file says


def test_transparency_is_laid_over_white_and_said(root):
    ink = np.zeros((6, 4, 4), np.uint8)
    ink[2:4, 1:3, 3] = (255, 51)  # black, opaque at the left and a fifth at the right
    Image.fromarray(ink).save(root / "train" / "a" / "0.png")
    opaque = np.dstack([colours(), np.full((6, 4), 255, np.uint8)])
    Image.fromarray(opaque).save(root / "train" / "a" / "1.png")
    for _ in range(2):  # decoded, and from the cache
        with pytest.warns(UserWarning, match="transparent parts of 1 images are laid over white"):
            data = load(root)
        assert data.source.endswith("transparent parts of 1 laid over white")
    expected = np.ones((6, 4, 3))
    expected[2:4, 1], expected[2:4, 2] = 0, 0.8
    np.testing.assert_allclose(data.image(0), expected, atol=1e-6)
    np.testing.assert_allclose(data.image(2), opaque[..., :3] / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["P", "LA", "L", "RGB", "1"])
def test_every_way_to_be_transparent(tmp_path, mode):
    """A grey image whose darkest value is transparent shows it as white."""
    levels = np.array([[0, 255], [255, 0]], np.uint8)
    path = tmp_path / "x.png"
    if mode == "LA":
        Image.merge("LA", [Image.fromarray(levels)] * 2).save(path)
    else:
        key = (0, 0, 0) if mode == "RGB" else 0
        Image.fromarray(levels).convert(mode).save(path, transparency=key)
    pixels, transparent = read_image(str(path))
    assert transparent and (pixels == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_images_stand_as_their_camera_noted(tmp_path, orientation, suffix):
    """Against the table of the standard: where its first row and column are on the screen."""
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255  # the upper left corner
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: upright.T[::-1, ::-1], 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"x.{suffix}", exif=exif)
    pixels, _ = read_image(str(tmp_path / f"x.{suffix}"))
    np.testing.assert_allclose(pixels[..., 0], upright, atol=8)


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_grey_images_of_sixteen_bits_keep_them(root, suffix):
    deep = PIXELS.integers(0, 65536, (6, 4)).astype(np.uint16)
    shallow = PIXELS.integers(0, 256, (6, 4)).astype(np.uint8)
    for split in ("train", "test"):
        for file in (root / split).rglob("*.png"):
            Image.fromarray(shallow).save(file)
    (root / "train" / "b" / "0.png").unlink()
    Image.fromarray(deep).save(root / "train" / "b" / f"0.{suffix}")
    data = load(root)
    np.testing.assert_allclose(data.image(1), deep / 65535, atol=1e-6)
    np.testing.assert_allclose(data.image(0), shallow / 255, atol=1e-6)
    everything = np.concatenate([deep / 65535, *[shallow / 255] * 5])
    assert data.mean[0] == pytest.approx(everything.mean()) and data.std[0] == pytest.approx(everything.std())
    np.testing.assert_allclose(load(root, "test").image(0), shallow / 255, atol=1e-6)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_sixteen_bits_are_refused_rather_than_cut(root, colour, channels):
    raw = b"".join(b"\0" + bytes(2 * channels * 4) for _ in range(6))
    (root / "train" / "a" / "1.png").write_bytes(png(4, 6, 16, colour, raw))
    assert_refused(root, "a/1.png has more than 8 bits a channel")


def test_other_deep_images_are_refused(root):
    (root / "train" / "a" / "x.ppm").write_bytes(b"P6 4 6 65535\n" + bytes(144))
    assert_refused(root, "a/x.ppm has more than 8 bits")
    (root / "train" / "a" / "x.ppm").unlink()
    for kind in (np.int32, np.float32):
        Image.fromarray(np.zeros((6, 4), kind)).save(root / "train" / "a" / "x.tiff")
        assert_refused(root, "a/x.tiff has more than 8 bits")


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBX"])
def test_modes_without_transparency_keep_their_colours(tmp_path, mode):
    black_and_white = np.repeat((PIXELS.integers(0, 2, (6, 4, 1)) * 255).astype(np.uint8), 3, axis=-1)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "RGBX") else "x.png")
    Image.fromarray(black_and_white).convert(mode).save(path)
    pixels, transparent = read_image(str(path))
    np.testing.assert_array_equal(pixels, black_and_white)
    assert not transparent


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_files_of_several_pictures_are_refused(root, suffix):
    frames = [Image.fromarray(colours()) for _ in range(3)]
    frames[0].save(root / "train" / "a" / f"x.{suffix}", save_all=True, append_images=frames[1:])
    assert_refused(root, f"a/x.{suffix} holds 3 pictures")


# Damage and attacks


@pytest.mark.parametrize("pixels", [(20_000, 9_000), (10_000, 9_000)])  # an error and a warning of the decoder
def test_a_decompression_bomb_is_named(root, pixels):
    raw = b"\0" * 100
    (root / "train" / "a" / "1.png").write_bytes(png(*pixels, 8, 0, raw))
    assert_refused(root, "a/1.png has more than 89,478,485 pixels")


@pytest.mark.parametrize("kept", [0, 1, 20, 60])
def test_truncated_files_are_named(root, kept):
    path = root / "train" / "b" / "2.png"
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    assert_refused(root, "b/2.png is a damaged image, or none")


def test_whatever_a_decoder_raises_names_the_file(root, monkeypatch):
    def broken(*_):
        raise struct.error("unpack requires\na buffer")

    monkeypatch.setattr(Image, "open", broken)
    assert_refused(root, "a/0.png is a damaged image, or none: unpack requires a buffer")


def test_a_file_that_may_not_be_read_is_named(root, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(images, "open", refuse, raising=False)
    assert_refused(root, "a/0.png cannot be read: Permission denied")


def test_more_images_than_fit_into_memory_are_refused_before_they_are_decoded(root, monkeypatch):
    monkeypatch.setattr(folder.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**10}))
    assert_refused(root, "6 images of 4 x 6 pixels take", "limit")
