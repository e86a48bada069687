"""The attention of reference inputs, collected once and kept on disk.

A reference input is a text whose scorable tokens are replaced by the baseline token: all of them (variant 0), or a
random subset of random size (the other variants). Attention is stored as logarithms in float16, minus infinity where
the layer's mask lets nothing through. A file holds `CHUNK` texts; a batch reads only what it needs of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors import safe_open
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Readout, TokenBatch, edit_attention_weights
from explainer.explained.batch import collate, pad
from explainer.explained.readout import Link
from explainer.explained.upper_layers import LayerAttention
from explainer.methods.random import generator_of
from explainer.methods.rpi.diffusion.attention import FLOOR, centred, logarithms
from explainer.methods.subset_regression import SubsetEffects
from explainer.rendering.progress import track
from explainer.storage.cache import Cache, cache_folder
from explainer.typing import TokenMask
from lightning_modules.processes import own_first, shown

CHUNK = 128
"""Texts per file."""


@dataclass(frozen=True, eq=False)
class ReferenceAttention:
    """The attention on the reference inputs of some texts, right-padded.

    Attributes:
        logs: log-attention, minus infinity where not valid.
        replaced: the tokens that are the baseline token.
        readout: the explained model's answer to the reference input.
    """

    logs: Float[Tensor, "batch layers heads seq seq"]
    replaced: Bool[Tensor, "batch seq"]
    readout: Readout

    @property
    def valid(self) -> Bool[Tensor, "batch layers seq seq"]:
        return self.logs[:, :, 0].isfinite()

    def to(self, device: torch.device) -> "ReferenceAttention":
        return ReferenceAttention(self.logs.to(device), self.replaced.to(device), self.readout.to(device))


class AttentionStore:
    """Attention of some layers on the reference inputs of a split's texts.

    Args:
        layers: indices of the blocks, from the lowest up.
        n_variants: reference inputs per text; 1 for the one with all tokens replaced.
        seed: of the random subsets, which also depend on the text's own tokens.
        folder: of the files; that of `explainer.storage.cache` by default.
    """

    def __init__(
        self,
        explained: ExplainedModel,
        texts: Sequence[EncodedText],
        layers: Sequence[int],
        n_variants: int,
        seed: int = 0,
        folder: Path | None = None,
    ) -> None:
        self.texts, self.n_variants = texts, n_variants
        self._link: Link = explained.task.link
        cache = Cache.of(explained, folder or cache_folder(), kind="attention", layers=list(layers))
        key = {"n_variants": n_variants, "seed": seed}
        starts = range(0, len(texts), CHUNK)
        files: dict[int, Any] = {}
        for start in track(own_first(starts), shown("attention")):
            part = texts[start : start + CHUNK]
            path = cache.path(part, **key)
            assert path is not None
            cache.fill(part, partial(_collected, explained, part, layers, n_variants, seed), **key)
            files[start] = safe_open(path, "pt")
        self._files = [files[start] for start in starts]

    def __call__(self, index: Sequence[int], variant: int) -> ReferenceAttention:
        """One variant of some texts, on the CPU."""
        stored = [self._read(i, variant) for i in index]
        longest = max(logs.shape[-1] for logs, _, _ in stored)
        logs = [F.pad(logs, (0, longest - logs.shape[-1]) * 2, value=-torch.inf).float() for logs, _, _ in stored]
        replaced = pad([mask for _, mask, _ in stored], False)
        readout = Readout(torch.stack([logits for _, _, logits in stored]), self._link)
        return ReferenceAttention(torch.stack(logs), replaced, readout)

    def _read(self, i: int, variant: int) -> tuple[Tensor, Tensor, Tensor]:
        file, name = self._files[i // CHUNK], f"{i % CHUNK}.{variant}"
        return file.get_tensor(f"{name}.logs"), file.get_tensor(f"{name}.replaced"), file.get_tensor(f"{name}.logits")


@dataclass(frozen=True, eq=False)
class ReferenceBatch:
    """The texts of one step of a baseline's training.

    Attributes:
        tokens: the texts as the explained model reads them.
        index: their places in the split.
        store: where the attention of their reference inputs is read.
        effects: of their subsets; none where no loss needs them.
    """

    tokens: TokenBatch
    index: list[int]
    store: AttentionStore
    effects: Sequence[SubsetEffects]

    def __len__(self) -> int:
        return len(self.index)

    def reference(self, variant: int) -> ReferenceAttention:
        """The attention of one reference input of each text, read now: a step needs few of the variants."""
        return self.store(self.index, variant).to(self.tokens.device)

    def to(self, device: torch.device, **kwargs: object) -> "ReferenceBatch":
        """The batch on another device; called by Lightning."""
        return ReferenceBatch(self.tokens.to(device), self.index, self.store, self.effects)


@dataclass(frozen=True, eq=False)
class ReferenceAnnotations:
    """A split's texts with the attention of their reference inputs; the loader takes its batches from here."""

    explained: ExplainedModel
    texts: Sequence[EncodedText]
    store: AttentionStore
    effects: Sequence[SubsetEffects] = ()

    def batch(self, index: list[int]) -> ReferenceBatch:
        """The texts of these places in the split."""
        tokens = self.explained.collate([self.texts[i] for i in index])
        return ReferenceBatch(tokens, index, self.store, [self.effects[i] for i in index] if self.effects else ())


