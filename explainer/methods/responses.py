"""Any method on responses: the scores of their sources, less those for the foil where there is one."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from explainer.explained import EncodedText, ExplainedModel, ExplainedResponse, Target, responses_target
from explainer.methods.base import AbstractBatchMethod, AbstractMethod
from explainer.methods.trained.amortized import Amortized
from explainer.rendering.progress import track
from explainer.typing import RaggedScores


class ScoredResponse(NamedTuple):
    """The scores of a response's sources, in their order, and ln p of its target (without the foil), in nats."""

    scores: list[float]
    log_probability: float


def attribute_responses(
    method: AbstractMethod,
    explained: ExplainedModel,
    responses: Sequence[ExplainedResponse],
    progress: str | None = None,
) -> list[list[float]]:
    """The score of each source of each response; a source's score is the sum of its tokens'.

    A foil is another sequence. Its scores are computed by themselves and subtracted; of every method that is linear in
    the explained number that is the explanation of the difference.

    Args:
        responses: of one `score`.
        progress: the description of a progress bar; no bar when None.

    Raises:
        ValueError: when the responses do not share a score, a logit or a score is NaN or infinite, or a trained
            explainer is asked for a foil.
    """
    texts, target = [one.text for one in responses], responses_target(responses) if responses else None
    rows = [] if target is None else method.attribute(explained, texts, target, progress).scores
    return _less_foils(method, explained, responses, rows, progress)


def explain_responses(
    method: AbstractMethod,
    explained: ExplainedModel,
    responses: Sequence[ExplainedResponse],
    progress: str | None = None,
) -> list[ScoredResponse]:
    """The scores of `attribute_responses` and the log-probability of each target; scores may differ between responses.

    A method that reads the model's own pass, such as a trained explainer, gives both from one pass.

    Raises:
        ValueError: when a logit or a score is NaN or infinite, or a trained explainer is asked for a foil.
    """
    found: dict[int, ScoredResponse] = {}
    for score in dict.fromkeys(one.score for one in responses):
        places = [i for i, one in enumerate(responses) if one.score == score]
        own = [responses[i] for i in places]
        rows, values = _read(method, explained, [one.text for one in own], responses_target(own), progress)
        scores = _less_foils(method, explained, own, rows, progress)
        found |= dict(zip(places, map(ScoredResponse, scores, values), strict=True))
    return [found[i] for i in range(len(responses))]


def _read(
    method: AbstractMethod,
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target,
    progress: str | None,
) -> tuple[RaggedScores, list[float]]:
    """The scores of the tokens, and ln p of each target."""
    if not isinstance(method, AbstractBatchMethod):
        values = explained.evaluate([text.tokens for text in texts], target).log_probability
        assert values is not None
        return method.attribute(explained, texts, target, progress).scores, values.tolist()
    scores = [torch.empty(0)] * len(texts)
    log_probabilities = [0.0] * len(texts)
    for chunk in track(explained.batches(texts), progress):
        # A batch at a time, so that the logits of a whole vocabulary are never in memory for all texts at once.
        readout, (attributions,) = method.explain(explained, [texts[i] for i in chunk], [target[chunk]])
        of_chunk = readout.log_probability(target[chunk]).tolist()
        for i, row, value in zip(chunk, attributions.scores, of_chunk, strict=True):
            scores[i], log_probabilities[i] = row, value
    return scores, log_probabilities


def _less_foils(
    method: AbstractMethod,
    explained: ExplainedModel,
    responses: Sequence[ExplainedResponse],
    rows: RaggedScores,
    progress: str | None,
) -> list[list[float]]:
    """The scores of the sources, less those of the foils.

    Raises:
        ValueError: when there is a foil, and the method's scores for two responses have no common unit.
    """
    scores = [one.source_scores(row) for one, row in zip(responses, rows, strict=True)]
    with_foil = [(i, one.foil) for i, one in enumerate(responses) if one.foil is not None]
    if not with_foil:
        return scores
    if isinstance(method, Amortized):
        raise ValueError(
            "`foil` needs scores in units, and a trained explainer's compare the sources of one response with each "
            "other: take a method without training, such as `attn_lrp` or `leave_one_out`."
        )
    foils = [foil for _, foil in with_foil]
    others = method.attribute(explained, [foil.text for foil in foils], responses_target(foils), progress).scores
    for (i, foil), row in zip(with_foil, others, strict=True):
        scores[i] = [mine - other for mine, other in zip(scores[i], foil.source_scores(row), strict=True)]
    return scores
