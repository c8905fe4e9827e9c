"""One rule says whether a kept result serves, names what differs, and never serves less than is asked for."""

import json
import math
from pathlib import Path

import pytest

from landscape.errors import InputError
from landscape.storage import cached
from landscape.storage.caching import kept_result, look_up
from landscape.storage.recipe import (
    Rounded,
    Unidentified,
    difference,
    differences,
    is_identified,
    renamed,
    short_digest,
    unfinished_path,
)

HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("stored", "requested", "expected"),
    [
        ({"lr": 0.1}, {"lr": 0.1}, None),
        ({"lr": 0.1}, {"lr": 0.2}, "its lr is 0.1, not 0.2"),
        ({"lr": 1}, {"lr": 1.0}, None),
        ({"flag": 1}, {"flag": True}, "its flag is 1, not True"),
        ({"seeds": [0, 1]}, {"seeds": (0, 1)}, None),
        ({"seeds": [0, 1]}, {"seeds": (0, 1, 2)}, "its seeds is [0, 1], not (0, 1, 2)"),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 1, "d": 3}}}, "its a b d is 2, not 3"),
        ({"a": {"0": 1}}, {"a": {0: 1}}, None),
        ({"old": 1}, {}, "its old is 1, not None"),
        ({}, {"new": None}, None),
        ({"value": math.nan}, {"value": math.nan}, None),
        ({"data": HASH}, {"data": HASH[::-1]}, "its data is 0123456789ab, not fedcba987654"),
        ({"data": HASH}, {"data": HASH[:-1] + "0"}, "its data is another one"),
        ({"a": 1, "b": 2}, {"a": 2, "b": 3}, "its a is 1, not 2"),
        ({"text": "x" * 99}, {"text": "y"}, f"its text is {'x' * 57}..., not y"),
        ({"code": "abc"}, {"code": Unidentified("what it computes with")}, "what it computes with cannot be"),
    ],
)
def test_two_recipes_differ_in_the_first_entry_that_is_named(stored, requested, expected):
    found = difference(json.loads(json.dumps(stored)), requested)
    assert found is None if expected is None else found.startswith(expected)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
@pytest.mark.parametrize(("factor", "same"), [(1.0, True), (1.0005, True), (1.01, False), (0.99, False), (-1.0, False)])
def test_computed_numbers_are_the_same_within_a_share_of_their_size(scale, factor, same):
    requested = [2.0 * scale, 1.0 * scale, 3.0 * scale]
    stored = {"losses": [requested[0], requested[1], factor * requested[2]]}
    assert (difference(stored, {"losses": Rounded(requested)}) is None) is same
    assert (difference(stored, {"losses": requested}) is None) is (factor == 1.0)  # of others every digit counts


def test_computed_numbers_that_are_not_finite_are_the_same_only_as_they_are():
    requested = {"losses": Rounded([1.0, math.nan, math.inf])}
    assert difference({"losses": [1.0, math.nan, math.inf]}, requested) is None
    for other in ([1.0, 1.0, math.inf], [1.0, math.nan, 1e300], [1.0, math.nan], None, ["1", 2, 3], "abc"):
        assert difference({"losses": other}, requested)


def test_all_differences_are_named_where_all_are_asked_for():
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 2, "b": {"c": 3}}) == ["its a is 1, not 2", "its b c is 2, not 3"]
    assert renamed({"learning_rate": 0.1, "seed": 0}, {"learning_rate": "lr"}) == {"lr": 0.1, "seed": 0}


def test_unfinished_work_is_found_by_its_recipe_whatever_rounding_does():
    recipe = {"seed": 0, "identity": {"losses": Rounded([1.0])}}
    again, other = {"seed": 0, "identity": {"losses": Rounded([1.00001])}}, {"seed": 1, "identity": {}}
    assert short_digest(recipe) == short_digest(again) == short_digest({"seed": 0, "identity": {}})
    assert unfinished_path(Path("out/a.b.npz"), recipe) != unfinished_path(Path("out/a.b.npz"), other)
    assert unfinished_path(Path("out/a.b.npz"), recipe, ".pth").name.startswith("a.b.")
    assert is_identified(recipe) and not is_identified({"deep": [{"code": Unidentified("x")}]})


class Numbers:
    """Results in a JSON file, and how often they were computed."""

    def __init__(self, path):
        self.path, self.computed = path, 0

    def get(self, recipe, **options):
        def compute():
            self.computed += 1
            return {"value": self.computed, "error": 0.1}

        def write(path, result):
            path.write_text(json.dumps({"result": result, "recipe": recipe}))

        return cached(self.path, recipe, compute, read=read, write=write, **options)


def read(path):
    content = json.loads(path.read_text())
    return (content["result"], content["recipe"]) if content else None


def test_a_result_is_computed_once_for_one_recipe_and_the_reason_is_one_line(tmp_path, capsys):
    numbers = Numbers(tmp_path / "n.json")
    assert numbers.get({"lr": 0.1})["value"] == 1 and capsys.readouterr().out == ""
    assert numbers.get({"lr": 0.1})["value"] == 1 and capsys.readouterr().out == ""
    assert numbers.get({"lr": 0.2})["value"] == 2
    assert capsys.readouterr().out == f"{numbers.path} is computed again: its lr is 0.1, not 0.2\n"
    assert numbers.get({"lr": 0.2}, force=True)["value"] == 3 and capsys.readouterr().out == ""
    assert numbers.get({"lr": 0.3}, entry="seed 1")["value"] == 4
    assert capsys.readouterr().out == f"{numbers.path} (seed 1) is computed again: its lr is 0.2, not 0.3\n"


def test_a_result_of_less_quality_is_never_served(tmp_path, capsys):
    numbers = Numbers(tmp_path / "n.json")

    def within(error):
        return lambda result: None if result["error"] <= error else f"its error is {result['error']}, not {error}"

    numbers.get({}, accept=within(0.1))
    assert numbers.get({}, accept=within(0.2))["value"] == 1
    assert numbers.get({}, accept=within(0.01))["value"] == 2
    assert capsys.readouterr().out == f"{numbers.path} is computed again: its error is 0.1, not 0.01\n"
    assert kept_result(numbers.path, {}, read, within(0.01)) == (None, "its error is 0.1, not 0.01")
    assert look_up(numbers.path, {}, read=read, accept=within(0.2))["value"] == 2


def test_what_is_not_there_is_computed_silently_and_what_cannot_be_read_is_told(tmp_path, capsys):
    numbers = Numbers(tmp_path / "n.json")
    numbers.path.write_text("{}")
    assert numbers.get({})["value"] == 1 and capsys.readouterr().out == ""

    def damaged(path):
        raise InputError(f"{path} is damaged")

    with pytest.raises(InputError, match="is damaged"):
        cached(numbers.path, {}, lambda: pytest.fail("computed"), read=damaged)
    assert cached(numbers.path, {}, lambda: 7, read=damaged, force=True) == 7  # nothing is read
