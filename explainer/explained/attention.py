"""The one attention seam: change what a transformer's attention does, or its weights, inside a `with` block.

An attention function registered without a mask function of the same name gets no mask at all, and
padding and causality vanish silently; so the two are always registered, and removed, together.
"""

import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

Attend = Callable[..., tuple[Tensor, Tensor | None]]
Edit = Callable[..., tuple[Tensor, Tensor | None]]
WeightsEdit = Callable[[nn.Module, Tensor], Tensor]


@contextmanager
def edit_attention(model: nn.Module, edit: Edit, through: str | None = None) -> Iterator[None]:
    """Call `edit` in place of every attention of `model`; leaving the block restores the model exactly.

    `edit(attend, module, query, key, value, attention_mask, **kwargs)` gets the attention function that was
    active before (`attend`: sdpa, eager, flash ... or another edit, so that blocks nest) and returns what that
    returns: the output (batch, seq, heads, head width) and the attention weights or None.

    Args:
        through: the implementation that `attend` is (with its kind of mask), instead of the one active before.

    Raises:
        ValueError: when the model's attention is not on transformers' attention interface.
    """
    configs = _configs(model)
    names = {before: f"amortex_{uuid.uuid4().hex}" for before in {c._attn_implementation for c in configs}}
    saved = [config._attn_implementation_internal for config in configs]
    try:
        for before, name in names.items():
            AttentionInterface.register(name, cast(Any, _edited(edit, through or before)))
            mask = AttentionMaskInterface._global_mapping.get(through or before)
            if mask is not None:
                AttentionMaskInterface.register(
                    name, cast(Any, _finite(cast(Any, mask)) if through == "eager" else mask)
                )
        for config in configs:
            config._attn_implementation_internal = names[config._attn_implementation]
        yield
    finally:
        for config, before in zip(configs, saved, strict=True):
            config._attn_implementation_internal = before
        for name in names.values():
            AttentionInterface._global_mapping.pop(name, None)
            AttentionMaskInterface._global_mapping.pop(name, None)


@contextmanager
def edit_attention_weights(model: nn.Module, edit: WeightsEdit) -> Iterator[None]:
    """Let `edit(module, weights)` map the probabilities (batch, heads, queries, keys) of every attention of `model`.

    Each family's own eager attention computes them, so that soft caps, windows, position biases and grouped keys are
    as they should be. Return `weights` itself to read only: it is in the graph of the output. Batches are right-padded
    inside the model (`TokenBatch.right_padded`), and so are the weights.

    Raises:
        ValueError: when the model's attention is not on transformers' attention interface.
    """

    def attention(attend: Attend, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kw: Any):
        output, weights = attend(module, query, key, value, *args, **kw)
        assert weights is not None
        edited = edit(module, weights)
        if edited is weights:
            return output, weights
        value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
        return (edited.to(value.dtype) @ value).transpose(1, 2).contiguous(), edited

    with edit_attention(model, attention, through="eager"):
        yield


def check_one_per_layer(model: PreTrainedModel, depth: int, shapes: Sequence[torch.Size]) -> None:
    """Check that every layer of a pass had attention weights, given their shapes in the order of the pass.

    Raises:
        ValueError: when some layers have no attention (Jamba, Qwen3-Next, FNet), or one to several things at once.
    """
    behind = len(shapes) - depth  # a decoder block has two: to itself, and to the encoder
    complete = behind >= 0 and behind % 2 == 0 if model.config.is_encoder_decoder else behind == 0
    if not complete or any(shape[-1] != shape[-2] for shape in [*shapes[:depth], *shapes[depth::2]]):
        raise ValueError(
            f"The {depth} layers of {type(model).__name__} do not have one attention each (some mix tokens in another "
            "way, or in blocks), so attention cannot be followed through them. Use a method of gradients or "
            "perturbations: `attn_lrp`, `sig`, `integrated_gradients`, `leave_one_out`."
        )


def _configs(model: nn.Module) -> list[Any]:
    """Every distinct configuration that some submodule reads its attention implementation from."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and not module._can_set_attn_implementation():
            raise ValueError(
                f"The attention of `{type(module).__name__}` is not on transformers' attention interface, so it "
                "cannot be read or edited. Use a method that needs forward passes or embedding gradients only: "
                "`sig`, `integrated_gradients`, `input_x_gradient`, `leave_one_out`, or a trained explainer."
            )
    configs = {id(m.config): m.config for m in model.modules() if hasattr(getattr(m, "config", None), "model_type")}
    return list(configs.values())


def _finite(mask: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """An eager mask whose lowest number stays finite when scores are added and in float32, the precision of softmax.

    The lowest number of float64 is infinite in float32. That of float16 becomes infinite where a score below -16 is
    added, so half of it is taken; its exponential is 0 all the same. A query without any key would then be NaN.
    """

    def finite(*args: Any, **kwargs: Any) -> Tensor | None:
        values = mask(*args, **kwargs)
        if values is None:
            return None
        lowest = torch.finfo(values.dtype).min
        halved = torch.finfo(values.dtype).bits < 32
        return values.clamp(min=lowest / 2 if halved else max(lowest, torch.finfo(torch.float32).min))

    return finite


def _edited(edit: Edit, before: str) -> Attend:
    def attention(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        # Eager attention is not a registered function: each modelling file has its own.
        eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        attend = AttentionInterface().get_interface(before, eager)
        return edit(attend, module, *args, **kwargs)

    return attention
