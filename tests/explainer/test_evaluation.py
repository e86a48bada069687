"""The five numbers read from curves."""

import pytest
import torch

from explainer.evaluation import HIGHER_IS_BETTER, METRICS, faithfulness, read_metrics, summary
from explainer.perturbation import Curves, curves
from tests.explainer.tools import encoded
from tests.families import explained

WHOLE = torch.tensor([0.8, 0.5])
CURVE = Curves(
    (20.0, 50.0),
    WHOLE,
    removed=torch.tensor([[0.5, 0.2], [0.5, 0.4]]),
    kept=torch.tensor([[0.6, 0.7], [0.9, 0.5]]),
    replaced=torch.tensor([[0.4, 0.1], [0.25, 0.5]]),
)


def check(found: torch.Tensor, expected: list[float]) -> None:
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_metrics_are_read_off_their_own_curves() -> None:
    values = read_metrics(CURVE)
    assert tuple(values) == METRICS
    check(values["comprehensiveness"], [0.3, 0.0])
    check(values["sufficiency"], [0.2, -0.4])
    check(values["log_odds"], [-0.6931472, -0.6931472])
    check(values["aopc_comprehensiveness"], [0.9 / 3, 0.1 / 3])
    check(values["aopc_sufficiency"], [0.3 / 3, -0.4 / 3])


def test_another_percent_moves_the_single_metrics_only() -> None:
    first, second = read_metrics(CURVE), read_metrics(CURVE, percent=50.0)
    check(second["comprehensiveness"], [0.6, 0.1])
    assert torch.equal(first["aopc_sufficiency"], second["aopc_sufficiency"])


def test_the_summary_is_the_difference_of_the_areas() -> None:
    check(summary(read_metrics(CURVE)), [0.2, 0.5 / 3])


def test_faithfulness_runs_the_curves() -> None:
    model = explained("bert")
    texts = encoded(model)
    scores, target = [torch.randn(len(text)) for text in texts], torch.tensor([0, 1, 2, 0])
    found = faithfulness(model, texts, scores, target)
    expected = read_metrics(curves(model, texts, scores, target))
    assert all(torch.equal(found[name], expected[name]) for name in METRICS)
    assert all(value.shape == (4,) for value in found.values())


def test_keeping_everything_is_fully_sufficient() -> None:
    model = explained("bert")
    texts = encoded(model)
    target = torch.tensor([0, 1, 2, 0])
    curve = curves(model, texts, [torch.randn(len(text)) for text in texts], target, percents=(100.0,))
    values = read_metrics(curve, percent=100.0)
    assert (values["sufficiency"] == 0).all()
    assert (values["aopc_sufficiency"] == 0).all()


def test_directions_are_those_of_the_metric_classes() -> None:
    from explainer import metrics

    kinds = {
        "comprehensiveness": metrics.Comprehensiveness,
        "sufficiency": metrics.Sufficiency,
        "log_odds": metrics.LogOdds,
        "aopc_comprehensiveness": metrics.AOPCComprehensiveness,
        "aopc_sufficiency": metrics.AOPCSufficiency,
    }
    assert {name: kind.higher_is_better for name, kind in kinds.items()} == HIGHER_IS_BETTER
