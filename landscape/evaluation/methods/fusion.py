"""Fewer operations for convolutional networks: BatchNorm goes into weights, additions and ReLU into convolutions.

The weights are folded, and brought into the order in which oneDNN reads them, once per point, not once per batch.
"""

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from landscape.evaluation.methods.graphs import nodes_of

__all__ = ["fold_batch_norm", "fuse_convolutions"]

aten, mkldnn = torch.ops.aten, torch.ops.mkldnn
CONVOLUTION, BATCH_NORM = aten.convolution.default, aten.native_batch_norm.default
# Operations whose outputs are no views; as names, because builds of torch without oneDNN lack some of them.
FRESH = {"aten.convolution.default", "aten.maximum.default", "aten.add.Tensor"}
FRESH |= {"aten.relu.default", "aten.relu_.default"}
FRESH |= {f"mkldnn._convolution_pointwise{kind}" for kind in (".default", ".binary", "_.binary")}
# oneDNN's ReLU turns NaN into 0. A leaky ReLU keeps NaN and infinities, and this slope is below rounding errors.
SLOPE = 1e-20


class Convolution(NamedTuple):
    """The arguments of a call of ``aten.convolution``."""

    inputs: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int

    @classmethod
    def of(cls, node: fx.Node) -> "Convolution":
        """The arguments of the call ``node``."""
        arguments: tuple[Any, ...] = node.args
        return cls(*arguments)


def fold_batch_norm(graph: fx.Graph) -> int:
    """Fold each BatchNorm with given statistics into the weights of the convolution before it; return their number.

    gamma (w * x + b - mean) / sqrt(var + eps) + beta is a convolution with the weights s w and the bias
    beta + s (b - mean), s = gamma / sqrt(var + eps).
    """
    count = 0
    for norm in nodes_of(graph, BATCH_NORM):
        arguments: tuple[Any, ...] = norm.args
        convolution, normalised = arguments[0], _only_output(norm)
        if arguments[5] or normalised is None or not _takes_more(convolution):
            continue
        with graph.inserting_before(convolution):
            folded = _folded(graph, convolution, arguments)
        normalised.replace_all_uses_with(folded)
        for node in (*norm.users, norm, convolution):
            graph.erase_node(node)
        count += 1
    return count


