"""The cache: computed once, never stale, whole or not at all."""

from pathlib import Path

import pytest
import torch

from explainer import cache
from explainer.methods import method
from explainer.storage.cache import cached_probabilities, cached_scores
from tests.families import TEXTS, explained


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Counts the texts that are really scored, with an empty cache."""
    monkeypatch.setenv("AMORTEX_CACHE", str(tmp_path))
    counts: list[int] = []
    real = cache.scores_of

    def counting(chosen, model, texts, target):  # type: ignore[no-untyped-def]
        counts.append(len(texts))
        return real(chosen, model, texts, target)

    monkeypatch.setattr(cache, "scores_of", counting)
    return counts


def test_scores_are_computed_once_and_come_back_equal(computed: list[int]) -> None:
    model = explained("bert")
    texts, target = model.encode(TEXTS), torch.tensor([0, 1, 2, 0])
    first = cached_scores(method("sig"), model, texts, target)
    again = cached_scores(method("sig"), model, texts, target)
    assert computed == [4]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    direct = cache.scores_of(method("sig"), model, texts, target)
    assert all(torch.equal(a, b) for a, b in zip(first, direct, strict=True))


def test_whatever_the_scores_depend_on_makes_them_new(computed: list[int]) -> None:
    model = explained("bert")
    texts, target = model.encode(TEXTS), torch.tensor([0, 1, 2, 0])
    cached_scores(method("random"), model, texts, target)
    cached_scores(method("random", seed=1), model, texts, target)
    cached_scores(method("random"), model, texts, target + torch.tensor([1, 0, 0, 0]))
    cached_scores(method("random"), model, texts[::-1], target)
    cached_scores(method("random"), explained("electra"), texts, target)
    with torch.autocast("cpu", torch.bfloat16):
        cached_scores(method("random"), model, texts, target)
    assert computed == [4] * 6
    cached_scores(method("random"), model, texts, target)
    assert computed == [4] * 6


def test_a_change_of_the_package_s_source_makes_them_new(computed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = explained("bert")
    texts, target = model.encode(TEXTS), torch.tensor([0, 1, 2, 0])
    cached_scores(method("random"), model, texts, target)
    monkeypatch.setattr(cache, "_code", lambda: "another")
    cached_scores(method("random"), model, texts, target)
    assert computed == [4, 4]


def test_an_interrupted_computation_goes_on_where_it_was(
    computed: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cache, "CHUNK", 2)
    model = explained("bert")
    texts, target = model.encode(TEXTS), torch.tensor([0, 1, 2, 0])
    cached_scores(method("random"), model, texts[:2], target[:2])
    cached_scores(method("random"), model, texts, target)
    assert computed == [2, 2]
    assert not list(tmp_path.glob("*.part"))


def test_probabilities_are_the_models(computed: list[int]) -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    expected = model.predict([text.tokens for text in texts]).softmax(dim=-1)
    assert torch.equal(cached_probabilities(model, texts), expected)
    assert torch.equal(cached_probabilities(model, texts), expected)
