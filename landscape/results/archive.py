"""Arrays with their metadata in one .npz file, without pickle."""

import json
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from landscape.checks import checked_path
from landscape.errors import InputError
from landscape.presenting import Pictured
from landscape.storage.arrays import Array, arrays_fault, read_arrays, write_arrays
from landscape.storage.forms import Optional, form_fault
from landscape.storage.json_files import parsed
from landscape.storage.numbers import plain_number

__all__ = ["Archived"]

Kind = TypeVar("Kind", bound="Archived")

SECTIONS = ("identity", "slice", "data", "objective", "checkpoint", "interpolation", "checks", "budget", "parameters")
METADATA = {key: Optional(dict) for key in SECTIONS}  # their form


class Archived(Pictured):
    """A dataclass of arrays, numbers and ``metadata`` (JSON types) that is stored as one .npz file.

    Fields are checked against ``forms`` both when they are written and when they are read.
    """

    called: ClassVar[str]  # name of the kind of result in messages
    forms: ClassVar[dict[str, Array]]  # field -> required shape and values
    metadata: dict[str, Any]

    def save(self, path: str | Path) -> Path:
        """Write all fields and a digest of them to ``path`` (.npz, compressed, no pickle), completely or not at all.

        Raises:
            InputError: The file cannot be written, or shapes or values of the fields do not fit each other.
        """
        path = checked_path(path)
        if reason := self.fault():
            raise InputError(f"cannot write {path}: {reason}")
        values = self.stored_arrays()
        write_arrays(
            path, {**values, "metadata": json.dumps(self.stored_metadata(), default=plain_number)}, compressed=True
        )
        return path

    @classmethod
    def load(cls: type[Kind], path: str | Path) -> Kind:
        """Read a file that :meth:`save` wrote.

        Raises:
            InputError: The file is missing, damaged, edited, or of another kind.
        """
        path, way_out = checked_path(path), f"compute the {cls.called} first, or give another file"
        forms = cls.forms | {"metadata": Array("", kinds="U")}
        values = dict.fromkeys(forms) | read_arrays(path, forms, cls.called, way_out)
        problem = f"{path} is no {cls.called} file, or a damaged one: its metadata"
        metadata = parsed(str(values["metadata"]), problem, way_out)
        if fault := form_fault(metadata, METADATA):
            raise InputError(f"{problem}: {fault}; {way_out}")
        arrays = {name: values[name] for name in cls.forms}
        plain = {name: value if value is None or value.ndim else value.item() for name, value in arrays.items()}
        try:
            result = cls.from_stored({**plain, "metadata": metadata})
        except InputError as error:
            raise InputError(f"{path}: {error}; {way_out}") from error
        if reason := result.mismatch():
            raise InputError(f"{path}: {reason}; {way_out}")
        return result

    def stored_arrays(self) -> dict[str, Any]:
        """The arrays and numbers that `save` writes, by the names of ``forms``."""
        return {key: value for key, value in vars(self).items() if value is not None and key != "metadata"}

    def stored_metadata(self) -> dict[str, Any]:
        """The metadata that `save` writes."""
        return self.metadata

    @classmethod
    def from_stored(cls: type[Kind], values: dict[str, Any]) -> Kind:
        """The result with the arrays and the metadata that `load` has read.

        Raises:
            InputError: They do not fit each other.
        """
        return cls(**values)

    def fault(self) -> str | None:
        """The reason why `load` would refuse the fields, if they were written; None if it would not."""
        return (
            arrays_fault(self.stored_arrays(), self.forms)
            or form_fault(self.metadata, METADATA, "metadata")
            or self.mismatch()
        )

    def mismatch(self) -> str | None:
        """The reason why fields that have their ``forms`` do not fit each other; None if they do."""
        return None
