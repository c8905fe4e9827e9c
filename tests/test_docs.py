"""Docstrings and help texts: their examples run, and what is exported and every option is described by sentences."""

import ast
import doctest
import importlib
import inspect
import textwrap
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import docstring_parser
import pytest

import landscape
import landscape_lib as ll

PACKAGE = Path(landscape.__file__).parent
ROOT = PACKAGE.parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert outcome.failed == 0 < outcome.attempted


def exported():
    """Every function and class of the face, of its namespaces and of the modules of settings, by its full name."""
    found = {}
    for space in (ll, ll.cli, ll.studies, ll.results):
        for name in space.__all__:
            value = getattr(space, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return {name: value for name, value in found.items() if name.startswith("landscape.")}


EXPORTED = exported()
SCRIPTS = [path.stem for path in ROOT.glob("*.py") if path.stem != "landscape_lib"]


def test_every_exported_function_and_class_is_described_by_a_sentence():
    assert len(EXPORTED) > 100
    wrong = []
    for name, value in EXPORTED.items():
        first = (value.__doc__ or "").strip().split("\n\n")[0].strip()
        if not first.endswith((".", ":")):
            wrong.append(f"{name}: {first!r}")
    assert not wrong


def test_functions_that_raise_say_so():
    """A function of the face whose own body raises InputError names it in its docstring."""
    silent = []
    for name, value in EXPORTED.items():
        if not inspect.isfunction(value):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
        raised = {
            node.exc.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
        }
        if "InputError" in raised and "InputError" not in value.__doc__:
            silent.append(name)
    assert not silent


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_option_of_a_script_is_explained_in_sentences(script):
    """Lines of a field docstring are lines of the help, so that each has to end with a sentence."""
    main = importlib.import_module(script).main
    texts, kinds = [*parameters_of(main)], [hint for hint in get_type_hints(main).values() if is_dataclass(hint)]
    assert texts and all(text for _, text in texts)
    while kinds:
        kind = kinds.pop()
        described = {one.arg_name: one.description for one in docstring_parser.parse_from_object(kind).params}
        for field in fields(kind):
            owner = next(base for base in kind.__mro__ if field.name in vars(base).get("__annotations__", {}))
            if owner is not kind:
                described |= {one.arg_name: one.description for one in docstring_parser.parse_from_object(owner).params}
            hint = get_type_hints(kind)[field.name]
            if is_dataclass(hint):
                kinds.append(hint)
            elif field.init:
                texts.append((f"{kind.__name__}.{field.name}", described.get(field.name) or ""))
    wrong = [
        f"{name}: {line.strip()!r}"
        for name, text in texts
        for line in text.split("\n")
        if not line.strip().endswith(".")
    ]
    assert not wrong


def parameters_of(main):
    documented = {one.arg_name: one.description or "" for one in docstring_parser.parse(main.__doc__).params}
    return [(name, documented.get(name, "")) for name in inspect.signature(main).parameters]


@pytest.mark.parametrize("width", [80, 120])
def test_the_manual_is_wrapped_to_the_width_of_the_terminal(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        ll.cli.run_script(importlib.import_module("visualize_trajectory").main, ["-h"])
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if not line.startswith("    python ")]
    assert width - 8 < max(map(len, lines)) <= width
    text = " ".join(importlib.import_module("visualize_trajectory").__doc__.split("\n\n")[2].split())
    assert text in " ".join(printed.split())
