"""The face re-exports and does nothing else, and it is all that the scripts import."""

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import landscape_lib as ll
from landscape import errors
from landscape.presenting import Presented

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
    assert sorted([*ll.__all__, "__getattr__"]) == sorted(imported)
    for name in ll.__all__:
        assert getattr(ll, name) is not None
    assert len(ll.__all__) <= 80, "fold or move names, the face is for what most people look for"
    assert ll.InputError is errors.InputError


@pytest.mark.parametrize("namespace", [ll.cli, ll.results, ll.studies, ll.trackers], ids=lambda module: module.__name__)
def test_namespaces_only_reexport_and_list_what_they_export(namespace):
    tree = ast.parse(Path(namespace.__file__).read_text())
    assert {type(node).__name__ for node in tree.body} == {"Expr", "ImportFrom", "Assign"}
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(namespace.__all__) == sorted(imported)


def test_names_of_earlier_versions_work_and_name_their_present_place():
    from landscape.faces.former import ADAPTED, FORMER

    for name in (*FORMER, *ADAPTED):
        assert name not in ll.__all__
        with pytest.warns(FutureWarning, match=rf"^ll\.{name} is now .*; the former name goes in 0\.4$") as caught:
            thing = getattr(ll, name)
        assert callable(thing) or name == "Point"
        assert caught[0].filename == __file__
    with pytest.warns(FutureWarning):
        assert ll.Trajectory is ll.results.Trajectory
    with pytest.raises(AttributeError, match="has no attribute 'plot_everything'"):
        _ = ll.plot_everything


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_use_present_names_only(script):
    """Which types do not show: a face that understands former names has any attribute."""
    spaces = {"ll": ll, "cli": ll.cli, "results": ll.results, "studies": ll.studies}
    for node in ast.walk(ast.parse((ROOT / script).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in spaces:
            assert node.attr in {*spaces[node.value.id].__all__, "__version__"}, node.attr
        if isinstance(node, ast.ImportFrom) and node.module == "landscape_lib":
            assert {alias.name for alias in node.names} <= set(ll.__all__)


SPACES = (ll, ll.results, ll.studies, ll.cli)
# Parameters that take any text. One that takes one of a few names is a Literal, and no entry here.
OPEN = {
    "names of files": {"data_dir", "folder", "owner", "path", "pattern", "resume", "spill", "state"},
    "texts that are shown": {
        "advice", "facts", "figures", "help", "labels", "left_out", "metavar", "remarks", "sections", "settings",
        "text", "title", "titles", "what", "where", "x_label", "y_label", "remark", "rows", "view",
    },
    "names of parameters, data or results": {
        "aliases", "ending", "ignore", "model_name", "name", "names", "norms", "parameters", "quantity", "suffix",
    },
    # Also FILE.py:FUNCTION, folder:PATH, cuda:N and the like.
    "networks, data sets, losses and devices": {"data", "dataset", "device", "loss", "lora", "model"},
    "colour maps of matplotlib": {"cmap"},
    "a duration": {"budget"},
    "arguments of a command line": {"arguments", "help_behavior_hint"},
    "arrays": {"vector"},
}  # fmt: skip


def functions():
    """Every function of the face and of its namespaces, and every public method of their classes, by name."""
    for space in SPACES:
        for name in space.__all__:
            thing = getattr(space, name)
            if inspect.isfunction(thing):
                yield f"{space.__name__}.{name}", thing
            elif inspect.isclass(thing) and thing.__module__.startswith("landscape"):
                for key, member in vars(thing).items():
                    method = getattr(member, "__func__", member)
                    # The constructor of a frozen result is called by the toolkit.
                    ours = not key.startswith("_") or (key == "__init__" and not hasattr(thing, "__dataclass_fields__"))
                    if ours and inspect.isfunction(method):
                        yield f"{space.__name__}.{name}.{key}", method


def settings():
    """Every group of settings, a dataclass whose fields are parameters."""
    for space in (ll, ll.studies, ll.cli):
        for name in space.__all__:
            thing = getattr(space, name)
            if inspect.isclass(thing) and hasattr(thing, "check") and hasattr(thing, "__dataclass_fields__"):
                yield f"{space.__name__}.{name}", thing


def takes_text(hint):
    """Whether a value of this type, or an entry of one, may be any text; keys and what functions take do not count."""
    inside = get_origin(hint) not in (Literal, dict, Mapping, Callable)
    return hint is str or (inside and any(map(takes_text, get_args(hint))))


@pytest.mark.parametrize(("name", "thing"), [pytest.param(*pair, id=pair[0]) for pair in (*functions(), *settings())])
def test_a_parameter_that_takes_one_of_a_few_names_is_a_literal(name, thing):
    drawing = {"Axes": Axes, "Figure": Figure, "Quantities": object}  # which are imported only where types are checked
    hints = get_type_hints(thing, localns=drawing)
    parameters = list(inspect.signature(thing).parameters)
    assert parameters[:1] in (["self"], ["cls"]) or set(parameters) <= hints.keys(), "a parameter without a type"
    assert not [parameter for parameter in parameters if parameter.endswith("_")]
    known = set().union(*OPEN.values())
    assert not [parameter for parameter in parameters if takes_text(hints.get(parameter)) and parameter not in known]


def test_what_takes_text_is_noticed():
    kinds = (str, str | None, tuple[str, ...], str | Path)
    assert all(map(takes_text, kinds))
    assert not takes_text(Literal["a", "b"] | None) and not takes_text(tuple[Literal["a"], ...]) and not takes_text(int)


# Functions whose required arguments are names, paths and settings.
NAMED = {
    "build_model",
    "fit",
    "fit_stacked",
    "load_checkpoint",
    "load_dataset",
    "save_checkpoint",
    "save_figure",
    "select_device",
    "selftest",
}


class Other:
    """Neither a network nor a point, an objective, a slice or a result."""


@pytest.mark.parametrize("name", [n for n in ll.__all__ if inspect.isfunction(getattr(ll, n)) and n not in NAMED])
def test_a_wrong_type_is_told_what_to_pass(name):
    parameters = inspect.signature(getattr(ll, name)).parameters.values()
    required = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    values = [Other() for parameter in required if parameter.kind is not parameter.KEYWORD_ONLY]
    options = {parameter.name: 3 for parameter in required if parameter.kind is parameter.KEYWORD_ONLY}
    with pytest.raises(ll.InputError, match=r"takes|must be|is needed|is a module") as refused:
        getattr(ll, name)(*values, **options)
    assert re.search(r"\bOther\b", str(refused.value)) and "\n" not in str(refused.value)


def test_the_first_steps_in_another_order_are_told_the_right_one():
    model = torch.nn.Linear(2, 2)
    plane, target = (
        ll.random_plane(model),
        ll.objective(model, (torch.zeros(2, 2), torch.zeros(2, dtype=int)), device="cpu"),
    )
    for call, message in (
        (lambda: ll.evaluate(model, plane), r"takes an objective, made by ll.objective\(model, data\), not Linear"),
        (lambda: ll.evaluate(target, model), r"takes a plane or a line, such as ll.random_plane\(model\), not Linear"),
        (lambda: ll.random_plane(target), "takes a torch.nn.Module, not Objective"),
        (lambda: ll.plot_contour(plane), "takes a Surface, as ll.evaluate returns it, not Plane"),
        (lambda: ll.plot_comparison(plane), "takes a sequence of several results, such as .first, second., not Plane"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_random_slices_say_what_they_are():
    assert get_type_hints(ll.random_plane)["return"] is ll.Plane and get_type_hints(ll.random_line)["return"] is ll.Line


@pytest.mark.parametrize("name", ll.results.__all__)
def test_every_result_shows_itself(name):
    assert issubclass(getattr(ll.results, name), Presented)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_import_nothing_else_of_ours(script):
    tree = ast.parse((ROOT / script).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {name for name in modules if name and (name.split(".")[0] == "landscape" or name + ".py" in SCRIPTS)}
    assert not ours and "landscape_lib" in modules
