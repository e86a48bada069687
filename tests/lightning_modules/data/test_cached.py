"""Cached values are those of the computation, kept by chunks, and computed once."""

from pathlib import Path

import pytest
import torch

from explainer.methods import SIG, SubsetRegression
from lightning_modules.data import cached
from lightning_modules.data.cached import cached_effects, cached_predictions, cached_scores
from tests.families import TASKS, TEXTS, explained


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache whose files hold three texts."""
    monkeypatch.setenv("AMORTEX_CACHE", str(tmp_path))
    monkeypatch.setattr(cached, "CHUNK", 3)
    return tmp_path


@pytest.mark.parametrize("task", TASKS)
def test_predictions_are_the_model_s_answers(task: str, folder: Path) -> None:
    model = explained("bert", **TASKS[task])
    texts = model.encode(TEXTS)
    expected = model.predict([text.tokens for text in texts])
    for _ in range(2):
        readout = cached_predictions(model, texts)
        assert readout.link == expected.link
        assert torch.allclose(readout.logits, expected.logits, atol=1e-6)
        assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_the_method_s_own(task: str) -> None:
    model = explained("bert", **TASKS[task])
    texts = model.encode(TEXTS)
    target = model.predicted(texts)
    expected = SIG().attribute(model, texts, target).scores
    for _ in range(2):
        for scores, own in zip(cached_scores(SIG(), model, texts, target, "sig"), expected, strict=True):
            assert torch.allclose(scores, own, atol=1e-6)


def test_another_target_is_another_entry(folder: Path) -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    target = model.predicted(texts)
    cached_scores(SIG(), model, texts, target, "sig")
    cached_scores(SIG(), model, texts, type(target).of((target.classes + 1) % 3), "sig")
    assert len(list(folder.iterdir())) == 4


def test_an_interrupted_computation_resumes_after_its_last_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = explained("bert")
    texts, counted = model.encode(TEXTS), []

    class Counted(SIG):
        def attribute(self, explained, texts, target, progress=None):  # type: ignore[no-untyped-def]
            counted.append(len(texts))
            if len(counted) == 2:
                raise KeyboardInterrupt
            return super().attribute(explained, texts, target, progress)

    target = model.predicted(texts)
    with pytest.raises(KeyboardInterrupt):
        cached_scores(Counted(), model, texts, target, "sig")
    assert len(cached_scores(Counted(), model, texts, target, "sig")) == len(texts)
    assert counted == [3, 1, 1]


def test_effects_are_those_of_the_regression() -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    target, regression = model.predicted(texts), SubsetRegression(4, prior=False)
    expected = regression.effects(model, texts, target)
    for _ in range(2):
        for effects, own in zip(cached_effects(regression, model, texts, target), expected, strict=True):
            assert torch.allclose(effects.design, own.design.float())
            assert torch.allclose(effects.value, own.value.float(), atol=1e-5)
