"""The gradient rules of AttnLRP, put in place by interception and gone when the block is left.

Under these rules the relevance of any activation h is h * dL/dh of one ordinary backward pass
(Achtibat et al., AttnLRP, ICML 2024, sections 3.2 and 3.3). Linear layers and sums need no rule: their gradient
is the epsilon rule. No module and no class is changed; nothing outside the block sees the rules.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explainer.explained import edit_attention


class _Identity(torch.autograd.Function):
    """y = s(x) with the gradient y / x: all relevance of y goes to x (identity rule, equation 9)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        tiny = torch.finfo(x.dtype).eps
        return gradient * y / torch.where(x < 0, x - tiny, x + tiny), None


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
    return _Identity.apply(x, y.detach())


def scaled(x: Tensor, factor: float) -> Tensor:
    return _Scaled.apply(x, factor)


def _activation(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return identity(x, function(x, *args, **kwargs))


def _layer_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """The standard deviation is a constant (section 3.3.3)."""
    dims = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(dims, keepdim=True)
    y = centred * torch.rsqrt(centred.pow(2).mean(dims, keepdim=True) + eps).detach()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _rms_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    floor = torch.finfo(input.dtype).eps if eps is None else eps
    y = input * torch.rsqrt(input.pow(2).mean(dims, keepdim=True) + floor).detach()
    return y if weight is None else y * weight


def _constant(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    return function(*args, **kwargs).detach()


def _product(function: Callable[..., Tensor], a: Any, b: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Half of the relevance to each factor, where both depend on the input (equation 13)."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.requires_grad and b.requires_grad:
        a, b = scaled(a, 0.5), scaled(b, 0.5)
    return function(a, b, *args, **kwargs)


# The table: which rule each operation gets. An operation without a row keeps its gradient.
RULES: dict[Callable[..., Any], Callable[..., Tensor]] = {
    **dict.fromkeys((F.gelu, F.silu, F.relu, F.elu, F.leaky_relu, F.mish, F.softplus, F.relu6), _activation),
    **dict.fromkeys((torch.relu, torch.tanh, torch.sigmoid, F.tanh, F.sigmoid), _activation),
    **dict.fromkeys((Tensor.relu, Tensor.tanh, Tensor.sigmoid), _activation),
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    **dict.fromkeys((torch.rsqrt, Tensor.rsqrt), _constant),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), _product),
}


class _Rules(TorchFunctionMode):
    """Intercepts each torch operation of the forward pass and gives it its rule."""

    resting = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rule = None if self.resting else RULES.get(function)
        if rule is None or not torch.is_grad_enabled():
            return function(*args, **kwargs)
        return rule(function, *args, **kwargs)


_SOFTMAX_LIKE = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.MultiheadAttention)


def _is_activation(module: nn.Module) -> bool:
    home = type(module).__module__
    return home in ("transformers.activations", "torch.nn.modules.activation") and not isinstance(module, _SOFTMAX_LIKE)


@contextlib.contextmanager
def attn_lrp_rules(model: nn.Module) -> Iterator[None]:
    """Inside the block a backward pass through `model` propagates AttnLRP relevance.

    Attention: a quarter of the gradient at query and key, half at value; the softmax as it is
    (section 3.3.1 and 3.3.2, in gradient form).

    Raises:
        ValueError: when the model's attention is not on transformers' attention interface.
    """
    mode = _Rules()

    def attention(attend: Any, module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any):
        mode.resting += 1
        try:
            return attend(module, scaled(query, 0.25), scaled(key, 0.25), scaled(value, 0.5), *args, **kwargs)
        finally:
            mode.resting -= 1

    # An activation module may be written out in elementary operations (NewGELU): it is one operation all the same.
    def enter(module: nn.Module, inputs: Any) -> None:
        mode.resting += 1

    def leave(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        mode.resting -= 1
        return identity(inputs[0], output)

    with contextlib.ExitStack() as stack:
        for module in filter(_is_activation, model.modules()):
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(edit_attention(model, attention))
        stack.enter_context(mode)
        yield
