"""The AOPC of a ranking, and the lowest and highest AOPC that any order of the text's tokens reaches.

Edin et al., Normalized AOPC, ACL 2025. With the tokens of an order replaced one after the other by the baseline token,

    AOPC(order) = 1/n * sum_{k=1..n} [p(whole text) - p(first k replaced)]

Beam search looks for the extremes over all n! orders. The rest of a sum depends on the set replaced so far, not on its
order, so a beam holds sets, each with the best sum of an order of it. The search is exact when the beam is as wide as
there are sets of one size. Tokens can be taken out by any other operator instead.

Comprehensiveness and sufficiency are bounded together by `best_ranking`: one ranking per text, searched for

    sum over percents of p(only the top k) - p(without the top k),

which is six times AOPC-comprehensiveness minus AOPC-sufficiency. A ranking counts through the sets of its k highest
tokens alone. The search adds the token with the best next set, then swaps tokens between sets while that helps. What it
finds is a lower limit of the best ranking's value.
"""

import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target, Tokens
from explainer.faithfulness.curves import PERCENTS, Percents, top_count
from explainer.faithfulness.perturbation import Operator, keep, mask_of, perturb, ranked, remove
from explainer.typing import RaggedScores, TokenScores


@dataclass(frozen=True)
class AOPCBounds:
    """The lowest and the highest AOPC per text; they do not depend on any scores."""

    lower: Float[Tensor, " n"]
    upper: Float[Tensor, " n"]


def ranking_aopc(
    explained: ExplainedModel, attributions: Attributions, operator: Operator = "replace"
) -> Float[Tensor, " n"]:
    """The AOPC of taking out token by token from the highest score down; NaN for texts without scorable tokens."""
    sequences: list[Tokens] = []
    for text, scores in zip(attributions.texts, attributions.scores, strict=True):
        order = ranked(scores, text.scorable).tolist()
        steps = range(1, len(order) + 1)
        sequences += [text.tokens, *(_without(text, order[:k], operator, explained.baseline_token_id) for k in steps)]
    counts = [text.n_scorable + 1 for text in attributions.texts]
    probabilities = _probabilities(explained, sequences, attributions.target.repeat_interleave(torch.tensor(counts)))
    return torch.stack([(curve[0] - curve[1:]).mean() for curve in probabilities.split(counts)])


def aopc_bounds(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target,
    beam_width: int = 5,
    operator: Operator = "replace",
) -> AOPCBounds:
    """The extremes of `ranking_aopc` over all orders; every text takes its next step in one pooled prediction.

    About `beam_width` * n^2 forward passes for a text of n tokens. Bounds are kept by text for as long as the explained
    model lives and its weights do not change, so that comparing several methods on the same texts needs one search.

    Args:
        beam_width: sets of tokens kept at each size, for either bound.

    Raises:
        ValueError: when the beam has no width, or the task no probabilities.
    """
    if beam_width < 1:
        raise ValueError(f"`beam_width` must be a positive number of sets, got {beam_width}.")
    kept = _kept_bounds(explained, operator, beam_width)
    keys = [_key(text, choices) for text, choices in zip(texts, target.choices.tolist(), strict=True)]
    missing: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        if key not in kept:
            missing.setdefault(key, place)
    places = list(missing.values())
    searched = _search(explained, [texts[i] for i in places], target[places], beam_width, operator)
    kept.update(zip(missing, searched, strict=True))
    bounds = torch.tensor([kept[key] for key in keys]).view(len(texts), 2)
    return AOPCBounds(bounds[:, 0], bounds[:, 1])


_Bounds = dict[Hashable, tuple[float, float]]
_KEPT: WeakKeyDictionary[ExplainedModel, dict[Hashable, _Bounds]] = WeakKeyDictionary()


def _kept_bounds(explained: ExplainedModel, operator: Operator, beam_width: int) -> _Bounds:
    """The bounds of this model with its present weights, by text and target."""
    # The cascading randomisation changes weights in place. torch counts such changes per tensor.
    weights = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in explained.parameters())
    return _KEPT.setdefault(explained, {}).setdefault((operator, beam_width, weights), {})


def _key(text: EncodedText, choices: list[int]) -> Hashable:
    return text.tokens.key, text.scorable.numpy().tobytes(), tuple(choices)


