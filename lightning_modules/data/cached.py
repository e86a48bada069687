"""Predictions, teachers' scores and subset effects of a split, computed once and kept on disk.

An interrupted computation resumes after the last finished file of `CHUNK` texts. The processes of a run on several
devices share the work by the same files.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Readout, Target
from explainer.methods import AbstractMethod
from explainer.methods.subset_regression import SubsetEffects, SubsetRegression
from explainer.rendering.progress import track
from explainer.storage.cache import Cache, cache_folder, listed, numbered
from lightning_modules.processes import own_first, shown

CHUNK = 512
"""Texts per file."""


def cached_predictions(explained: ExplainedModel, texts: Sequence[EncodedText]) -> Readout:
    """The explained model's answer to every text."""

    def compute(part: slice) -> list[Tensor]:
        return list(explained.predict([text.tokens for text in texts[part]]).logits)

    logits = _in_chunks(explained, texts, None, {"kind": "predictions"}, compute, "predictions")
    return Readout(torch.stack(logits), explained.task.link)


def cached_scores(
    method: AbstractMethod, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, label: str
) -> list[Tensor]:
    """The scores (tokens,) that a method gives each text for its target.

    Args:
        label: of the method, for the progress bar.
    """

    def compute(part: slice) -> list[Tensor]:
        return list(method.attribute(explained, texts[part], target[part], progress=shown(label)).scores)

    return _in_chunks(explained, texts, target, method.settings, compute, label)


def cached_effects(
    regression: SubsetRegression, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
) -> list[SubsetEffects]:
    """The effects of the subsets of each text on its target, in float32."""

    def compute(part: slice) -> list[Tensor]:
        effects = regression.effects(explained, texts[part], target[part])
        return [torch.cat([effect.design, effect.value[:, None]], dim=1).float() for effect in effects]

    settings = {"kind": "effects", **regression.settings}
    stored = _in_chunks(explained, texts, target, settings, compute, "effects of subsets")
    return [SubsetEffects(both[:, :-1], both[:, -1]) for both in stored]


def _in_chunks(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target | None,
    settings: dict[str, Any],
    compute: Callable[[slice], list[Tensor]],
    description: str,
) -> list[Tensor]:
    """One tensor per text; those of a chunk come from its file, or from `compute` where there is none yet."""
    cache, values = Cache.of(explained, cache_folder()), dict[int, list[Tensor]]()
    starts = range(0, len(texts), CHUNK)
    for start in track(own_first(starts), shown(description)):
        part = slice(start, start + CHUNK)
        key = {"settings": settings, "target": None if target is None else target[part].key}
        values[start] = listed(cache(texts[part], partial(_numbered, compute, part), **key))
    return [value for start in starts for value in values[start]]


def _numbered(compute: Callable[[slice], list[Tensor]], part: slice) -> dict[str, Tensor]:
    return numbered(compute(part))
