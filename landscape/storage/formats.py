"""Recognition of foreign file formats, so that messages can say what a file is and how to use it."""

import io
import zipfile
from collections.abc import Callable

from landscape.escaping import one_line

__all__ = ["foreign_format", "is_legacy_torch", "is_safetensors"]

WEIGHTS = "load the weights into your model and write it with save_checkpoint"
WITH_NETWORK = "load it with its network, load_checkpoint(path, model=network)"
BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file (Keras and others): read it with h5py, {WEIGHTS}"),
    (b"GGUF", f"a GGUF file: read it with the gguf package, {WEIGHTS}"),
    (b"\x93NUMPY", "a single numpy array (.npy)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch it with git lfs pull"),
    (b"landscape points ", "a recording of points: read it with RecordedPoints"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF"),
    (b"\x7fELF", "a program or library"),
    (b"#!", "a script"),
)
LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number 0x1950A86A20F9469CFC6C, pickled


def foreign_format(content: bytes) -> str | None:
    """The format of ``content`` in words, with advice how to use it, if there is some; None if it is unknown."""
    for beginning, words in BEGINNINGS:
        if content.startswith(beginning):
            return words
    if content.startswith(b"PK\x03\x04"):
        return _of_zip(content)
    for known, words in CHECKS:
        if known(content):
            return words
    return None


def _of_zip(content: bytes) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            names = file.namelist()
    except Exception:  # for damaged bytes the reader raises errors of many types
        return None
    if names and all(name.endswith(".npy") for name in names):
        members = one_line(", ".join(name.removesuffix(".npy") for name in names[:6]))[:200]
        return f"an .npz file of other arrays ({members})"
    ends = {name.partition("/")[2] for name in names}
    if "constants.pkl" in ends or any(end.startswith("code/") for end in ends):
        return f"a TorchScript archive: load it with torch.jit.load, {WEIGHTS}"
    if {"archive_format", "models/model.json"} & ends or any("exported_program" in name for name in names):
        return f"an archive of torch.export: {WITH_NETWORK}"
    if "data.pkl" in ends:
        return "a file of torch.save"
    if any(name.endswith((".keras", "config.json", ".weights.h5")) for name in names):
        return f"a Keras archive: load it with keras, {WEIGHTS}"
    return "a zip archive of other files"


def is_safetensors(content: bytes) -> bool:
    """Whether ``content`` begins as safetensors files do: with the length of a table, and the table."""
    return 8 < 8 + int.from_bytes(content[:8], "little") <= len(content) and content[8:9] == b"{"


def is_legacy_torch(content: bytes) -> bool:
    """Whether ``content`` is a file of torch.save before version 1.6."""
    return LEGACY_TORCH in content[:16]


def _is_text(content: bytes, *beginnings: bytes) -> bool:
    return content[:200].lstrip().lower().startswith(beginnings)


CHECKS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (is_safetensors, f"a safetensors file, which names no model: {WITH_NETWORK}"),
    (
        is_legacy_torch,
        f"a file of torch.save before version 1.6: {WITH_NETWORK}",
    ),
    (
        lambda content: content[:1] == b"\x80" and content[1:2] <= b"\x05",
        "a pickle, which can run code and is not read",
    ),
    (lambda content: content[257:262] == b"ustar", "a tar archive: unpack it first"),
    (lambda content: content[4:8] == b"TFL3", "a TensorFlow Lite model"),
    (lambda content: content[:2] == b"\x08\x0a" or b"onnx" in content[:64], "an ONNX model, which names no layers"),
    (lambda content: _is_text(content, b"<!doctype", b"<html"), "a web page, perhaps the one of a failed download"),
    (lambda content: _is_text(content, b"{", b"["), "a text file of JSON"),
)
