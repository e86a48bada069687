"""Any method on responses: the scores of their sources, less those for the foil where there is one."""

from collections.abc import Sequence

from explainer.explained import ExplainedModel, ExplainedResponse, responses_target
from explainer.methods.base import AbstractMethod
from explainer.typing import RaggedScores


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
        ValueError: when the responses do not share a score, or a logit or a score is NaN or infinite.
    """
    scores = [
        one.source_scores(row)
        for one, row in zip(responses, _scores(method, explained, responses, progress), strict=True)
    ]
    with_foil = [i for i, one in enumerate(responses) if one.foil is not None]
    foils = [one.foil for one in responses if one.foil is not None]
    for i, foil, row in zip(with_foil, foils, _scores(method, explained, foils, progress), strict=True):
        scores[i] = [mine - other for mine, other in zip(scores[i], foil.source_scores(row), strict=True)]
    return scores


def _scores(
    method: AbstractMethod, explained: ExplainedModel, responses: Sequence[ExplainedResponse], progress: str | None
) -> RaggedScores:
    if not responses:
        return []
    texts = [one.text for one in responses]
    return method.attribute(explained, texts, responses_target(responses), progress).scores
