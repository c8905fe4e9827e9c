"""The operations by name, and the rule for each of them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from landscape.connectivity.operations.call import CONVOLUTIONS, TRANSPOSED, Operation
from landscape.connectivity.operations.entries import (
    CHANNEL_ARGUMENTS,
    NORMALISING_ARGUMENTS,
    cast,
    channelwise,
    equivariant,
    normalised,
    pooled,
    reduced,
)
from landscape.connectivity.operations.shapes import as_complex, as_real, joined, padded, repeated, shaped
from landscape.connectivity.operations.sums import attention, einsum, embedding, layer, product, sum_with_product

if TYPE_CHECKING:
    from landscape.connectivity.coupling import Tracer

__all__ = ["FILLING", "LEAVING", "RULES"]

# Equivariant: a permutation of the units of the inputs is the same permutation of those of the output. The names lack
# the underscores of special methods and of operations in place.
EQUIVARIANT = {
    "abs", "add", "bitwise_and", "bitwise_not", "bitwise_or", "celu", "clamp", "clamp_max", "clamp_min", "clone",
    "conj", "contiguous", "cos", "data", "detach", "div", "double", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "elu", "eq", "exp", "expm1", "feature_dropout", "float", "ge", "gelu", "gt", "hardsigmoid", "hardswish", "hardtanh",
    "iadd", "idiv", "imul", "imag", "isub", "itruediv", "le", "leaky_relu", "lerp", "log", "log1p", "logical_and",
    "logical_not", "logical_or", "logsigmoid", "lt", "masked_fill", "maximum", "minimum", "mish", "mul", "multiply",
    "ne", "neg", "pow", "radd", "rdiv", "real", "reciprocal", "relu", "relu6", "requires_grad", "rmul", "rpow", "rrelu",
    "rsqrt", "rsub", "rtruediv", "selu", "sigmoid", "silu", "sin", "softplus", "softshrink", "softsign", "sqrt",
    "square", "sub", "subtract", "tanh", "tanhshrink", "threshold", "true_divide", "truediv", "where",
}  # fmt: skip
CASTING = {"bfloat16", "half", "to", "type", "type_as"}  # whose output has the units of the first tensor only
SHAPING = {
    "T", "chunk", "flatten", "flip", "gather", "getitem", "index_select", "mT", "movedim", "narrow", "permute", "ravel",
    "reshape", "reshape_as", "roll", "select", "split", "squeeze", "swapaxes", "t", "tensor_split", "transpose",
    "unbind", "unflatten", "unsqueeze", "view", "view_as",
}  # fmt: skip
REPEATING = {"expand", "expand_as", "repeat", "repeat_interleave", "tile"}
JOINING = {"cat", "concat", "concatenate", "hstack", "stack"}
REDUCING = {
    "amax", "amin", "linalg_vector_norm", "logsumexp", "max", "mean", "median", "min", "prod", "std", "sum", "var",
}  # fmt: skip
POOLING = {f"{kind}_pool{d}d" for kind in ("adaptive_avg", "adaptive_max", "avg", "lp", "max") for d in (1, 2, 3)}
POOLING |= {"interpolate", "upsample"}
FILLING = {"full", "full_like", "new_full", "new_ones", "new_zeros", "ones", "ones_like", "zeros", "zeros_like"}
LEAVING = {"array", "numpy", "tolist"}  # operations that leave torch, so that what follows cannot be watched
PRODUCTS = {"bmm", "matmul", "mm", "mv"}

RULES: dict[str, Callable[["Tracer", Operation], list[Tensor]]] = {
    name: rule
    for names, rule in (
        (("linear", *CONVOLUTIONS, *TRANSPOSED), layer),
        (("embedding",), embedding),
        (PRODUCTS, product),
        (("addmm", "baddbmm"), sum_with_product),
        (("einsum",), einsum),
        (("scaled_dot_product_attention",), attention),
        (CHANNEL_ARGUMENTS, channelwise),
        (NORMALISING_ARGUMENTS, normalised),
        (EQUIVARIANT, equivariant),
        (CASTING, cast),
        (SHAPING, shaped),
        (REPEATING, repeated),
        (("view_as_complex",), as_complex),
        (("view_as_real",), as_real),
        (JOINING, joined),
        (REDUCING, reduced),
        (POOLING, pooled),
        (("pad",), padded),
    )
    for name in names
}
