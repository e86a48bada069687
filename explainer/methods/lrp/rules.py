"""LRP as gradient rules: a table keyed by operation, in force inside a `with` block.

Under these rules the relevance of any activation h is h * dL/dh of one ordinary backward pass
(Achtibat et al., AttnLRP, ICML 2024, sections 3.2 and 3.3). Linear layers and sums need no rule: their gradient
is the epsilon rule.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainer.explained import edit_attention
from explainer.explained.readout import precise
from explainer.methods.modified_backward import Interception, Table, by_table, intercepted
from explainer.methods.operations import (
    ACTIVATIONS,
    CONVOLUTIONS,
    EXPERT_MATRIX_PRODUCTS,
    LAYER_NORMS,
    LINEAR_LAYERS,
    OTHER_ACTIVATIONS,
    PRODUCTS,
    RECIPROCAL_ROOTS,
    RMS_NORMS,
    TRANSPOSED_LINEAR_LAYERS,
    affine,
    centred,
)

Variant = Literal["attn_lrp", "cp_lrp"]


class _Identity(torch.autograd.Function):
    """y = s(x) with the gradient y / x: all relevance of y goes to x (identity rule, equation 9)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, y = map(precise, ctx.saved_tensors)
        return (gradient * (y / stabilized(x))).to(gradient.dtype), None


class _Scaled(torch.autograd.Function):
    """x unchanged, its gradient times a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def identity(x: Tensor, y: Tensor) -> Tensor:
    """y with the identity rule: as if it were x * (y / x) with a constant factor y / x."""
    return _Identity.apply(x, y.detach())


def scaled(x: Tensor, factor: float) -> Tensor:
    """x, of whose relevance only the share `factor` flows down."""
    return _Scaled.apply(x, factor)


def stabilized(x: Tensor) -> Tensor:
    """Shift x away from 0 by the smallest amount that makes division safe."""
    limits = torch.finfo(x.dtype)
    tiny = max(min(1e-10, limits.eps), limits.tiny)
    return torch.where(x < 0, x - tiny, x + tiny)


def _activation(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return identity(x, function(x, *args, **kwargs))


def _layer_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """The standard deviation is a constant (section 3.3.3)."""
    centre, dims = centred(input, normalized_shape)
    y = centre * torch.rsqrt(centre.pow(2).mean(dims, keepdim=True) + eps).detach()
    return affine(y, weight, bias)


def _rms_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """The root mean square is a constant."""
    dims = tuple(range(-len(normalized_shape), 0))
    floor = torch.finfo(input.dtype).eps if eps is None else eps
    y = input * torch.rsqrt(input.pow(2).mean(dims, keepdim=True) + floor).detach()
    return affine(y, weight)


def _constant(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """In a norm that is written out (Llama's), the reciprocal root is its constant."""
    return function(*args, **kwargs).detach()


def _product(function: Callable[..., Tensor], a: Any, b: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Half of the relevance to each factor, where both depend on the input (equation 13)."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.requires_grad and b.requires_grad:
        a, b = scaled(a, 0.5), scaled(b, 0.5)
    return function(a, b, *args, **kwargs)


def _gamma(
    function: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, gamma: float
) -> Tensor:
    """The gamma rule for inputs of both signs: what has the sign of the output counts (1 + gamma) times.

    R_i = sum_j z_ij (1 + gamma [sign z_ij = sign y_j]) / (the same summed over i, the bias included) R_j,
    z_ij = x_i w_ij (section 3.2.1 and appendix B.2 of the paper; Montavon et al. 2019).
    """
    y = function(x, weight, bias, *args).detach()
    # z_ij > 0 comes from two positive or two negative factors, z_ij < 0 from factors of both signs. So each sign of z
    # is one layer on the positive inputs plus one on the negative inputs, each with its own strengthened weight.
    plus, minus = x.clamp(min=0), x.clamp(max=0)
    up, down = gamma * weight.clamp(min=0), gamma * weight.clamp(max=0)

    def strengthened(by_plus: Tensor, by_minus: Tensor, offset: Tensor | None) -> Tensor:
        return function(plus, weight + by_plus, offset, *args) + function(minus, weight + by_minus, None, *args)

    offsets = (None, None) if bias is None else (bias + gamma * bias.clamp(min=0), bias + gamma * bias.clamp(max=0))
    modified = torch.where(y >= 0, strengthened(up, down, offsets[0]), strengthened(down, up, offsets[1]))
    return modified * (y / stabilized(modified)).detach()  # the value is y, the gradient that of the modified layer


def _gamma_transposed(
    function: Callable[..., Tensor], bias: Tensor, x: Tensor, weight: Tensor, *, gamma: float
) -> Tensor:
    return _gamma(F.linear, x, weight.T, bias, gamma=gamma)


def _no_gamma_rule(function: Callable[..., Tensor], *args: Any, gamma: float, **kwargs: Any) -> Tensor:
    raise ValueError(
        "`gamma` needs linear layers one by one, and this mixture of experts multiplies them in groups. "
        "Call `model.set_experts_implementation('eager')` first."
    )


# The rule of each operation. An operation without a row keeps its gradient.
RULES: Table = {
    **dict.fromkeys((*ACTIVATIONS, *OTHER_ACTIVATIONS), _activation),
    **dict.fromkeys(LAYER_NORMS, _layer_norm),
    **dict.fromkeys(RMS_NORMS, _rms_norm),
    **dict.fromkeys(RECIPROCAL_ROOTS, _constant),
    **dict.fromkeys(PRODUCTS, _product),
}
# In addition, where the gamma rule is wanted.
GAMMA_RULES: Table = {
    **dict.fromkeys((*LINEAR_LAYERS, *CONVOLUTIONS), _gamma),
    **dict.fromkeys(TRANSPOSED_LINEAR_LAYERS, _gamma_transposed),
    **dict.fromkeys(EXPERT_MATRIX_PRODUCTS, _no_gamma_rule),
}


@contextlib.contextmanager
def lrp_rules(model: nn.Module, variant: Variant = "attn_lrp", gamma: float | None = None) -> Iterator[Interception]:
    """Inside the block a backward pass through `model` propagates relevance.

    Attention in `attn_lrp`: a quarter of the gradient at query and key, half at value; the softmax as it is
    (section 3.3.1 and 3.3.2, in gradient form). In `cp_lrp` (Ali et al., ICML 2022) the attention weights are
    constants: query and key are detached, and all of the gradient goes to the value.

    Args:
        gamma: the gamma rule with this strength at every linear layer and convolution, instead of the epsilon rule.

    Raises:
        ValueError: when the model's attention is not on transformers' attention interface.
    """
    strengthened = {} if gamma is None else {f: partial(rule, gamma=gamma) for f, rule in GAMMA_RULES.items()}
    table: Table = {**RULES, **strengthened}

    def attention(attend: Any, module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any):
        if variant == "cp_lrp":
            query, key = query.detach(), key.detach()
        else:
            query, key, value = scaled(query, 0.25), scaled(key, 0.25), scaled(value, 0.5)
        with mode.paused():
            return attend(module, query, key, value, *args, **kwargs)

    with (
        edit_attention(model, attention),
        intercepted(model, by_table(table), lambda module, x, y: identity(x, y)) as mode,
    ):
        yield mode
