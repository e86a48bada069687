"""An explainer that is a LoRA on the explained model's own backbone: one set of backbone weights in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from explainer.explained import ExplainedModel, TokenBatch
from explainer.explained.pretrained import quiet
from explainer.explained.weights import Shapes
from explainer.explainers.backbone import AbstractBackboneExplainer
from explainer.extras import OptionalModule
from explainer.typing import Embeddings

peft = OptionalModule("peft")


class LoraExplainer(AbstractBackboneExplainer):
    """LoRA matrices (Hu et al. 2022) in every linear layer of the explained backbone, switched on only here.

    Outside this explainer's own pass the adapters are off, so the explained model's logits stay what they were, to
    the bit.

    Args:
        rank: of the LoRA matrices.
        alpha: their scale; alpha / rank multiplies the update.
        dropout: on the adapters' input, in training.
    """

    kind: ClassVar[str] = "lora"
    edits_explained: ClassVar[bool] = True

    def __init__(self, explained: ExplainedModel, rank: int = 16, alpha: int = 32, dropout: float = 0.0) -> None:
        super().__init__(explained, rank=rank, alpha=alpha, dropout=dropout)
        if any(isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer) for module in explained.modules()):
            raise ValueError("`explained` carries adapters already: load it once more for another LoRA explainer.")
        modules = dict(explained.backbone.named_modules())
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules="all-linear",
            exclude_modules=_not_adapted(modules) or None,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in modules.values()),
        )
        with quiet():
            peft.inject_adapter_in_model(config, explained.backbone)
        _switch(explained, on=False)

    @classmethod
    def sizes(cls, shapes: Shapes) -> dict[str, int | None]:
        # The LoRA of a layer of experts is as many times wider as there are experts.
        return {"rank": min((shape[0] for name, shape in shapes.items() if ".lora_A." in name), default=None)}

    def backbone(self, explained: ExplainedModel) -> PreTrainedModel:
        return explained.backbone

    def hidden_states(self, explained: ExplainedModel, batch: TokenBatch, edit: Any) -> Embeddings:
        with self._adapters(explained):
            return super().hidden_states(explained, batch, edit)

    def trained(self, explained: ExplainedModel) -> dict[str, nn.Parameter]:
        adapters = {f"backbone.{n}": p for n, p in explained.backbone.named_parameters() if ".lora_" in n}
        return super().trained(explained) | adapters

    @contextmanager
    def _adapters(self, explained: ExplainedModel) -> Iterator[None]:
        # The explained model stays in eval mode for good; its adapters follow the explainer's mode.
        for name, module in explained.backbone.named_modules():
            if name.endswith("lora_dropout.default"):
                module.train(self.training)
        _switch(explained, on=True)
        plain = self.training or torch.is_grad_enabled() or torch.is_autocast_enabled(explained.device.type)
        compiled = any(layer._compiled_call_impl is not None for layer in explained.backbone.modules())  # fuses itself
        fused = [] if plain or compiled else _fusable(explained)
        for layer in fused:
            layer.forward = partial(_fused, layer)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for layer in fused:
                del layer.forward
            _switch(explained, on=False)


def _not_adapted(modules: dict[str, nn.Module]) -> list[str]:
    """The pooler, which the explainer does not read, and a family's own linear layers: routers, which give tuples."""
    linear = {name: type(module) for name, module in modules.items() if isinstance(module, nn.Linear)}
    own = [name for name, kind in linear.items() if kind.__module__.startswith("transformers.models.")]
    return [*own, *(["pooler.dense"] if "pooler.dense" in modules else [])]


def _fusable(explained: ExplainedModel) -> list[Any]:
    layers = [module for module in explained.backbone.modules() if isinstance(module, peft.tuners.lora.Linear)]
    return [layer for layer in layers if isinstance(layer.base_layer, nn.Linear) and _one_dtype(layer)]


def _one_dtype(layer: Any) -> bool:
    """Adapters may be kept in float32 on a half-precision backbone: PEFT's own layer casts there."""
    return len({parameter.dtype for parameter in layer.parameters()}) == 1


def _fused(layer: Any, x: Tensor) -> Tensor:
    """W x + b + (alpha / rank) B A x, the update added in place: what a LoRA layer computes, without copies."""
    down, up = (cast(nn.Linear, half["default"]).weight for half in (layer.lora_A, layer.lora_B))
    y = layer.base_layer(x)
    y.view(-1, y.shape[-1]).addmm_(F.linear(x, down).view(-1, len(down)), up.T, alpha=layer.scaling["default"])
    return y


def _switch(explained: ExplainedModel, on: bool) -> None:
    for module in explained.modules():
        if isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer):
            # Not `enable_adapters`: that also turns requires_grad off, and the backward pass comes after the block.
            module._disable_adapters = not on
