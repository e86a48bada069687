"""The quality of sampled attention: each number as it is written out by hand."""

import pytest
import torch

from explainer.explained import Readout
from explainer.faithfulness.measures import faithfulness, summary
from explainer.methods import RPI
from lightning_modules.data.attention import ReferenceAttention
from lightning_modules.sampling import neutrality, rpi_faithfulness, sample_checks
from tests.families import TASKS, TEXTS, explained


def test_neutrality_is_the_divergence_written_out() -> None:
    logits, wanted = torch.randn(3, 1, 4), torch.randn(3, 1, 4)
    p, r = logits.softmax(dim=-1), wanted.softmax(dim=-1)
    assert torch.allclose(
        neutrality(Readout(logits), Readout(wanted)), (p * (p / r).log()).sum(dim=(1, 2)).mean(), atol=1e-6
    )
    p, r = logits.sigmoid(), wanted.sigmoid()
    bernoulli = p * (p / r).log() + (1 - p) * ((1 - p) / (1 - r)).log()
    assert torch.allclose(
        neutrality(Readout(logits, "sigmoid"), Readout(wanted, "sigmoid")), bernoulli.sum(dim=(1, 2)).mean(), atol=1e-5
    )
    values = neutrality(Readout(logits[..., :1], "identity"), Readout(wanted[..., :1], "identity"))
    assert torch.allclose(values, (logits - wanted)[:, 0, 0].pow(2).mean() / 2)


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_an_answer_is_neutral_to_itself(link: str) -> None:
    readout = Readout(torch.randn(3, 1, 4), link)  # type: ignore[arg-type]
    assert abs(float(neutrality(readout, readout))) < 1e-6


def test_checks_of_known_attention() -> None:
    attention = torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 0.0]])[None, None, None]
    reference = ReferenceAttention(attention.log(), torch.zeros(1, 3).bool(), Readout(torch.zeros(1, 1, 2)))
    sample = attention.clone()
    sample[..., 1, :] = torch.tensor([0.5, 0.25, 0.25])
    checks = sample_checks(sample, reference)
    assert checks["row_sum_error"] == 0
    assert checks["forbidden"] == 0.25
    assert checks["distance"].item() == pytest.approx(0.5 * (0.4 + 0.15) / 2)


@pytest.mark.parametrize("task", TASKS)
def test_the_faithfulness_is_that_of_rpi_s_scores(task: str) -> None:
    model = explained("bert", **TASKS[task])
    texts = model.encode(TEXTS)
    settings = {"layers": (0, 1), "n_baselines": 1}
    attributions = RPI(**settings, baseline="zero").attribute(model, texts, model.predicted(texts))
    expected = summary(faithfulness(model, attributions)).mean().item()
    assert rpi_faithfulness(model, texts, settings, "zero") == pytest.approx(expected, abs=1e-5)
