"""Results in a JSON file, recognised by the recipe that made them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landscape.storage.json_files import read_json, write_sealed
from landscape.storage.locks import locked
from landscape.storage.reading import is_there

__all__ = ["StoredResults"]

FORM = {str: {str: {"recipe": object, "result": {str: object}}}}


class StoredResults:
    """The results of one normalisation in one file: {seed: {name: {"recipe": ..., "result": ...}}}.

    The file is written whole after every new result, so that what a killed run had finished is found by the next; two
    runs at once find and keep the results of each other.

    Raises:
        InputError: the file holds something else.
    """

    def __init__(self, path: Path, *, force: bool = False):
        self.path, self.force = path, force
        self.content = self._read()

    def get(
        self,
        seed: int,
        name: str,
        recipe: dict[str, Any],
        compute: Callable[[], dict[str, Any]],
        valid: Callable[[dict[str, Any]], bool] = bool,
    ) -> dict[str, Any]:
        """The result ``name`` of ``seed`` that has this ``recipe`` (JSON types), else that of ``compute``, stored.

        A stored result has to be ``valid`` too: its files may be gone. With ``force`` everything is computed again.
        """
        recipe = json.loads(json.dumps(recipe))
        self.content = self._read()
        found = self.content.get(str(seed), {}).get(name)
        if found and not self.force and found["recipe"] == recipe and valid(found["result"]):
            stored: dict[str, Any] = found["result"]
            return stored
        result: dict[str, Any] = json.loads(json.dumps(compute()))  # as a later run will find it
        with locked(self.path):
            self.content = self._read()
            self.content.setdefault(str(seed), {})[name] = {"recipe": recipe, "result": result}
            write_sealed(self.path, self.content)
        print(f"Wrote {self.path} ({name} of seed {seed})", flush=True)
        return result

    def _read(self) -> dict[str, Any]:
        if not is_there(self.path):
            return {}
        return read_json(self.path, FORM, "results of this script", "move it away")