@dataclass
class _Beam:
    """The search for one bound of one text: `sign` 1 looks for the highest sum of falls, -1 for the lowest.

    `sums` maps a set of tokens that were taken out, a bit each, to the best sum of falls of an order of them.
    """

    place: int
    text: EncodedText
    whole: float
    sign: int
    sums: dict[int, float] = field(default_factory=lambda: {0: 0.0})

    @property
    def complete(self) -> bool:
        return (1 << self.text.n_scorable) - 1 in self.sums

    @property
    def aopc(self) -> float:
        (total,) = self.sums.values()
        return total / self.text.n_scorable if self.text.n_scorable else torch.nan

    def candidates(self) -> dict[int, float]:
        """Every set with one token more, and the best sum before it."""
        sums: dict[int, float] = {}
        for before, total in self.sums.items():
            for bit in range(self.text.n_scorable):
                if not before >> bit & 1:
                    after = before | 1 << bit
                    sums[after] = max(sums.get(after, total), total, key=lambda value: self.sign * value)
        return sums

    def without(self, chosen: int, operator: Operator, baseline_token_id: int) -> Tokens:
        """The text without a set of tokens."""
        positions = self.text.scorable.nonzero()[:, 0].tolist()
        taken = [position for bit, position in enumerate(positions) if chosen >> bit & 1]
        return _without(self.text, taken, operator, baseline_token_id)

    def keep(self, sums: dict[int, float], width: int) -> None:
        self.sums = dict(sorted(sums.items(), key=lambda item: (-self.sign * item[1], item[0]))[:width])


def _search(
    explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, width: int, operator: Operator
) -> list[tuple[float, float]]:
    """The lower and the upper bound per text."""
    whole = _probabilities(explained, [text.tokens for text in texts], target).tolist()
    beams = [_Beam(i, text, p, sign) for i, (text, p) in enumerate(zip(texts, whole, strict=True)) for sign in (-1, 1)]
    for _ in range(max((text.n_scorable for text in texts), default=0)):
        _advance(explained, target, [beam for beam in beams if not beam.complete], width, operator)
    return [(lower.aopc, upper.aopc) for lower, upper in zip(beams[::2], beams[1::2], strict=True)]


def _advance(explained: ExplainedModel, target: Target, beams: Sequence[_Beam], width: int, operator: Operator) -> None:
    """One token more for every beam."""
    candidates = [beam.candidates() for beam in beams]
    sets = [(beam, chosen) for beam, sums in zip(beams, candidates, strict=True) for chosen in sums]
    sequences = [beam.without(chosen, operator, explained.baseline_token_id) for beam, chosen in sets]
    probabilities = iter(_probabilities(explained, sequences, target[[beam.place for beam, _ in sets]]).tolist())
    for beam, sums in zip(beams, candidates, strict=True):
        beam.keep({chosen: total + beam.whole - next(probabilities) for chosen, total in sums.items()}, width)


def best_ranking(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target,
    start: RaggedScores | None = None,
    rounds: int = 200,
    percents: Percents = PERCENTS,
    seed: int = 0,
) -> RaggedScores:
    """Scores whose ranking is searched, text by text, for the highest comprehensiveness minus sufficiency.

    They read the predictions that the metrics read, so they are a bound and no explanation. The search takes about n^2
    forward passes for a text of n tokens, and three for each round.

    Args:
        start: scores whose ranking the swaps start from, where that is better than the greedy one.
        rounds: proposed swaps per text.
        percents: sizes of the sets; tokens are deleted.
        seed: of the swaps.

    Returns:
        Ranks of the scorable tokens: n for the first, down to 1; 0 elsewhere.

    Raises:
        ValueError: when the number of rounds is negative, or the task has no probabilities.
    """
    if rounds < 0:
        raise ValueError(f"`rounds` must not be negative, got {rounds}.")
    searches = [_Ranking(i, text, percents, seed, explained.baseline_token_id) for i, text in enumerate(texts)]

    def measure(sets: Sequence[tuple[_Ranking, int]]) -> None:
        wanted = list(dict.fromkeys((search, chosen) for search, chosen in sets if chosen not in search.gains))
        sequences = [tokens for search, chosen in wanted for tokens in search.without_and_alone(chosen)]
        rows = [search.place for search, _ in wanted for _ in range(2)]
        probabilities = _probabilities(explained, sequences, target[rows]).view(-1, 2)
        for (search, chosen), (without, alone) in zip(wanted, probabilities.tolist(), strict=True):
            search.gains[chosen] = alone - without

    while growing := [search for search in searches if search.growing]:
        measure([(search, chosen) for search in growing for chosen in search.grown.values()])
        for search in growing:
            search.grow()
    for search, scores in zip(searches, start or (), strict=start is not None):
        search.proposed = search.order_of(scores)
    for _ in range(rounds + 1):
        measure([(search, chosen) for search in searches for chosen in search.sets_of(search.proposed)])
        for search in searches:
            search.decide()
    return [search.scores for search in searches]


