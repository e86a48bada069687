"""Running a method over texts: order, budget, one tensor a text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods import SIG, AbstractMethod, AttnLRP
from explainer.methods.run import scores_of
from explainer.typing import Scores, Target
from tests.explainer.tools import batch_of, double, encoded, fresh
from tests.families import TEXTS, explained

TARGET = torch.tensor([0, 1, 2, 0])


@dataclass(frozen=True)
class Spy(AbstractMethod):
    """Scores every token by the target it was asked for, and notes the batches."""

    name: ClassVar[str] = "spy"
    note: Callable[[tuple[int, ...]], None] = print

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        self.note(tuple(batch.input_ids.shape))
        return target[:, None].expand(batch.input_ids.shape).float()

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


@pytest.mark.parametrize("method", [SIG(), AttnLRP()])
@pytest.mark.parametrize("budget", [1, 50, 4096])
def test_scores_are_those_of_each_text_alone_in_order(method: AbstractMethod, budget: int) -> None:
    model = fresh("llama")
    model.double().batch_tokens = budget
    found = scores_of(method, model, encoded(model), TARGET)
    for text, scores, target in zip(TEXTS, found, TARGET, strict=True):
        alone = method(double("llama"), batch_of(model, [text]), target[None])[0]
        assert torch.allclose(scores, alone, atol=1e-6, rtol=1e-4)
        assert scores.device.type == "cpu"


def test_each_text_gets_its_own_target_under_a_budget() -> None:
    model, shapes = fresh("bert"), []
    model.batch_tokens = 30
    texts = encoded(model)
    found = scores_of(Spy(note=shapes.append), model, texts, TARGET)
    for text, scores, target in zip(texts, found, TARGET.tolist(), strict=True):
        assert scores.tolist() == [target] * len(text)
    assert len(shapes) > 1
    assert all(rows == 1 or rows * length <= 30 for rows, length in shapes)


def test_no_texts_have_no_scores() -> None:
    assert scores_of(SIG(), explained("bert"), [], torch.zeros(0, dtype=torch.int64)) == []


def test_the_progress_bar_is_shown_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    model = explained("bert")
    scores_of(SIG(), model, encoded(model), TARGET)
    assert capsys.readouterr().out == ""
    scores_of(SIG(), model, encoded(model), TARGET, progress="working")
    assert "working" in capsys.readouterr().out
