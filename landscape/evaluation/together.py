"""Functions that all ranks of a network in shards run together."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from landscape.objective.objectives import Objective

__all__ = ["together"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def together(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """``function``, during which the ranks of the network of its `Objective` know of each other."""

    @functools.wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, Objective):
                with argument.network.together():
                    return function(*args, **kwargs)
        return function(*args, **kwargs)

    return run
