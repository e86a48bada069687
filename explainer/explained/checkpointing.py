"""Gradient checkpointing of a frozen model. The one of transformers works in training mode only."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop


@contextmanager
def checkpointed(
    layers: Sequence[nn.Module], again: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Iterator[None]:
    """Keep the layers' inputs only, inside the block; the backward pass computes the rest again.

    Args:
        again: a context for the second computation.
    """
    settings: dict[str, Any] = {
        "use_reentrant": False,
        "preserve_rng_state": False,
        "context_fn": lambda: (nullcontext(), again()),
    }
    before = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            vars(layer)["forward"] = partial(checkpoint, layer.forward, **settings)
        # A recomputation that stops half-way would leave hooks of the modules inside uncalled.
        with set_checkpoint_early_stop(False):
            yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            del vars(layer)["forward"]
            if forward is not None:
                vars(layer)["forward"] = forward
