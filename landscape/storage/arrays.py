"""Arrays in .npz files: known names of declared sizes, without pickle, with a digest of all of them."""

import io
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.storage.digests import DIGEST, array_digest, digest_of
from landscape.storage.files import written_whole
from landscape.storage.formats import foreign_format
from landscape.storage.reading import available_bytes, file_content

__all__ = ["Array", "arrays_fault", "read_arrays", "write_arrays"]

LONGEST_TEXT = 2**26  # bytes of a text in a file (4 per character), a hundred times the largest metadata
Layout = dict[str, tuple[tuple[int, ...], np.dtype]]


@dataclass(frozen=True)
class Array:
    """The required form of an array."""

    shape: str  # such as "A B 2": a number, or a letter that is the same number in all arrays of a file; "" is a scalar
    kinds: str = "fiu"  # of numpy types: f float, i and u integer, b bool, U text
    optional: bool = False
    finite: bool = False
    increasing: bool = False  # along the last axis, strictly
    low: float = -math.inf  # smallest value, apart from NaN
    high: float = math.inf


def write_arrays(path: Path, arrays: Mapping[str, object], *, compressed: bool) -> None:
    """Write ``arrays`` with their digest to ``path``, completely or not at all."""
    plain = {name: np.asarray(value) for name, value in arrays.items()}
    save: Callable[..., None] = np.savez_compressed if compressed else np.savez
    with written_whole(path) as temporary, temporary.open("wb") as file:
        save(file, **plain, **{DIGEST: np.array(_digest(plain))})


def read_arrays(path: Path, forms: Mapping[str, Array], what: str, way_out: str) -> dict[str, np.ndarray]:
    """The arrays that `write_arrays` has written to ``path``; optional ones may be absent.

    They include the digest of the others, unless the file comes from an early version. Names, types and sizes are
    compared with ``forms`` before anything is unpacked, so that a small file cannot fill the memory.

    Raises:
        InputError: The file is missing, damaged, edited, or of another kind.
    """
    content = file_content(path, what, way_out)  # read once, because another process may replace the file
    if not content.startswith(b"PK\x03\x04"):
        reason = foreign_format(content) or "it does not begin as an .npz file"
        raise InputError(f"{path} is no {what} file, or a damaged one: {reason}; {way_out}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            arrays = _unpacked(file, forms)
    except _Unfit as error:
        reason = f"{path} is no {what} file, or a damaged one: {error}" if error.foreign else f"{path}: {error}"
        raise InputError(f"{reason}; {way_out}") from error
    except Exception as error:  # for damaged bytes zip, zlib and numpy raise errors of many types
        raise InputError(f"{path} is no {what} file, or a damaged one: {_words(error)}; {way_out}") from error
    others = {name: array for name, array in arrays.items() if name != DIGEST}
    if DIGEST in arrays and str(arrays[DIGEST]) != _digest(others):
        raise InputError(f"{path} is a damaged or edited {what} file (its digest differs); {way_out}")
    if fault := _values_fault(arrays, forms):
        raise InputError(f"{path}: {fault}; {way_out}")
    return arrays


def arrays_fault(arrays: Mapping[str, object], forms: Mapping[str, Array]) -> str | None:
    """A description of the first difference of ``arrays`` from ``forms``; None if they agree."""
    plain = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
    layout = {name: (array.shape, array.dtype) for name, array in plain.items()}
    return _layout_fault(layout, forms) or _values_fault(plain, forms)


class _Unfit(Exception):
    """Raised for a file of a wrong form; ``foreign`` says that it is of another kind, not damaged."""

    def __init__(self, reason: str, foreign: bool = False):
        super().__init__(one_line(reason))
        self.foreign = foreign


def _unpacked(file: zipfile.ZipFile, forms: Mapping[str, Array]) -> dict[str, np.ndarray]:
    members = {info.filename.removesuffix(".npy"): info for info in file.infolist()}
    if len(members) < len(file.infolist()):
        raise _Unfit("it holds a name twice", foreign=True)
    needed = {name for name, form in forms.items() if not form.optional}
    if not needed <= members.keys() <= {*forms, DIGEST}:
        raise _Unfit(f"it holds {', '.join(sorted(members))[:200]}, not {', '.join(forms)}", foreign=True)
    layout = {name: _declared(file, info) for name, info in members.items()}
    if fault := _layout_fault(layout, {**forms, DIGEST: Array("", kinds="U", optional=True)}):
        raise _Unfit(fault)
    need = sum(math.prod(shape) * dtype.itemsize for shape, dtype in layout.values())
    if need > available_bytes():
        raise _Unfit(f"its arrays take {need / 2**30:.1f} GiB, more than the free memory")
    return {name: _array(file, info) for name, info in members.items()}


def _declared(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type in the header of an array; the size of the member must agree with them."""
    with file.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = read[version](stream)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
    if dtype.kind not in "fiubU" or (dtype.itemsize > 8 and dtype.kind != "U"):
        raise _Unfit(f"{info.filename} holds no plain numbers but {dtype}", foreign=True)
    if size != info.file_size or min(shape, default=0) < 0:
        raise ValueError(f"{info.filename} has {info.file_size:,} bytes, but its header declares {size:,}")
    return shape, dtype


def _array(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with file.open(info) as stream:  # the end of the stream is compared with the checksum
        array = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):
            raise ValueError(f"{info.filename} is longer than its header declares")
    return array


def _layout_fault(layout: Layout, forms: Mapping[str, Array]) -> str | None:
    """A description of the first wrong shape or type; if a vector is absent, the others lack the axis named by it."""
    sizes: dict[str, int] = {}
    absent: set[str] = set()
    for name, form in forms.items():
        if name not in layout:
            if len(form.shape.split()) == 1 and form.shape not in sizes:
                absent.add(form.shape)
            continue
        shape, dtype = layout[name]
        if dtype.kind not in form.kinds:
            return f"{name} has values of type {dtype}"
        if dtype.kind == "U" and math.prod(shape) * dtype.itemsize > LONGEST_TEXT:
            return f"{name} is a text of {dtype.itemsize // 4:,} characters"
        letters = [letter for letter in form.shape.split() if letter not in absent]
        if len(shape) == len(letters):
            for letter, size in zip(letters, shape, strict=True):
                sizes.setdefault(letter, int(letter) if letter.isdigit() else size)
        expected = tuple(sizes.get(letter, letter) for letter in letters)
        if shape != expected:
            link = "not" if any(letter.isdigit() for letter in letters) else "the axes give"
            return f"{name} has shape {shape}, {link} {expected}"
    return None


def _values_fault(arrays: Mapping[str, np.ndarray], forms: Mapping[str, Array]) -> str | None:
    for name, form in forms.items():
        if name not in arrays or arrays[name].dtype.kind == "U":
            continue
        values = arrays[name]
        if form.finite and not np.isfinite(values).all():
            return f"{name} is not finite"
        if form.increasing and not (np.diff(values, axis=-1) > 0).all():
            return f"{name} does not increase"
        if (values < form.low).any() or (values > form.high).any():
            return f"{name} lies outside {form.low:g} to {form.high:g}"
    return None


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    return digest_of(dict(sorted(arrays.items())), array_digest)


def _words(error: Exception) -> str:
    # numpy's message advises to load the file unsafely, so it is replaced.
    text = "it holds no plain arrays" if "pickle" in str(error) else one_line(str(error))[:200]
    return text or type(error).__name__
