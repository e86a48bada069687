"""Teachers: standardized and mixed by their shares, or in turn; unknown ones are refused."""

from typing import Any

import pytest
import torch

from explainer.explained import Target, TokenBatch
from explainer.explainers.losses import correlation_matching
from lightning_modules.data.annotations import AnnotatedBatch
from lightning_modules.teachers import Teachers
from tests.families import TEXTS, explained

TWO: dict[str, dict[str, Any]] = {"sig": {}, "random": {}}


def batch_of(teachers: dict[str, torch.Tensor]) -> AnnotatedBatch:
    """Two texts of five tokens, all of them scorable."""
    ids: torch.Tensor = torch.ones(2, 5, dtype=torch.long)
    texts = explained("bert").encode(TEXTS[:2])
    return AnnotatedBatch(
        [0, 1], texts, TokenBatch(ids, ids, ids.bool()), Target.of([0, 0]), torch.zeros(2, 1, 3), teachers
    )


def test_the_mean_weighs_standardized_teachers() -> None:
    batch = batch_of({"sig": torch.randn(2, 5), "random": 100 * torch.randn(2, 5)})
    scores = torch.randn(2, 5)
    for weights, share in ((None, 0.5), ({"sig": 3.0, "random": 1.0}, 0.75)):
        standardized = {
            label: (teacher - teacher.mean(dim=1, keepdim=True)) / teacher.std(dim=1, keepdim=True, correction=0)
            for label, teacher in batch.teachers.items()
        }
        mixed = share * standardized["sig"] + (1 - share) * standardized["random"]
        centred = [values - values.mean(dim=1, keepdim=True) for values in (scores, mixed)]
        correlation = (centred[0] * centred[1]).sum(dim=1) / (centred[0].norm(dim=1) * centred[1].norm(dim=1))
        loss = Teachers(explained("bert"), TWO, weights).matching(scores, batch, step=0)
        assert loss.item() == pytest.approx(1 - correlation.mean().item(), abs=1e-6)


def test_alternating_teachers_take_turns_and_count_by_their_weights() -> None:
    batch = batch_of({"sig": torch.randn(2, 5), "random": torch.randn(2, 5)})
    teachers = Teachers(explained("bert"), TWO, {"sig": 3.0, "random": 1.0}, "alternate")
    losses = [teachers.matching(batch.teachers["sig"], batch, step).item() for step in range(4)]
    # The scores are those of the first teacher: nothing is left to match on its turns.
    assert losses[0] == losses[2] == pytest.approx(0.0, abs=1e-6)
    expected = correlation_matching(batch.teachers["sig"], batch.teachers["random"], batch.tokens.scorable)
    assert losses[1] == losses[3] == pytest.approx(0.5 * expected.item())


def test_agreement_is_one_with_the_teacher_itself() -> None:
    batch = batch_of({"sig": torch.randn(2, 5), "random": torch.randn(2, 5)})
    agreement = Teachers(explained("bert"), TWO).agreement(3 * batch.teachers["sig"] + 1, batch)
    assert agreement["sig"].item() == pytest.approx(1, abs=1e-6)
    assert agreement["random"].item() < 1


def test_scores_are_computed_once_and_are_the_method_s_own(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMORTEX_CACHE", str(tmp_path))
    model = explained("bert")
    texts, teachers = model.encode(TEXTS), Teachers(model, TWO)
    target = model.predicted(texts)
    scores = teachers.scores(model, texts, target)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = teachers.scores(model, texts, target)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert len(files) == len(TWO)
    for label, method in teachers.methods.items():
        for stored, reread, own in zip(
            scores[label], again[label], method.attribute(model, texts, target).scores, strict=True
        ):
            assert torch.equal(stored, own)
            assert torch.equal(reread, own)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixing": "both"}, "`mixing` must be"),
        ({"weights": {"sig": 1.0}}, "`teacher_weights` must have one weight for each of"),
        ({"weights": {"sig": 1.0, "random": 0.0}}, "`teacher_weights` must be positive"),
        ({"settings": {"no_method": {}}}, "`method` must be one of"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Teachers(**({"explained": explained("bert"), "settings": TWO} | arguments))
