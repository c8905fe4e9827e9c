"""Results in a JSON file, recognised by the recipe that made them."""

import json
from collections.abc import Callable
from pathlib import Path

from landscape.errors import InputError
from landscape.logs import write_json

__all__ = ["StoredResults"]


class StoredResults:
    """The results of one normalisation in one file: {seed: {name: {"recipe": ..., "result": ...}}}.

    The file is written whole after every new result, so that what a killed run had finished is found by the next.

    Raises:
        InputError: the file holds something else.
    """

    def __init__(self, path: Path, *, force: bool = False):
        self.path, self.force = path, force
        try:
            self.content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            entries = [entry for names in self.content.values() for entry in names.values()]
            if not all(entry.keys() == {"recipe", "result"} for entry in entries):
                raise TypeError
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path} holds no results of this script, or is damaged; move it away") from error

    def get(
        self, seed: int, name: str, recipe: dict, compute: Callable[[], dict], valid: Callable[[dict], bool] = bool
    ) -> dict:
        """The result ``name`` of ``seed`` that has this ``recipe`` (JSON types), else that of ``compute``, stored.

        A stored result has to be ``valid`` too: its files may be gone. With ``force`` everything is computed again.
        """
        recipe, entries = json.loads(json.dumps(recipe)), self.content.setdefault(str(seed), {})
        found = entries.get(name)
        if found and not self.force and found["recipe"] == recipe and valid(found["result"]):
            return found["result"]
        result = json.loads(json.dumps(compute()))  # as a later run will find it
        entries[name] = {"recipe": recipe, "result": result}
        write_json(self.path, self.content)
        print(f"Wrote {self.path} ({name} of seed {seed})", flush=True)
        return result
