"""Predictions, teachers' scores and subset effects of a split, computed once and kept on disk.

An interrupted computation resumes after the last finished file of `CHUNK` texts. The processes of a run on several
devices share the work by the same files.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, ExplainedResponse, Readout, Target, generate_responses
from explainer.explained.prompt import Prompt
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.responses import Ablations, ablations
from explainer.methods import AbstractMethod
from explainer.methods.subset_regression import SubsetEffects, SubsetRegression
from explainer.rendering.progress import track
from explainer.storage.cache import Cache, cache_folder, listed, numbered
from lightning_modules.processes import own_first, shown

CHUNK = 512
"""Texts per file."""

RESPONSES = 64
"""Responses per file: each takes a hundred passes."""


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


def cached_responses(
    explained: ExplainedModel, prompts: Sequence[Prompt], generate: dict[str, Any]
) -> list[tuple[int, ...]]:
    """The tokens that the model answers to each prompt; () where it says nothing."""

    def compute(part: slice) -> list[Tensor]:
        return [torch.tensor(ids, dtype=torch.int64) for ids in generate_responses(explained, prompts[part], generate)]

    def key(part: slice) -> dict[str, Any]:
        return {"kind": "responses", "prompts": prompts[part], "generate": generate}

    stored = _chunked(explained, len(prompts), RESPONSES, lambda part: (), key, compute, "responses")
    return [tuple(ids.tolist()) for ids in stored]


def cached_ablations(
    explained: ExplainedModel, responses: Sequence[ExplainedResponse], operator: Operator, n_masks: int
) -> list[Ablations]:
    """What the model says of each response's tokens while sources are taken away."""

    def compute(part: slice) -> list[Tensor]:
        made = ablations(explained, responses[part], operator, n_masks)
        return [torch.cat([one.kinds[:, None].float(), one.kept.float(), one.log_probabilities], dim=1) for one in made]

    def key(part: slice) -> dict[str, Any]:
        return {"kind": "ablations", "operator": operator, "n_masks": n_masks}

    texts = [one.text for one in responses]
    stored = _chunked(explained, len(texts), RESPONSES, lambda part: texts[part], key, compute, "ablations")
    made = []
    for one, rows in zip(responses, stored, strict=True):
        kinds, kept, values = rows.split([1, len(one.sources), len(one.target_ids)], dim=1)
        made.append(Ablations(kept.bool(), kinds[:, 0].long(), values))
    return made


def _in_chunks(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target | None,
    settings: dict[str, Any],
    compute: Callable[[slice], list[Tensor]],
    description: str,
) -> list[Tensor]:
    """One tensor per text, of texts that are explained for a target."""

    def key(part: slice) -> dict[str, Any]:
        return {"settings": settings, "target": None if target is None else target[part].key}

    return _chunked(explained, len(texts), CHUNK, lambda part: texts[part], key, compute, description)


def _chunked(
    explained: ExplainedModel,
    n: int,
    size: int,
    texts: Callable[[slice], Sequence[EncodedText]],
    key: Callable[[slice], dict[str, Any]],
    compute: Callable[[slice], list[Tensor]],
    description: str,
) -> list[Tensor]:
    """`n` tensors; those of a chunk of `size` come from its file, or from `compute` where there is none yet."""
    cache, values = Cache.of(explained, cache_folder()), dict[int, list[Tensor]]()
    starts = range(0, n, size)
    for start in track(own_first(starts), shown(description)):
        part = slice(start, start + size)
        values[start] = listed(cache(texts(part), partial(_numbered, compute, part), **key(part)))
    return [value for start in starts for value in values[start]]


def _numbered(compute: Callable[[slice], list[Tensor]], part: slice) -> dict[str, Tensor]:
    return numbered(compute(part))
