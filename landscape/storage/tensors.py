"""Plain values and tensors in files of torch.save: inspected before they are loaded, with a digest of all of them.

A file of torch.save is a zip archive of one pickle, which declares all values, and of the bytes of every tensor. The
pickle is first read by a reader that builds only a description of the declared values, which is compared with the
archive. Only then is the file passed to torch, with ``weights_only=True``.
"""

import io
import math
import pickle
import pickletools
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from landscape.errors import InputError
from landscape.escaping import one_line
from landscape.storage.digests import array_digest, digest_of
from landscape.storage.files import written_whole
from landscape.storage.formats import foreign_format
from landscape.storage.forms import is_bounded
from landscape.storage.reading import file_content

__all__ = ["read_tensors", "write_tensors"]

# The operations that torch.save writes for plain values and tensors, see pickletools.
OPCODES = (
    "PROTO STOP MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS APPEND APPENDS NONE "
    "NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE GLOBAL REDUCE BUILD BINPERSID BINPUT "
    "LONG_BINPUT BINGET LONG_BINGET"
)
KNOWN_OPCODES = frozenset(OPCODES.split())
REBUILDING = ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
SIGNATURE = b"landscape sha256 "
ITEM_SIZES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8, "UntypedStorage": 1,
}  # fmt: skip


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (plain values and tensors) with its digest to ``path``, completely or not at all.

    Equal content gives equal bytes.

    Raises:
        InputError: The content holds other values, or the file cannot be written.
    """
    try:
        digest = _digest(content)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"cannot write {path}: {_words(error)}; give plain values and tensors only") from error
    # torch writes the name of a file into it, so it is given an open file, which has none.
    with written_whole(path) as temporary, temporary.open("wb") as file:
        watched = _Watched(file)
        try:
            torch.save(content, watched)  # type: ignore[arg-type]  # it only writes and flushes
        except RuntimeError:  # torch reports every error of a file as one
            raise watched.error or OSError("torch could not write it") from None
        _sign(file, digest)


def read_tensors(
    path: Path, what: str, way_out: str, without_code: str = "write it with save_checkpoint"
) -> tuple[Any, bytes]:
    """The content that `write_tensors` wrote to ``path``, without the digest, and all bytes of the file.

    A file of an earlier version has no digest; the checksums of its parts are compared nevertheless.

    Raises:
        InputError: The file is missing, damaged, edited, of another format, or holds code, which is never run.
    """
    raw, problem = file_content(path, what, way_out), f"{path} is no {what}, or a damaged one"
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as file:
            pickled, sizes = _members(file, len(raw))
            foreign, signature = None if pickled else foreign_format(raw), file.comment
        if pickled:
            code = _scanned(pickled)
    except Exception as error:  # for damaged bytes the readers of zip and pickle raise errors of many types
        if not raw.startswith(b"PK") and (foreign := foreign_format(raw)):
            raise InputError(f"{path} is no {what} but {foreign}") from error
        raise InputError(f"{problem} ({_words(error)}); {way_out}") from error
    if foreign:
        raise InputError(f"{path} is no {what} but {foreign}")
    if code:
        name = one_line(code)[:100]
        raise InputError(f"{what} {path} holds pickled code, which is never run ({name}); {without_code}")
    try:
        declared = _Inspector(pickled, sizes).load()
        if not is_bounded(declared):
            raise ValueError("its values are nested too deep, or repeat too often")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        intact = not signature or signature == SIGNATURE + _digest(content).encode()
    except Exception as error:
        raise InputError(f"{problem} ({_words(error)}); {way_out}") from error
    if not intact:
        raise InputError(f"{problem}: its digest differs, so it was damaged or edited; {way_out}")
    return content, raw


@dataclass(frozen=True)
class _Declared:
    """A tensor that the pickle declares."""

    shape: tuple[int, ...]


class _Inspector(pickle.Unpickler):
    """A reader of the pickle of torch.save that neither imports nor calls anything that the pickle names."""

    def __init__(self, pickled: bytes, sizes: dict[str, int]):
        super().__init__(io.BytesIO(pickled))
        self.sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils":
            return _parameter if name == "_rebuild_parameter" else _tensor
        return OrderedDict if name == "OrderedDict" else f"{module}.{name}"

    def persistent_load(self, identity: Any) -> int:
        """The declared number of bytes of a storage, which must be that in the archive."""
        kind, storage, key, _, count = identity
        size: int = ITEM_SIZES[storage.rpartition(".")[2]] * count
        if kind != "storage" or self.sizes.get(f"data/{key}") != size:
            raise ValueError(f"the tensor data/{key} does not have the declared size")
        return size


def _tensor(storage: int, offset: int, shape: tuple[int, ...], *_: object) -> _Declared:
    if offset < 0 or min(shape, default=0) < 0 or math.prod(shape) > storage:
        raise ValueError(f"a tensor of shape {shape} has only {storage:,} bytes")
    return _Declared(tuple(shape))


def _parameter(declared: _Declared, *_: object) -> _Declared:
    return declared


def _members(file: zipfile.ZipFile, length: int) -> tuple[bytes, dict[str, int]]:
    """The pickle, and the size of every other member; b"" if the archive was not written by torch.save."""
    infos = file.infolist()
    sizes = {info.filename.partition("/")[2]: info.file_size for info in infos}
    script = "constants.pkl" in sizes or any(name.startswith("code/") for name in sizes)
    if "data.pkl" not in sizes or script:
        return b"", {}
    packed = any(info.compress_type != zipfile.ZIP_STORED for info in infos)
    if packed or len(sizes) < len(infos) or sum(sizes.values()) > length:
        raise ValueError("its parts are packed, repeated or overlap")
    if damaged := file.testzip():
        raise ValueError(f"the checksum of {damaged} differs")
    return file.read(next(info for info in infos if info.filename.partition("/")[2] == "data.pkl")), sizes


def _scanned(pickled: bytes) -> str | None:
    """The first name of code that tensors and plain values do not need; None if there is none."""
    code = None
    argument: Any  # a str for GLOBAL, an int for BINPUT
    for number, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if opcode.name == "GLOBAL" and not _is_harmless(*argument.split(" ", 1)):
            code = code or argument.replace(" ", ".")
        elif opcode.name in ("STACK_GLOBAL", "INST", "NEWOBJ", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
            code = code or "an object of a class"
        elif opcode.name not in KNOWN_OPCODES or (opcode.name.endswith("BINPUT") and argument > number):
            raise ValueError(f"its pickle has the unknown operation {opcode.name}")
    return code


def _is_harmless(module: str, name: str) -> bool:
    if module == "torch":
        return name in ITEM_SIZES or isinstance(getattr(torch, name, None), torch.dtype)
    harmless = {"torch._utils": REBUILDING, "torch.storage": ("UntypedStorage",), "collections": ("OrderedDict",)}
    return name in harmless.get(module, ())


def _sign(file: BinaryIO, digest: str) -> None:
    """Make ``digest`` the comment of the archive, whose length (zero so far) is in its last two bytes.

    It is not an entry of the content. Otherwise, if a user loaded the content, changed it and wrote it with torch.save,
    that file would count as damaged.
    """
    comment = SIGNATURE + digest.encode()
    file.seek(-2, 2)
    file.write(len(comment).to_bytes(2, "little") + comment)


class _Watched:
    """A file that stores its last error, which torch does not report."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _digest(content: object) -> str:
    return digest_of(content, _tensor_digest)


def _tensor_digest(value: object) -> str:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"it holds a {type(value).__name__}")
    plain = value.detach().cpu().resolve_conj().contiguous().reshape(-1)
    return f"{value.dtype} {tuple(value.shape)} {array_digest(plain.view(torch.uint8).numpy())}"


def _words(error: Exception) -> str:
    return one_line(str(error))[:200] or type(error).__name__