def replaced_of(text: EncodedText, variant: int, seed: int) -> TokenMask:
    """All scorable tokens (variant 0), or a random subset of them."""
    if variant == 0:
        return text.scorable
    generator = generator_of(text.tokens, (seed << 16) + variant)
    share = torch.rand((), generator=generator)
    return text.scorable & (torch.rand(len(text), generator=generator) < share)


def scale_of(reference: ReferenceAttention) -> Float[Tensor, "layers heads 1 1"]:
    """The standard deviation of centred log-attention per head; 1 where a head has none."""
    valid = reference.valid[:, :, None].expand_as(reference.logs)
    squared = centred(reference.logs.clamp(min=math.log(FLOOR)), reference.valid).square().sum(dim=(0, 3, 4))
    deviation = (squared / valid.sum(dim=(0, 3, 4)).clamp(min=1)).sqrt()
    return torch.where(deviation > 0, deviation, 1.0)[..., None, None]


@torch.no_grad()
def _collected(
    explained: ExplainedModel, texts: Sequence[EncodedText], layers: Sequence[int], n_variants: int, seed: int
) -> dict[str, Tensor]:
    """The contents of one file: three tensors per text and variant, named by the text's place and the variant."""
    stored: dict[str, Tensor] = {}
    inputs = [(i, variant) for i in range(len(texts)) for variant in range(n_variants)]
    for chunk in explained.batches([texts[i] for i, _ in inputs]):
        names = [inputs[j] for j in chunk]
        masks = [replaced_of(texts[i], variant, seed) for i, variant in names]
        tokens = [
            texts[i].tokens.replaced(mask, explained.baseline_token_id)
            for (i, _), mask in zip(names, masks, strict=True)
        ]
        batch = collate(tokens, masks, pad_token_id=explained.tokenizer.pad_token_id).to(explained.device)
        recorded = LayerAttention(explained, layers)
        with edit_attention_weights(explained.model, recorded):
            readout = explained(batch)
        for j, (i, variant) in enumerate(names):
            attention = recorded.attention[:, j, :, : len(texts[i]), : len(texts[i])].float()
            valid = (attention != 0).any(dim=1, keepdim=True)
            logs = logarithms(attention).masked_fill(~valid, -torch.inf)
            values = {"logs": logs.half(), "replaced": masks[j], "logits": readout.logits[j].float()}
            stored |= {f"{i}.{variant}.{key}": value.cpu().contiguous().clone() for key, value in values.items()}
    return stored
