"""The points of networks: copies of their parameters, or their own memory where a parameter does not move."""

from collections.abc import Container, Iterable, Mapping

from torch import Tensor, nn

from landscape.errors import InputError, InputTypeError
from landscape.points.checks import check_values
from landscape.points.point import Point
from landscape.points.wrappers import Renamed, named_parameters, with_wrapped_names
from landscape.runtime import own_torch_state

__all__ = ["SharedPoint", "as_point", "parameters_of", "point_moving"]


@own_torch_state()
def parameters_of(model: nn.Module) -> Point:
    """Detached copies of all parameters of ``model`` in the order of ``named_parameters``, tied weights once.

    The names are those without wrappers of compilation or parallel training, see `unwrapped`.

    Raises:
        InputError: a parameter has no values that can be copied, for instance on the meta device.
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"parameters_of takes a torch.nn.Module, not {type(model).__name__}")
    check_values(model)
    point = {name: parameter.detach().clone() for name, parameter in named_parameters(model)}
    return with_wrapped_names(point, model)


class SharedPoint(Renamed):
    """A point that shares the memory of its network for all parameters that are not moved."""

    def __init__(self, values: Mapping[str, Tensor], shared: Iterable[str]):
        super().__init__(values)
        self._versions = {name: values[name]._version for name in shared}

    def __reduce__(self) -> tuple[type[dict[str, Tensor]], tuple[dict[str, Tensor]]]:
        """Make deep copies and pickles plain dictionaries, which share no memory with the network."""
        return dict, ({**self},)

    def check_unchanged(self, names: Container[str] | None = None) -> None:
        """Raise InputError if a shared parameter (of ``names``, if given) has been changed since the point was made."""
        for name, version in self._versions.items():
            if self[name]._version != version and (names is None or name in names):
                raise InputError(
                    f"the network has been changed since: its parameter {name!r} was not copied, as it is not moved "
                    "here; make the slice and the objective anew"
                )


@own_torch_state()
def point_moving(source: nn.Module | Point, names: Container[str]) -> SharedPoint:
    """The point of ``source`` with copies of the parameters ``names``, which will be moved; all others are shared."""
    if isinstance(source, nn.Module):
        check_values(source)
        values: Mapping[str, Tensor] = {name: value.detach() for name, value in named_parameters(source)}
    else:
        values = as_point(source)
    own = {name: value.clone() if name in names or value.is_inference() else value for name, value in values.items()}
    return SharedPoint(own, [name for name, value in own.items() if value is values[name]])


@own_torch_state()
def as_point(source: nn.Module | Point) -> Point:
    """The parameters of a module, see `parameters_of`, or the values of a given point in a new dictionary.

    Raises:
        InputTypeError: ``source`` is neither a module nor a dictionary of tensors.
    """
    if isinstance(source, nn.Module):
        return parameters_of(source)
    if isinstance(source, dict) and all(isinstance(value, Tensor) for value in source.values()):
        # Tensors made under torch.inference_mode can take no part in derivatives; their copies can.
        return {name: value.clone() if value.is_inference() else value for name, value in source.items()}
    raise InputTypeError(f"a point is a module or a dict[str, Tensor], not {type(source).__name__}; see parameters_of")
