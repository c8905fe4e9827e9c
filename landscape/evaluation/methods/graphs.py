"""Forward passes as graphs of operations, in two parts: what depends on the weights alone, and the rest."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.func import functionalize

__all__ = ["Parts", "capture", "nodes_of", "parted"]

aten = torch.ops.aten
RANDOM = torch.Tag.nondeterministic_seeded


class Parts(NamedTuple):
    """A pass in two parts, of which the first is computed once per point and the second once per batch."""

    of_weights: fx.GraphModule  # weights -> constants of a point
    of_batch: fx.GraphModule  # constants and inputs -> tensors of the output


def capture(function: Callable[..., list[Any]], weights: list[Tensor], inputs: list[Tensor]) -> fx.Graph:
    """The graph of the torch operations that ``function(weights, inputs)`` runs, with none of them in place.

    The tensors have no values meanwhile, so that torch raises an error where Python code depends on their values.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # takes seconds to import

    traced = make_fx(functionalize(function), tracing_mode="fake", _allow_non_fake_inputs=True)(weights, inputs)
    graph = traced.graph
    for node in list(graph.nodes):
        if node.target is aten.alias.default:
            node.replace_all_uses_with(node.args[0])
        if node.target is aten.alias.default or _renews_an_input(node):
            graph.erase_node(node)
    graph.eliminate_dead_code()
    return graph


def parted(graph: fx.Graph, weights: int) -> Parts:
    """``graph`` in two parts; its first inputs, of the number ``weights``, are the inputs of the first part."""
    module = graph.owning_module or nn.Module()
    constant = set([node for node in graph.nodes if node.op == "placeholder"][:weights])
    for node in graph.nodes:
        if node.op == "get_attr" or (_is_function(node) and all(part in constant for part in node.all_input_nodes)):
            constant.add(node)
    ends = [node for node in graph.nodes if node in constant and any(user not in constant for user in node.users)]
    first, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    _copy(constant, graph, first, copies)
    first.output([copies[node] for node in ends])
    second, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for number, node in enumerate(ends):
        copies[node] = second.placeholder(f"constant_{number}")
        copies[node].meta = dict(node.meta)
    _copy({node for node in graph.nodes if node not in constant}, graph, second, copies)
    second.eliminate_dead_code()
    return Parts(fx.GraphModule(module, first), fx.GraphModule(module, second))


def nodes_of(graph: fx.Graph, target: Any) -> Iterator[fx.Node]:
    """The calls of the operation ``target``; the graph may be changed during the iteration."""
    return (node for node in list(graph.nodes) if node.target is target)


def _copy(nodes: set[fx.Node], graph: fx.Graph, into: fx.Graph, copies: dict[fx.Node, fx.Node]) -> None:
    for node in graph.nodes:
        if node in nodes:
            copies[node] = into.node_copy(node, lambda part: copies[part])


def _is_function(node: fx.Node) -> bool:
    """Whether ``node`` gives the same output for the same inputs, without random numbers."""
    return node.op == "call_function" and RANDOM not in getattr(node.target, "tags", ())


def _renews_an_input(node: fx.Node) -> bool:
    """Whether ``node`` only copies the result of an operation in place back into an input, where nothing reads it."""
    written = node.args[0] if node.target is aten.copy_.default else None
    return isinstance(written, fx.Node) and written.op == "placeholder" and not node.users
