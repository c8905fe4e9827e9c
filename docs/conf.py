"""Settings of the documentation site: python -m sphinx -W -b html docs docs/_build/html."""

import inspect
import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import landscape_lib as ll  # noqa: E402 (after the path is set)

project = "loss-landscape toolkit"
author = "the loss-landscape toolkit authors"
version = release = ll.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "auto_*/**/*.ipynb", "tutorials", "gallery"]
default_role = "py:obj"  # a link where a name of ours stands, else only code
nitpicky = False
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"loss-landscape toolkit {version}"
html_copy_source = False
html_show_copyright = False
html_last_updated_fmt = ""

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Figures of the examples must not depend on the machine, and none of them may load anything from outside.
os.environ.update(OMP_NUM_THREADS="1", TQDM_DISABLE="1")
sphinx_gallery_conf = {
    "examples_dirs": ["gallery", "tutorials"],
    "gallery_dirs": ["auto_gallery", "auto_tutorials"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "min_reported_time": 1e9,
    "show_memory": False,
    "plot_gallery": "True",
    "download_all_examples": False,
    "show_signature": False,
    "doc_module": ("landscape_lib",),
    "backreferences_dir": "auto_backreferences",
    "remove_config_comments": True,
    "reset_modules": ("matplotlib",),
    "image_scrapers": ("matplotlib",),
    "default_thumb_file": str(DOCS / "resnet14_epochs.png"),
}


def groups_of_face() -> dict[str, list[str]]:
    """The comments in ``landscape_lib.__all__``, each with the names below it."""
    source = Path(ll.__file__).read_text(encoding="utf-8")
    listed = source[source.index("__all__") :]
    groups: dict[str, list[str]] = {}
    title = "Names"
    for comment, name in re.findall(r"^    (?:# (.*)|\"(\w+)\",)$", listed, re.MULTILINE):
        if comment:
            title = comment
        else:
            groups.setdefault(title, []).append(name)
    assert [name for names in groups.values() for name in names] == ll.__all__
    return groups


def entry(name: str) -> str:
    """The directive that documents ``landscape_lib.name``."""
    thing = getattr(ll, name)
    examples = f".. minigallery:: landscape_lib.{name}\n"  # those of the gallery that use it
    if inspect.isclass(thing):
        return f".. autoclass:: {name}\n   :members:\n\n{examples}"
    if inspect.isfunction(thing):
        return f".. autofunction:: {name}\n\n{examples}"
    if inspect.ismodule(thing):
        first = (inspect.getdoc(thing) or "").splitlines()[0]
        return f".. py:data:: {name}\n\n   {first}\n"
    return f".. py:data:: {name}\n\n   {thing!r}\n"


def write_reference() -> None:
    """Write one page for each group of the face into docs/api, so that the reference follows the face."""
    folder = DOCS / "api"
    folder.mkdir(exist_ok=True)
    pages = {}
    for title, names in groups_of_face().items():
        slug = re.sub(r"\W+", "_", title.partition(":")[0].lower()).strip("_")[:40]
        body = "\n".join(map(entry, names))
        pages[f"{slug}.rst"] = f"{title}\n{'=' * len(title)}\n\n.. currentmodule:: landscape_lib\n\n{body}"
    slugs = "\n".join(f"   {page.removesuffix('.rst')}" for page in pages)
    head = "Reference\n=========\n\nEverything that people import, ``import landscape_lib as ll``, by question.\n\n"
    pages["index.rst"] = f"{head}.. toctree::\n   :maxdepth: 2\n\n{slugs}\n"
    for page, text in pages.items():
        path = folder / page
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for stale in {path.name for path in folder.glob("*.rst")} - pages.keys():
        (folder / stale).unlink()


def escape_bars(app, what, name, obj, options, lines) -> None:  # type: ignore[no-untyped-def]
    """|d| is a norm, not a substitution of reStructuredText."""
    lines[:] = [re.sub(r"\|(?=[^|`\s][^|`]*\|)|(?<=\w)\|(?=\s|$|,|\.|/|\))", r"\\|", line) for line in lines]


def setup(app) -> None:  # type: ignore[no-untyped-def]
    """Write the reference before anything is read."""
    write_reference()
    app.connect("autodoc-process-docstring", escape_bars)
