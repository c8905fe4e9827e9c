"""The examples in the docstrings of the package."""

import doctest
import importlib
import pkgutil

import pytest

import landscape

MODULES = [module.name for module in pkgutil.walk_packages(landscape.__path__, "landscape.")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
