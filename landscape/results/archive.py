"""Arrays with their metadata in one .npz file, without pickle."""

import json
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from landscape.errors import InputError
from landscape.files import written_whole

__all__ = ["Archived"]

Kind = TypeVar("Kind", bound="Archived")


class Archived:
    """A dataclass of arrays, numbers and ``metadata`` (JSON types) that is stored as one .npz file."""

    called: ClassVar[str]  # in messages
    optional: ClassVar[tuple[str, ...]] = ()  # fields that may be None

    def save(self, path: str | Path) -> Path:
        """Write all fields to ``path`` (.npz, compressed, no pickle), whole or not at all."""
        stored = {key: value for key, value in vars(self).items() if value is not None}
        stored["metadata"] = json.dumps(self.metadata)
        with written_whole(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **stored)
        return Path(path)

    @classmethod
    def load(cls: type[Kind], path: str | Path) -> Kind:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file is missing, damaged, or of another kind.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path} does not exist; compute the {cls.called} first, or give another file")
        values = dict.fromkeys(cls.optional)
        try:
            with np.load(path, allow_pickle=False) as file:
                for name in (field.name for field in fields(cls)):
                    if name in file.files or name not in cls.optional:
                        array = file[name]
                        values[name] = array if array.ndim else array.item()
            values["metadata"] = json.loads(values["metadata"])
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, OSError) as error:
            # numpy's advice is to load it unsafely
            reason = "it holds no plain arrays" if "pickle" in str(error) else error
            raise InputError(f"{path} is no {cls.called} file, or a damaged one: {reason}") from error
        result = cls(**values)
        if reason := result.mismatch():
            raise InputError(f"{path}: {reason}")
        return result

    def mismatch(self) -> str | None:
        """In which shapes the arrays do not fit each other; None where they do."""
        return None