def fuse_convolutions(graph: fx.Graph) -> int:
    """Let oneDNN compute each convolution with the addition and ReLU after it; return the number of convolutions.

    If values inside a pass are not finite, its outputs are not finite either, but may differ from those of the graph
    without fusion (NaN instead of infinity, for instance).
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    order = {node: number for number, node in enumerate(graph.nodes)}
    count = 0
    for node in nodes_of(graph, CONVOLUTION):
        if not _is_for_onednn(node):
            continue
        addition = _addition_after(node, order)
        relu = _only_user(addition or node, aten.relu.default)
        last = relu or addition or node
        with graph.inserting_before(node):
            fused = _fused(graph, node, addition, relu is not None, order)
        fused.meta, order[fused] = dict(last.meta), order[node]
        last.replace_all_uses_with(fused)
        for replaced in (relu, addition, node):
            if replaced is not None:
                graph.erase_node(replaced)
        count += 1
    return count


def _folded(graph: fx.Graph, convolution: fx.Node, norm: tuple[Any, ...]) -> fx.Node:
    """The convolution that gives what ``convolution`` and the BatchNorm with the arguments ``norm`` give together."""
    call, (_, gamma, beta, mean, variance, _, _, eps) = Convolution.of(convolution), norm
    kind = _value(convolution).dtype  # lower than that of the statistics under autocast
    run = graph.call_function
    scale = run(aten.rsqrt.default, (run(aten.add.Scalar, (variance, eps)),))
    if gamma is not None:
        scale = run(aten.mul.Tensor, (scale, gamma))
    weight, bias = (_before_cast(part) for part in (call.weight, call.bias))
    by_filter = run(aten.view.default, (scale, [-1] + [1] * (_value(call.weight).ndim - 1)))
    shift = mean if bias is None else run(aten.sub.Tensor, (mean, bias))
    shift = run(aten.neg.default, (run(aten.mul.Tensor, (shift, scale)),))
    if beta is not None:
        shift = run(aten.add.Tensor, (shift, beta))
    both = [run(aten.mul.Tensor, (weight, by_filter)), shift]
    if kind != _value(weight).dtype:
        both = [run(aten._to_copy.default, (part,), {"dtype": kind}) for part in both]
    both[0].meta = dict(call.weight.meta)
    folded = run(CONVOLUTION, (call.inputs, *both, *call[3:]))
    folded.meta = dict(convolution.meta)
    return folded


def _takes_more(node: Any) -> bool:
    """Whether ``node`` is a convolution, but no transposed one, whose output only one operation reads."""
    return isinstance(node, fx.Node) and node.target is CONVOLUTION and len(node.users) == 1 and not node.args[6]


def _only_output(norm: fx.Node) -> fx.Node | None:
    """The node of the normalised values; None if the other outputs of ``norm``, its statistics, are read too."""
    first = [user for user in norm.users if user.target is operator.getitem and user.args[1] == 0]
    others = [user for user in norm.users if user not in first]
    read = any(user.target is not operator.getitem or user.users for user in others)
    return first[0] if len(first) == 1 and not read else None


def _before_cast(node: fx.Node | None) -> Any:
    """The node that autocast has cast to ``node``, or ``node`` itself if it is no cast."""
    return node.args[0] if node is not None and node.target is aten._to_copy.default else node


def _is_for_onednn(node: fx.Node) -> bool:
    """Whether oneDNN can compute ``node``: a 2D convolution on the CPU, of a supported dtype, with channels last."""
    call, value = Convolution.of(node), _value(node)
    inputs = _value(call.inputs)
    known = value.dtype == torch.float32 or (value.dtype == torch.bfloat16 and mkldnn._is_mkldnn_bf16_supported())
    return (
        known
        and inputs.ndim == 4
        and not call.transposed
        and inputs.device.type == "cpu"
        and inputs.is_contiguous(memory_format=torch.channels_last)
    )


def _addition_after(node: fx.Node, order: dict[fx.Node, int]) -> fx.Node | None:
    """The only user of ``node``, if it adds a tensor of the same shape that is computed earlier; else None."""
    addition = _only_user(node, aten.add.Tensor)
    if addition is None or addition.kwargs or len(addition.args) != 2:
        return None
    other = _other(addition, node)
    if not isinstance(other, fx.Node) or other is node or order[other] > order[node]:
        return None
    same = [(value.shape, value.dtype, value.stride()) for value in map(_value, (node, other))]
    return addition if same[0] == same[1] else None


def _fused(graph: fx.Graph, node: fx.Node, addition: fx.Node | None, relu: bool, order: dict[fx.Node, int]) -> fx.Node:
    """One operation for the convolution ``node`` with packed weights and the addition and ReLU after it."""
    call, run = Convolution.of(node), graph.call_function
    shape = list(_value(call.inputs).shape)
    settings = (call.padding, call.stride, call.dilation, call.groups)
    packed = run(mkldnn._reorder_convolution_weight.default, (call.weight, *settings, shape))
    if addition is None:
        after: tuple[Any, ...] = ("leaky_relu", [SLOPE], "") if relu else ("none", [], "")
        return run(mkldnn._convolution_pointwise.default, (call.inputs, packed, call.bias, *settings, *after))
    other = _other(addition, node)
    tail: tuple[Any, ...] = (packed, call.bias, *settings, "add", 1.0, None, [], "")
    if _is_free(other, node, addition, order):
        total = run(mkldnn._convolution_pointwise_.binary, (other, call.inputs, *tail))
    else:
        total = run(mkldnn._convolution_pointwise.binary, (call.inputs, other, *tail))
    return run(aten.relu_.default, (total,)) if relu else total


def _is_free(other: fx.Node, node: fx.Node, addition: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Whether the sum may overwrite ``other``: it is no view, and neither it nor a view of it is read later."""
    readers = [user for user in other.users if user is not addition]
    before = all(str(user.target) in FRESH and order[user] < order[node] for user in readers)
    return str(other.target) in FRESH and before and other is not node.args[0]


def _only_user(node: fx.Node, target: Any) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target is target else None


def _other(addition: fx.Node, node: fx.Node) -> Any:
    first, second = addition.args
    return second if first is node else first


def _value(node: Any) -> Tensor:
    """A tensor without values that has the shape, dtype and memory layout of the output of ``node``."""
    value: Tensor = node.meta["val"]
    return value
