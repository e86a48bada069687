"""Another backward pass for an ordinary forward pass: every torch operation intercepted, nothing left behind.

What the rules of LRP, of Chefer et al. and of DeepLIFT are put in place by: no module and no class is changed, and
nothing outside the block sees the rules.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

Operation = Callable[..., Any]
Table = Mapping[Operation, Callable[..., Tensor]]
Handle = Callable[[Operation, tuple[Any, ...], dict[str, Any]], Any]
Activation = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Interception(TorchFunctionMode):
    """Calls `handle(operation, args, kwargs)` instead of each operation that builds a graph."""

    def __init__(self, handle: Handle) -> None:
        super().__init__()
        self.handle = handle
        self.depth = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.depth or not torch.is_grad_enabled():
            return function(*args, **kwargs or {})
        return self.handle(function, args, kwargs or {})

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """Operations inside keep their own gradients: they are parts of one that has its rule."""
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """The rules on, also in what autograd computes again in a backward pass, where a mode is suspended."""
        with contextlib.nullcontext() if self in _get_current_function_mode_stack() else self:
            yield


def by_table(table: Table) -> Handle:
    """Each operation's rule from a table, called with the operation first; one without a row keeps its gradient."""

    def handle(function: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule = table.get(function)
        return function(*args, **kwargs) if rule is None else rule(function, *args, **kwargs)

    return handle


@contextlib.contextmanager
def intercepted(model: nn.Module, handle: Handle, activation: Activation) -> Iterator[Interception]:
    """Inside the block operations are intercepted; `activation(module, x, y)` stands for y = module(x).

    An activation module may be written out in elementary operations (NewGELU): it is one operation all the same.
    """
    mode = Interception(handle)

    def enter(module: nn.Module, inputs: Any) -> None:
        mode.depth += 1

    def leave(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        found = activation(module, inputs[0], output)
        mode.depth -= 1
        return found

    with contextlib.ExitStack() as stack:
        for module in filter(_is_activation, model.modules()):
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        yield stack.enter_context(mode)


_NOT_ELEMENTWISE = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.MultiheadAttention)


def _is_activation(module: nn.Module) -> bool:
    home = type(module).__module__
    return home in ("transformers.activations", "torch.nn.modules.activation") and not isinstance(
        module, _NOT_ELEMENTWISE
    )