@dataclass(eq=False)
class _Ranking:
    """The search for the best ranking of one text; a token is a bit, and a set of tokens a number.

    Attributes:
        order: the tokens, the first ranked first; complete once it has stopped growing.
        proposed: the order to be compared with it.
        gains: p(only the set) - p(without the set).
    """

    place: int
    text: EncodedText
    percents: Percents
    seed: int
    baseline_token_id: int
    order: list[int] = field(default_factory=list)
    proposed: list[int] = field(default_factory=list)
    gains: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = [top_count(self.text.n_scorable, percent) for percent in self.percents]
        self.sizes = [k for k in counts if k]
        self.positions = self.text.scorable.nonzero()[:, 0]
        # The same text is searched in the same way wherever it stands.
        self.generator = torch.Generator().manual_seed(zlib.crc32(self.text.tokens.key, self.seed))

    @property
    def growing(self) -> bool:
        """Whether the greedy search has tokens to add; at its end the order is made complete."""
        if len(self.order) < max(self.sizes, default=0):
            return True
        self.order += [token for token in range(self.text.n_scorable) if token not in self.order]
        self.proposed = self.proposed or self.order
        return False

    @property
    def grown(self) -> dict[int, int]:
        """The set after each token that could come next."""
        taken = _as_set(self.order)
        return {token: taken | 1 << token for token in range(self.text.n_scorable) if not taken >> token & 1}

    def grow(self) -> None:
        grown = self.grown
        self.order.append(max(grown, key=lambda token: self.gains[grown[token]]))

    def order_of(self, scores: TokenScores) -> list[int]:
        place = {int(position): token for token, position in enumerate(self.positions)}
        return [place[int(position)] for position in ranked(scores, self.text.scorable)]

    def sets_of(self, order: list[int]) -> list[int]:
        return [_as_set(order[:k]) for k in self.sizes]

    def value_of(self, order: list[int]) -> float:
        return sum((self.gains[one] for one in self.sets_of(order)), 0.0)

    def decide(self) -> None:
        """Keep the better order, and propose a swap of two tokens that changes a set."""
        if self.value_of(self.proposed) > self.value_of(self.order):
            self.order = self.proposed
        if not self.sizes or self.text.n_scorable < 2:
            return
        first = int(torch.randint(max(self.sizes), (), generator=self.generator))
        border = min(k for k in self.sizes if k > first)
        if border == self.text.n_scorable:
            return
        second = int(torch.randint(border, self.text.n_scorable, (), generator=self.generator))
        self.proposed = list(self.order)
        self.proposed[first], self.proposed[second] = self.order[second], self.order[first]

    def without_and_alone(self, chosen: int) -> tuple[Tokens, Tokens]:
        tokens = [token for token in range(self.text.n_scorable) if chosen >> token & 1]
        mask = mask_of(self.positions[tokens], len(self.text))
        return remove(self.text, mask, self.baseline_token_id), keep(self.text, mask, self.baseline_token_id)

    @property
    def scores(self) -> TokenScores:
        ranks = torch.zeros(len(self.text))
        ranks[self.positions[self.order]] = torch.arange(len(self.order), 0, -1).float()
        return ranks


def _as_set(tokens: Sequence[int]) -> int:
    return sum(1 << token for token in tokens)


def _without(text: EncodedText, positions: list[int], operator: Operator, baseline_token_id: int) -> Tokens:
    return perturb(text, mask_of(positions, len(text)), operator, baseline_token_id)


def _probabilities(explained: ExplainedModel, sequences: Sequence[Tokens], target: Target) -> Float[Tensor, " n"]:
    """The probability of each sequence's target.

    Raises:
        ValueError: when the task has none.
    """
    probabilities = explained.evaluate(sequences, target).probability
    if probabilities is None:
        raise ValueError("AOPC bounds are bounds of probabilities, and this model predicts values (a regression).")
    return probabilities
