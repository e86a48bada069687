"""The one attention seam: change what a transformer's attention does, inside a `with` block.

An attention function registered without a mask function of the same name gets no mask at all, and
padding and causality vanish silently; so the two are always registered, and removed, together.
"""

import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

Attend = Callable[..., tuple[Tensor, Tensor | None]]
Edit = Callable[..., tuple[Tensor, Tensor | None]]


@contextmanager
def edit_attention(model: nn.Module, edit: Edit) -> Iterator[None]:
    """Let `edit` stand before every attention of `model`; leaving the block restores the model exactly.

    `edit(attend, module, query, key, value, attention_mask, **kwargs)` gets the attention function that was
    active before (`attend`: sdpa, eager, flash ... or another edit, so that blocks nest) and returns what that
    returns: the output (batch, seq, heads, head width) and the attention weights or None.

    Raises:
        ValueError: when the model's attention is not on transformers' attention interface.
    """
    configs = _configs(model)
    names = {before: f"amortex_{uuid.uuid4().hex}" for before in {c._attn_implementation for c in configs}}
    saved = [config._attn_implementation_internal for config in configs]
    try:
        for before, name in names.items():
            AttentionInterface.register(name, cast(Any, _edited(edit, before)))
            mask = AttentionMaskInterface._global_mapping.get(before)
            if mask is not None:
                AttentionMaskInterface.register(name, cast(Any, mask))
        for config in configs:
            config._attn_implementation_internal = names[config._attn_implementation]
        yield
    finally:
        for config, before in zip(configs, saved, strict=True):
            config._attn_implementation_internal = before
        for name in names.values():
            AttentionInterface._global_mapping.pop(name, None)
            AttentionMaskInterface._global_mapping.pop(name, None)


def _configs(model: nn.Module) -> list[Any]:
    """Every distinct configuration that some submodule reads its attention implementation from."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and not module._can_set_attn_implementation():
            raise ValueError(
                f"The attention of `{type(module).__name__}` is not on transformers' attention interface, so it "
                "cannot be read or edited. Use a method that needs forward passes or embedding gradients only: "
                "`sig`, `integrated_gradients`, `input_x_gradient`, `leave_one_out`, or a trained explainer."
            )
    found = {id(m.config): m.config for m in model.modules() if hasattr(getattr(m, "config", None), "model_type")}
    return list(found.values())


def _edited(edit: Edit, before: str) -> Attend:
    def attention(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        # Eager attention is no registered function: each modelling file has its own.
        eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        attend = AttentionInterface().get_interface(before, eager)
        return edit(attend, module, *args, **kwargs)

    return attention
