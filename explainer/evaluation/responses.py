"""Compare methods on the same responses of a language model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from explainer.evaluation.comparison import AbstractComparison
from explainer.explained import EncodedText, ExplainedModel, ExplainedResponse, Target
from explainer.faithfulness.perturbation import Operator, check_operator
from explainer.faithfulness.responses import (
    HIGHER_IS_BETTER,
    N_MASKS,
    check_response_metrics,
    datamodel_values,
    responses_faithfulness,
)
from explainer.methods.base import AbstractMethod, AbstractTextMethod, from_units
from explainer.methods.random import generator_of
from explainer.methods.responses import attribute_responses
from explainer.scored_text import Caption, ScoredText
from explainer.storage.cache import Cache, listed, numbered
from explainer.typing import RaggedScores

METRICS = ("drop_at_1", "drop_at_3", "lds_bernoulli", "rise", "mas")
"""The metrics of the table unless others are wanted, besides the linear datamodelling score."""


@dataclass(frozen=True)
class Constant(AbstractTextMethod):
    """The same score for every source: the control of `lds_bernoulli`, which rewards scores for being positive."""

    name: ClassVar[str] = "constant"

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        return [from_units(text, text.unit_masks, torch.ones(len(text.unit_masks))) for text in texts]

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


class ResponseComparison(AbstractComparison[Sequence[ExplainedResponse]]):
    """A comparison on responses: scores of the prompt's sources, by the metrics of `faithfulness.responses`.

    The one number is `lds`. The masks of a response are drawn by `seed` and its own tokens, the same for every method.
    Methods that take sources away explain the log-probability; gradients, relevance and the others the responses' own
    `score`. A row `constant` is always there.

    Args:
        methods: as of `AbstractComparison`; so are `ours`, `cache` and `keep`.
        metrics: names of `RESPONSE_METRICS`; `lds` is always among them.
        operator: what is done to the tokens of sources that are taken away; RISE and MAS put end-of-text tokens there.
        n_masks: of each linear datamodelling score.
        seed: of the masks.

    Raises:
        ValueError: when there is no such metric or operator.
    """

    summary = "lds"
    noun = "response"
    removed = "Sources"
    short: ClassVar[Mapping[str, str]] = {
        **{f"{kind}_at_{k}": f"{kind}@{k}" for kind in ("drop", "gain") for k in (1, 3, 5)},
        "lds": "LDS",
        "lds_bernoulli": "Bernoulli LDS",
        "rise": "RISE",
        "mas": "MAS",
    }
    passes = 40.0

    def __init__(
        self,
        methods: Mapping[str, AbstractMethod],
        ours: str | None = None,
        metrics: Sequence[str] | None = None,
        cache: Cache | None = None,
        keep: int = 0,
        operator: Operator = "delete",
        n_masks: int = N_MASKS,
        seed: int = 0,
    ) -> None:
        check_response_metrics(metrics or ())
        check_operator(operator)
        super().__init__({"constant": Constant(), **methods}, ours, cache, keep)
        self.operator, self.n_masks, self.seed = operator, n_masks, seed
        wanted = METRICS if metrics is None else tuple(metrics)
        self._metrics = (*(metric for metric in dict.fromkeys(wanted) if metric != self.summary), self.summary)
        self._datamodels: tuple[Sequence[ExplainedResponse], list[Tensor]] | None = None  # of the last responses

    def metrics(self, explained: ExplainedModel) -> tuple[str, ...]:
        return self._metrics

    def texts(self, items: Sequence[ExplainedResponse]) -> Sequence[EncodedText]:
        return [one.text for one in items] + [one.foil.text for one in items if one.foil is not None]

    def costs(self, method: AbstractMethod, items: Sequence[ExplainedResponse]) -> list[float]:
        return [(1 if one.foil is None else 2) * method.forward_equivalents(len(one.sources)) for one in items]

    def scores(
        self, method: AbstractMethod, explained: ExplainedModel, items: Sequence[ExplainedResponse]
    ) -> RaggedScores:
        scores = attribute_responses(method, explained, _asked(method, items))
        return [torch.tensor(own, dtype=torch.float64) for own in scores]

    def values(
        self, explained: ExplainedModel, items: Sequence[ExplainedResponse], scores: RaggedScores
    ) -> dict[str, Tensor]:
        found = responses_faithfulness(
            explained,
            items,
            [own.tolist() for own in scores],
            operator=self.operator,
            n_masks=self.n_masks,
            seeds=self._seeds(items),
            datamodels=self._of_datamodels(explained, items),
        )
        return {
            metric: torch.tensor([own[metric] for own in found], dtype=torch.float64)
            for metric in HIGHER_IS_BETTER  # all of them: another table of the same scores computes nothing
        }

    def key(self, method: AbstractMethod, items: Sequence[ExplainedResponse]) -> dict[str, Any]:
        return {"target": [one.target.key for one in _asked(method, items)], **_foils(items)}

    def values_key(self, explained: ExplainedModel) -> dict[str, Any]:
        return {"metrics": "responses", "operator": self.operator, "n_masks": self.n_masks, "seed": self.seed}

    @property
    def operators(self) -> dict[str, str]:
        return {metric: "end_of_text" if metric in ("rise", "mas") else self.operator for metric in self.columns}

    @property
    def meaning(self) -> str:
        return (
            "LDS: the rank correlation, over masks that keep half of the sources, of the response's log-probability "
            "with the sum of the kept sources' scores. Drops are in nats."
        )

    def higher_is_better(self, metric: str) -> bool:
        return HIGHER_IS_BETTER[metric]

    def _seeds(self, items: Sequence[ExplainedResponse]) -> list[int]:
        drawn = [torch.randint(2**31, (), generator=generator_of(one.text.tokens, self.seed)) for one in items]
        return [int(seed) for seed in drawn]

    def _of_datamodels(self, explained: ExplainedModel, items: Sequence[ExplainedResponse]) -> list[Tensor]:
        """What the model says under the masks, computed once for all methods."""
        if self._datamodels is None or self._datamodels[0] is not items:

            def compute() -> dict[str, Tensor]:
                options: dict[str, Any] = {"operator": self.operator, "n_masks": self.n_masks}
                return numbered(datamodel_values(explained, items, seeds=self._seeds(items), **options))

            key = {**self.values_key(explained), "target": [one.target.plain.key for one in items]}
            stored = self.cache(self.texts(items), compute, kind="datamodels", **key, **_foils(items))
            self._datamodels = items, listed(stored)
        return self._datamodels[1]


def _asked(method: AbstractMethod, items: Sequence[ExplainedResponse]) -> list[ExplainedResponse]:
    """The responses as the method is asked for them: with the log-probability where it takes sources away."""
    return [one if method.operator is None else replace(one, score="log_prob") for one in items]


def _foils(items: Sequence[ExplainedResponse]) -> dict[str, Any]:
    return {"foils": [None if one.foil is None else one.foil.target_ids for one in items]}


@dataclass(frozen=True, kw_only=True)
class ScoredPrompt(ScoredText):
    """A prompt with the scores of its sources; the template around the first and the last of them is left out.

    Attributes:
        response: the explained part of the response.
        method: name of the method.
    """

    response: str
    method: str

    @classmethod
    def of(cls, explained: ExplainedModel, response: ExplainedResponse, scores: Tensor, method: str) -> "ScoredPrompt":
        """The prompt with `scores` of its sources."""
        text = response.text
        places = text.scorable.nonzero()[:, 0].tolist()
        part = slice(places[0], places[-1] + 1)
        start, end = text.offsets[places[0]][0], text.offsets[places[-1]][1]
        return cls(
            text=text.text[start:end],
            text_pair=None,
            tokens=list(explained.tokenizer.convert_ids_to_tokens(text.tokens.input_ids[part].tolist())),
            offsets=[(max(a - start, 0), max(b - start, 0)) for a, b in text.offsets[part]],
            scorable=text.scorable[part].tolist(),
            words_of_tokens=list(text.words[part]),
            segments=list(text.segments[part]),
            scores=from_units(text, response.source_masks, scores)[part].tolist(),
            units_of_tokens=None if text.units is None else list(text.units[part]),
            response=response.response[slice(*response.characters)],
            method=method,
        )

    @property
    def caption(self) -> Caption:
        return Caption(target=self.response, headline=self.response, method=self.method, kind="response")


def scored_prompts(
    explained: ExplainedModel, comparison: ResponseComparison, items: Sequence[ExplainedResponse]
) -> list[dict[str, ScoredPrompt]]:
    """The first responses by every method, to be shown."""
    return [
        {label: ScoredPrompt.of(explained, items[i], row.scores[i], label) for label, row in comparison.rows.items()}
        for i in range(min(comparison.keep, len(items)))
    ]
