"""The attention of reference inputs, collected once through the attention seam and kept on disk.

A reference input is a text whose scorable tokens are replaced by the baseline token: all of them (variant 0), or a
random subset of random size (the others). Maps are stored as logarithms in float16, minus infinity where the layer's
mask lets nothing through; `CHUNK` texts a file, of which batches read what they need.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from rich.progress import track
from safetensors import safe_open
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, edit_attention_maps
from explainer.explained.batch import collate, pad
from explainer.explained.passes import token_budgeted
from explainer.explained.upper_layers import LayerMaps
from explainer.methods.random import generator_of
from explainer.methods.rpi.diffusion.attention import logarithms
from explainer.storage.cache import Cache, cache_folder
from explainer.typing import Logits, TokenMask

CHUNK = 128


@dataclass(frozen=True, eq=False)
class ReferenceMaps:
    """Reference inputs of some texts, right-padded.

    `logs`: log-attention, minus infinity where not valid. `replaced`: which tokens are the baseline token.
    `logits`: the model's word on the reference input.
    """

    logs: Float[Tensor, "batch layers heads seq seq"]
    replaced: Bool[Tensor, "batch seq"]
    logits: Logits

    @property
    def valid(self) -> Bool[Tensor, "batch layers seq seq"]:
        return self.logs[:, :, 0].isfinite()

    def to(self, device: torch.device) -> "ReferenceMaps":
        return ReferenceMaps(self.logs.to(device), self.replaced.to(device), self.logits.to(device))


class AttentionStore:
    """Maps of some layers on the reference inputs of a split's texts.

    Args:
        layers: indices of the blocks, from the lowest up.
        n_variants: reference inputs a text: 1 for all tokens replaced alone.
        seed: of the subsets, which depend on the text's own tokens beside it.
        folder: where the files are; that of `explainer.storage.cache` by default.
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
        cache = Cache.of(explained, folder or cache_folder(), kind="attention", layers=list(layers))
        cache = Cache(cache.folder, {**cache.key, "n_variants": n_variants, "seed": seed})
        self._files: list[Any] = []
        for start in track(range(0, len(texts), CHUNK), "attention"):
            part = texts[start : start + CHUNK]
            path = cache.path(part)
            assert path is not None
            if not path.exists():
                cache(part, functools.partial(_collected, explained, part, layers, n_variants, seed))
            self._files.append(safe_open(path, "pt"))

    def __call__(self, index: Sequence[int], variant: int) -> ReferenceMaps:
        """One variant of some texts, on the CPU."""
        rows = [self._read(i, variant) for i in index]
        longest = max(logs.shape[-1] for logs, _, _ in rows)
        logs = [F.pad(logs, (0, longest - logs.shape[-1]) * 2, value=-torch.inf).float() for logs, _, _ in rows]
        replaced = pad([mask for _, mask, _ in rows], False)
        return ReferenceMaps(torch.stack(logs), replaced, torch.stack([logits for _, _, logits in rows]))

    def _read(self, i: int, variant: int) -> tuple[Tensor, Tensor, Tensor]:
        file, name = self._files[i // CHUNK], f"{i % CHUNK}.{variant}"
        return file.get_tensor(f"{name}.logs"), file.get_tensor(f"{name}.replaced"), file.get_tensor(f"{name}.logits")


def replaced_of(text: EncodedText, variant: int, seed: int) -> TokenMask:
    """All scorable tokens (variant 0), or a random subset of them."""
    if variant == 0:
        return text.scorable
    generator = generator_of(text.tokens, (seed << 16) + variant)
    share = torch.rand((), generator=generator)
    return text.scorable & (torch.rand(len(text), generator=generator) < share)


@torch.no_grad()
def _collected(
    explained: ExplainedModel, texts: Sequence[EncodedText], layers: Sequence[int], n_variants: int, seed: int
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    rows = [(i, variant) for i in range(len(texts)) for variant in range(n_variants)]
    for chunk in token_budgeted([len(texts[i]) for i, _ in rows], explained.batch_tokens):
        names = [rows[j] for j in chunk]
        masks = [replaced_of(texts[i], variant, seed) for i, variant in names]
        tokens = [
            texts[i].tokens.replaced(mask, explained.baseline_token_id)
            for (i, _), mask in zip(names, masks, strict=True)
        ]
        batch = collate(tokens, masks, pad_token_id=explained.tokenizer.pad_token_id).to(explained.device)
        read = LayerMaps(explained, layers)
        with edit_attention_maps(explained.model, read):
            logits = explained(batch)
        for j, (i, variant) in enumerate(names):
            maps = read.maps[:, j, :, : len(texts[i]), : len(texts[i])].float()
            there = (maps != 0).any(dim=1, keepdim=True)
            logs = logarithms(maps).masked_fill(~there, -torch.inf)
            values = {"logs": logs.half(), "replaced": masks[j], "logits": logits[j].float()}
            found |= {f"{i}.{variant}.{key}": value.cpu().contiguous().clone() for key, value in values.items()}
    return found
