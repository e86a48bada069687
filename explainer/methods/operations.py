"""Named groups of torch operations, in terms of which the tables of backward rules are written.

A group holds every way in which transformers' models call one operation: the function of `torch`, that of
`torch.nn.functional`, the method of a tensor, and the operator. A model that calls an operation in a new way needs one
entry here, and every table that names the group has it. No function is in two groups.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Operation = Callable[..., Any]
Group = tuple[Operation, ...]

# Element by element
ACTIVATIONS: Group = (
    *(F.gelu, F.silu, F.relu, F.tanh, F.sigmoid),
    *(torch.relu, torch.tanh, torch.sigmoid),
    *(Tensor.relu, Tensor.tanh, Tensor.sigmoid),
)
OTHER_ACTIVATIONS: Group = (F.elu, F.leaky_relu, F.mish, F.softplus, F.relu6)
"""Activations that the rules of Chefer et al. leave out."""
LOG_SIGMOIDS: Group = (F.logsigmoid,)
POWERS: Group = (torch.pow, Tensor.pow, Tensor.__pow__)
CLAMPS: Group = (torch.clamp, Tensor.clamp)  # T5's, in float16
RECIPROCAL_ROOTS: Group = (torch.rsqrt, Tensor.rsqrt)
NEGATIONS: Group = (torch.neg, Tensor.neg)  # the operator is the same object as the method
DROPOUTS: Group = (F.dropout,)

# Of two tensors
SUMS: Group = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__)
PRODUCTS: Group = (torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__)
QUOTIENTS: Group = (torch.div, Tensor.div, Tensor.__truediv__)
MATRIX_PRODUCTS: Group = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
BATCHED_MATRIX_PRODUCTS: Group = (torch.bmm, Tensor.bmm)

# With weights. The two linear layers take their arguments in different orders, so each has a rule of its own.
LINEAR_LAYERS: Group = (F.linear,)
TRANSPOSED_LINEAR_LAYERS: Group = (torch.addmm,)  # GPT-2's: the weight is (in, out)
CONVOLUTIONS: Group = (F.conv2d,)
EXPERT_MATRIX_PRODUCTS: Group = tuple(  # all experts of a mixture at once; not in every version of torch
    getattr(home, name) for home, name in ((F, "grouped_mm"), (torch, "_grouped_mm")) if hasattr(home, name)
)

# Along a dimension
SOFTMAXES: Group = (F.softmax, torch.softmax, Tensor.softmax)
LOG_SOFTMAXES: Group = (F.log_softmax, torch.log_softmax, Tensor.log_softmax)
LOG_SUMS: Group = (torch.logsumexp, Tensor.logsumexp)
LAYER_NORMS: Group = (F.layer_norm,)
RMS_NORMS: Group = (F.rms_norm,)

MOVES: Group = (
    *(Tensor.view, Tensor.reshape, Tensor.flatten, Tensor.squeeze, Tensor.unsqueeze, Tensor.expand, Tensor.contiguous),
    *(Tensor.transpose, Tensor.permute, Tensor.chunk, Tensor.split, Tensor.unbind, Tensor.__getitem__, Tensor.clone),
    *(Tensor.to, Tensor.float, Tensor.double, Tensor.type, Tensor.type_as, Tensor.repeat_interleave, Tensor.gather),
    *(torch.reshape, torch.flatten, torch.squeeze, torch.unsqueeze, torch.transpose, torch.permute, torch.chunk),
    *(torch.split, torch.unbind, torch.cat, torch.stack, torch.repeat_interleave, torch.gather, torch.clone),
    *(Tensor.expand_as, Tensor.view_as, Tensor.requires_grad_),
)
"""Operations that only move, copy or convert values."""


def centred(input: Tensor, normalized_shape: Any) -> tuple[Tensor, tuple[int, ...]]:
    """The first step of a layer norm: the input minus its mean, and the dimensions that are normalised."""
    dims = tuple(range(-len(normalized_shape), 0))
    return input - input.mean(dims, keepdim=True), dims


def affine(normalised: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """The last step of a norm: times the weight, plus the bias, where there are any."""
    scaled = normalised if weight is None else normalised * weight
    return scaled if bias is None else scaled + bias
