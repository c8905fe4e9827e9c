"""The face re-exports and does nothing else, and it is all that the scripts import."""

import ast
from pathlib import Path

import pytest

import landscape_lib as ll
from landscape import errors

ROOT = Path(ll.__file__).parent
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if path.name != "landscape_lib.py")


def test_the_face_only_reexports_and_lists_what_it_exports():
    tree = ast.parse(Path(ll.__file__).read_text())
    kinds = {type(node).__name__ for node in tree.body}
    assert kinds <= {"Expr", "ImportFrom", "Assign"}
    assert [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)] == ["__all__"]
    imported = [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted(ll.__all__) == sorted(imported)
    for name in ll.__all__:
        assert getattr(ll, name) is not None
    assert len(ll.__all__) <= 75, "fold or move names, the face is for what most people look for"
    assert ll.InputError is errors.InputError


@pytest.mark.parametrize("namespace", [ll.cli, ll.results, ll.studies], ids=lambda module: module.__name__)
def test_namespaces_only_reexport_and_list_what_they_export(namespace):
    tree = ast.parse(Path(namespace.__file__).read_text())
    assert {type(node).__name__ for node in tree.body} == {"Expr", "ImportFrom", "Assign"}
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(namespace.__all__) == sorted(imported)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_import_nothing_else_of_ours(script):
    tree = ast.parse((ROOT / script).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in modules if name and (name.split(".")[0] == "landscape" or name + ".py" in SCRIPTS)}
    assert not ours and "landscape_lib" in modules
