"""The documentation: the reference covers the face, and the notebooks are those of their scripts and run.

The site itself is built, its examples executed and its warnings taken for errors by ``.ci/run``.
"""

import ast
import inspect
import json
import runpy
from pathlib import Path

import pytest

import landscape_lib as ll

DOCS = Path(__file__).parents[1] / "docs"
pytest.importorskip("nbformat", reason="needs nbformat, which nbclient brings")
NOTEBOOKS = runpy.run_path(str(DOCS / "notebooks.py"))
FORMS = [path for path in DOCS.parent.glob(".github/ISSUE_TEMPLATE/*.yml") if path.stem != "config"]
TUTORIALS = sorted(DOCS.glob("tutorials/*.py"))


def test_the_reference_has_every_name_of_the_face_once():
    configuration = runpy.run_path(str(DOCS / "conf.py"))
    groups = configuration["groups_of_face"]()
    assert [name for names in groups.values() for name in names] == ll.__all__
    entries = {name: configuration["entry"](name) for name in ll.__all__}
    assert "autofunction:: evaluate" in entries["evaluate"] and "autoclass:: Surface" in entries["Surface"]


def test_every_function_of_the_face_has_an_example_that_is_executed():
    executed = [*DOCS.glob("gallery/*.py"), *TUTORIALS, *DOCS.glob("*.md")]
    text = "".join(path.read_text() for path in executed)
    for name in ll.__all__:
        thing = getattr(ll, name)
        if inspect.isfunction(thing) and name != "selftest":  # which takes half a minute, and has tests of its own
            assert f"ll.{name}(" in text or ">>>" in (inspect.getdoc(thing) or ""), name


def test_there_are_fifteen_examples_that_import_nothing_but_the_face():
    examples = sorted(DOCS.glob("gallery/plot_*.py"))
    assert len(examples) >= 15
    for example in [*examples, *TUTORIALS]:
        tree = ast.parse(example.read_text())
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not [name for name in names if name.split(".")[0] == "landscape"], example


@pytest.mark.parametrize("script", TUTORIALS, ids=lambda path: path.stem)
def test_a_notebook_has_the_cells_of_its_script_and_results(script):
    cells = json.loads(script.with_suffix(".ipynb").read_text())["cells"]
    stored = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    assert stored == NOTEBOOKS["cells_of"](script.read_text()), "python docs/notebooks.py writes it again"
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert "error" not in {output["output_type"] for output in outputs}
    assert script.with_suffix(".ipynb").stat().st_size < 2**20


@pytest.mark.slow
@pytest.mark.parametrize("script", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_as_a_notebook(script):
    pytest.importorskip("ipykernel")
    notebook = NOTEBOOKS["executed"](script.read_text())
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_for_issues_has_what_a_form_needs(form):
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(form.read_text())
    assert content["name"] and content["description"]
    fields = [part for part in content["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in fields}) == len(fields) > 0
    assert all(part["attributes"]["label"] for part in fields)
    assert any(part.get("validations", {}).get("required") for part in fields)
