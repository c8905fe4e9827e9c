"""Forms of plain values (JSON types): the required content of a file, which is checked when it is read."""

from collections.abc import Iterable, Mapping

__all__ = ["Optional", "form_fault", "is_bounded"]

DEEPEST, MOST = 64, 2 * 10**6  # levels and values, at most; files of this package have up to 8 levels


class Optional:
    """An entry that may be missing or None, else has ``form``."""

    def __init__(self, form: object):
        self.form = form


def form_fault(value: object, form: object, name: str = "") -> str | None:
    """A description of the first entry in which ``value`` does not have ``form``; None if it has.

    A form is one of: object (anything); a type or a tuple of types (a bool does not count as an int); a list with one
    form, for every element; a dict of forms by key (further keys are allowed); or a dict {str: form}, for every value.
    """
    if isinstance(form, Optional):
        return None if value is None else form_fault(value, form.form, name)
    if form is object:
        return None
    place = name or "the content"
    if isinstance(form, list):
        if not isinstance(value, list | tuple):
            return f"{place} is a {type(value).__name__}, no list"
        return _first(form_fault(entry, form[0], f"{name}[{k}]") for k, entry in enumerate(value))
    if isinstance(form, Mapping):
        if not isinstance(value, dict):
            return f"{place} is a {type(value).__name__}, no dict"
        if form.keys() == {str}:
            return _first(form_fault(entry, form[str], _below(name, key)) for key, entry in value.items())
        required = [key for key, entry in form.items() if not isinstance(entry, Optional)]
        if missing := [key for key in required if key not in value]:
            return f"{place} lacks {', '.join(missing)}"
        return _first(form_fault(value.get(key), entry, _below(name, key)) for key, entry in form.items())
    kinds = form if isinstance(form, tuple) else (form,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        return f"{place} is a {type(value).__name__}, no {names}"
    return None


def is_bounded(value: object) -> bool:
    """Whether ``value`` is neither nested too deep nor too large, also by parts that contain themselves."""
    pending: list[tuple[object, int]] = [(value, 0)]
    visited = 0
    while pending:
        part, depth = pending.pop()
        visited += 1
        if visited > MOST or depth > DEEPEST:
            return False
        if isinstance(part, dict):
            pending += [(entry, depth + 1) for entry in part.values()]
        elif isinstance(part, list | tuple):
            pending += [(entry, depth + 1) for entry in part]
    return True


def _below(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _first(faults: Iterable[str | None]) -> str | None:
    return next(filter(None, faults), None)
