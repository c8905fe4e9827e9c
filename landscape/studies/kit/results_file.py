"""Results in a JSON file, recognised by the recipe that made them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landscape.storage import cached
from landscape.storage.caching import accepted
from landscape.storage.json_files import read_json, write_sealed
from landscape.storage.locks import locked
from landscape.storage.reading import is_there
from landscape.storage.recipe import renamed
from landscape.studies.kit.names import EARLIER_NAMES

__all__ = ["StoredResults"]

NAMES = EARLIER_NAMES | {"tolerance": "tol"}  # of the results in such files
FORM = {str: {str: {"recipe": dict, "result": {str: object}}}}


class StoredResults:
    """The results of one normalisation in one file: {seed: {name: {"recipe": ..., "result": ...}}}.

    The file is replaced after every new result, so that the finished results of a killed run are used by the next; two
    runs at the same time use and keep the results of each other.

    Raises:
        InputError: the file has another content.
    """

    def __init__(self, path: Path, *, force: bool = False):
        self.path, self.force = path, force
        _ = self.content  # raises InputError for a damaged file

    def get(
        self,
        seed: int,
        name: str,
        recipe: dict[str, Any],
        compute: Callable[[], dict[str, Any]],
        accept: Callable[[dict[str, Any]], str | None] = accepted,
    ) -> dict[str, Any]:
        """The stored result ``name`` of ``seed`` with this ``recipe``, if it is accepted; else compute and store it.

        With ``force`` everything is computed again. See `landscape.storage.cached`.
        """

        def read(_: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
            stored = self.content.get(str(seed), {}).get(name)
            return stored and (stored["result"], renamed(stored["recipe"], NAMES))

        def compute_plain() -> dict[str, Any]:
            result: dict[str, Any] = json.loads(json.dumps(compute()))  # in the form in which a later run will read it
            return result

        def write(path: Path, result: dict[str, Any]) -> None:
            with locked(path):
                content = self.content
                content.setdefault(str(seed), {})[name] = {"recipe": recipe, "result": result}
                write_sealed(path, content)
            print(f"Wrote {path} ({name} of seed {seed})", flush=True)

        return cached(
            self.path, recipe, compute_plain, read=read, write=write, accept=accept, force=self.force,
            entry=f"{name} of seed {seed}",
        )  # fmt: skip

    @property
    def content(self) -> dict[str, Any]:
        """The present content of the file."""
        if not is_there(self.path):
            return {}
        return read_json(self.path, FORM, "results of this script", "move it away")
