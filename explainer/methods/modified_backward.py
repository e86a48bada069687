"""Replace the backward pass of chosen torch operations, for the time of a `with` block.

LRP, Chefer et al. and DeepLIFT are built on this. The forward pass stays the ordinary one: no module and no class is
changed, and nothing outside the block sees the rules.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from explainer.methods.operations import Operation

Table = Mapping[Operation, Callable[..., Tensor]]
"""The rule of each operation. A rule is called with the operation first and then with the operation's arguments."""

Handle = Callable[[Operation, tuple[Any, ...], dict[str, Any]], Any]
ActivationRule = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Interception(TorchFunctionMode):
    """Calls `handle(operation, args, kwargs)` in place of each torch operation, where a graph is being built."""

    def __init__(self, handle: Handle) -> None:
        super().__init__()
        self.handle = handle
        self.pauses = 0  # how many blocks and activation modules the rules rest in at the moment

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.pauses or not torch.is_grad_enabled():
            return function(*args, **kwargs or {})
        return self.handle(function, args, kwargs or {})

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Operations inside keep their own gradients: they are parts of a larger one that has its rule."""
        self.pauses += 1
        try:
            yield
        finally:
            self.pauses -= 1

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """The rules apply inside, also where autograd recomputes a layer in the backward pass.

        Autograd suspends function modes there, so the mode is entered a second time.
        """
        with contextlib.nullcontext() if self in _get_current_function_mode_stack() else self:
            yield


def by_table(table: Table) -> Handle:
    """Each operation by its rule in the table; an operation without a row keeps its gradient."""

    def handle(function: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule = table.get(function)
        return function(*args, **kwargs) if rule is None else rule(function, *args, **kwargs)

    return handle


@contextlib.contextmanager
def intercepted(model: nn.Module, handle: Handle, activation: ActivationRule) -> Iterator[Interception]:
    """Inside the block `handle` replaces torch operations, and `activation` replaces activation modules.

    Some activation modules are written out in elementary operations (NewGELU). Each is one operation all the same, so
    `handle` is paused inside it.

    Args:
        activation: called as `activation(module, x, y)` with y = module(x); returns y with the gradient it wants.
    """
    mode = Interception(handle)

    def enter(module: nn.Module, inputs: Any) -> None:
        mode.pauses += 1

    def leave(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        replaced = activation(module, inputs[0], output)
        mode.pauses -= 1
        return replaced

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
