"""Imports go one way: every room of the package imports only rooms below it."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import landscape

PACKAGE = Path(landscape.__file__).parent
# From the ground up; rooms of one layer do not import each other, but for "objective" and "slices".
LAYERS = (
    ("errors", "escaping"),
    ("runtime", "checks", "extras"),
    ("storage",),
    ("points", "presenting"),
    ("results",),
    ("topology",),
    ("datasets",),
    ("models",),
    ("training",),
    ("plotting",),
    ("explorer", "trackers"),
    ("objective", "slices"),
    ("evaluation",),
    ("curvature", "sharpness", "connectivity", "trajectories"),
    ("stability",),
    ("studies", "selftest"),
    ("cli",),
    ("faces", "__main__"),
)
GROUND = {room for layer in LAYERS[:4] for room in layer}
# Rooms that may import less than all that lies below them.
NARROW = {
    "datasets": GROUND,
    "models": GROUND | {"datasets"},
    "training": GROUND | {"models", "datasets"},  # which know nothing of landscapes
    "topology": GROUND | {"results"},
    "plotting": GROUND | {"results"},
    "explorer": GROUND | {"results", "topology", "plotting"},
    "trackers": GROUND | {"results", "plotting"},
}
LEVELS = {room: level for level, layer in enumerate(LAYERS) for room in layer}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def room_of(module):
    """The room of a file or of a dotted name: "storage" of "storage/files.py" and of "landscape.storage.files"."""
    parts = module.removesuffix(".py").replace("/", ".").removeprefix("landscape.").split(".")
    return parts[0]


def imported(path):
    """(name of a module of ours, whether the import stands inside a function) for every import in a file."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            whole = node.module == "landscape"
            names = [f"landscape.{alias.name}" for alias in node.names] if whole else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from ((name, id(node) in inside) for name in names if name.split(".")[0] == "landscape")


def may_import(room, other, inside):
    if other == "__version__":
        return True
    if inside and other == "plotting":  # an object that draws itself, without pictures where it is only loaded
        return True
    if room in NARROW:
        return other in NARROW[room]
    return LEVELS[other] < LEVELS[room] or {room, other} == {"objective", "slices"}


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__.py"])
def test_a_module_imports_only_rooms_below_its_own(module):
    room = room_of(module)
    assert room in LEVELS, f"say in LAYERS where {room} belongs"
    wrong = [
        name
        for name, inside in imported(PACKAGE / module)
        if room_of(name) != room and not may_import(room, room_of(name), inside)
    ]
    assert not wrong, f"{module} imports {wrong}, which lie above it"


def test_the_rule_notices_imports_upwards(tmp_path):
    (tmp_path / "m.py").write_text(
        "from landscape.cli.settings import Evaluation\ndef draw():\n    from landscape import plotting\n"
    )
    found = list(imported(tmp_path / "m.py"))
    assert found == [("landscape.cli.settings", False), ("landscape.plotting", True)]
    assert not may_import("studies", "cli", False) and may_import("results", "plotting", True)
    assert not may_import("results", "plotting", False) and not may_import("training", "objective", True)
    assert not may_import("explorer", "evaluation", False) and not may_import("curvature", "sharpness", False)


def test_results_and_pictures_load_no_torch():
    names = ["landscape.storage", "landscape.storage.files", "landscape.storage.arrays", "landscape.storage.json_files"]
    for room in ("results", "plotting", "explorer"):
        package = f"landscape.{room}"
        names += [package, *(found.name for found in pkgutil.iter_modules([PACKAGE / room], f"{package}."))]
    code = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert found.stdout == "False\n", found.stderr
