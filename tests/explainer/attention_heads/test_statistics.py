"""Counts against a slow count, and that they add up."""

import torch
from torch import Tensor

from explainer.attention_heads import Arc, HeadStatistics
from explainer.attention_heads.selection import positional, summary, syntactic
from explainer.attention_heads.statistics import WIDEST


def example(seed: int, tokens: int = 9) -> tuple[Tensor, Tensor, list[Arc]]:
    torch.manual_seed(seed)
    peaks = torch.randint(tokens, (2, 3, tokens))
    counted = torch.ones(tokens, dtype=torch.bool)
    counted[[0, -1]] = False
    return peaks, counted, [Arc(0, 2, (4, 5), 2), Arc(1, 3, (1,), -2), Arc(1, 6, (7,), 1), Arc(1, 5, (6,), 1)]


def counted(*seeds: int) -> HeadStatistics:
    statistics = HeadStatistics(2, 3, ("nsubj", "obj"))
    for seed in seeds:
        statistics.update(*example(seed))
    return statistics


def test_shares_are_those_of_a_slow_count() -> None:
    shares = counted(0).compute()
    peaks, mask, arcs = example(0)
    for layer in range(2):
        for head in range(3):
            offsets = [int(peaks[layer, head, i]) - i for i in range(9) if mask[i]]
            for offset in range(-8, 9):
                assert shares.offsets[layer, head, offset + WIDEST] == torch.tensor(offsets.count(offset) / 7)
            hits = [int(peaks[layer, head, arc.token]) in arc.head for arc in arcs]
            assert shares.hits[layer, head].tolist() == [float(hits[0]), float(torch.tensor(sum(hits[1:]) / 3))]
    assert torch.equal(shares.guess, torch.tensor([1.0, 2 / 3]))  # one nsubj; two of three obj one word to the right
    assert shares.n_tokens == 7
    assert shares.n_relations.tolist() == [1, 3]


def test_counts_add_up_over_processes() -> None:
    """What torchmetrics reduces is the sum of the states."""
    whole, parts = counted(0, 1, 2), [counted(0), counted(1, 2)]
    for name, reduction in whole._reductions.items():
        assert reduction is not None
        assert torch.equal(reduction(torch.stack([getattr(part, name) for part in parts])), getattr(whole, name))


def test_a_single_relation_keeps_its_axis() -> None:
    statistics = HeadStatistics(1, 1, ("obj",))
    statistics.update(torch.tensor([[[1, 1, 0]]]), torch.ones(3, dtype=torch.bool), [Arc(0, 0, (1,), 1)])
    shares = statistics.compute()
    assert shares.guess.shape == shares.n_relations.shape == (1,)
    assert shares.hits.tolist() == [[[1.0]]]


def test_nothing_counted_is_no_head_at_all() -> None:
    statistics = HeadStatistics(2, 3)
    statistics.update(torch.zeros(2, 3, 2, dtype=torch.int64), torch.zeros(2, dtype=torch.bool), [])
    shares = statistics.compute()
    assert not positional(shares, 0.0).any()
    assert not syntactic(shares, 0.0).any()


def test_positional_and_syntactic_heads_by_their_thresholds() -> None:
    """Head 0 looks at the next token, head 1 at the dependency's head, which is now left, now right; head 2 at CLS."""
    statistics = HeadStatistics(1, 3, ("obj",))
    ahead = torch.arange(1, 7).clamp(max=5)
    for head_word, words in ((4, 2), (1, -1), (5, 3), (2, 0)):
        towards = torch.full((6,), head_word)
        towards[1::2] = 0
        arcs = [Arc(0, 2, (head_word,), words)]
        statistics.update(torch.stack([ahead, towards, torch.zeros(6).long()])[None], torch.ones(6).bool(), arcs)
    shares = statistics.compute()
    assert float(shares.guess) == 0.25
    assert positional(shares, 0.8).tolist() == [[True, False, False]]
    assert syntactic(shares, 0.1).tolist() == [[False, True, False]]
    assert not positional(shares, 0.84).any()  # 5 of 6
    assert not syntactic(shares, 0.75).any()  # 1.0 is no more than 0.25 + 0.75
    statistics_in_json = summary(shares, ("obj",))
    assert statistics_in_json["offset"][0][0] == 1
    assert statistics_in_json["relations"]["obj"] == {"n": 4, "baseline": 0.25, "hits": [[0.0, 1.0, 0.0]]}
