"""Write docs/tutorials/*.ipynb, with their results, from the scripts beside them: python docs/notebooks.py.

The scripts are the source: the documentation site executes them as well. Text is in comments below ``# %%``.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat

TUTORIALS = Path(__file__).resolve().parent / "tutorials"


def cells_of(script: str) -> list[tuple[str, str]]:
    """The cells of a ``script`` as pairs of kind ("markdown" or "code") and content."""
    match = re.match(r'"""\n(.*?)\n"""\n', script, re.DOTALL)
    assert match, "a tutorial begins with its title and a summary"
    cells = [("markdown", _markdown(match[1]))]
    for block in script[match.end() :].split("\n# %%\n")[1:]:
        lines = block.strip("\n").splitlines()
        count = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
        text, code = "\n".join(line[2:] for line in lines[:count]), "\n".join(lines[count:]).strip("\n")
        cells += [("markdown", _markdown(text))] if text else []
        cells += [("code", code)] if code else []
    return cells


def _markdown(text: str) -> str:
    """``text``, whose headings are underlined and whose code is in double backticks, as Markdown."""
    text = re.sub(r"^(.+)\n=+$", r"# \1", text, flags=re.MULTILINE)
    text = re.sub(r"^(.+)\n-+$", r"## \1\n", text, flags=re.MULTILINE)
    return text.replace("``", "`").strip()


def notebook_of(script: str) -> Any:
    """The notebook of a ``script``, without results."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    notebook = nbformat.v4.new_notebook(cells=[make[kind](content) for kind, content in cells_of(script)])
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same in every run
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def executed(script: str) -> Any:
    """The notebook of a ``script`` with its results; an error in a cell is raised."""
    from nbclient import NotebookClient

    os.environ.update(TQDM_DISABLE="1", PYTHONPATH=str(TUTORIALS.parents[1]))
    notebook = notebook_of(script)
    NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # bars and the time left belong to one run
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def main() -> None:
    """Execute every tutorial and write its notebook."""
    for path in sorted(TUTORIALS.glob("*.py")):
        nbformat.write(executed(path.read_text(encoding="utf-8")), path.with_suffix(".ipynb"))
        print(f"Wrote {path.with_suffix('.ipynb')}", file=sys.stderr)


if __name__ == "__main__":
    main()
