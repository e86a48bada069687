"""The faithfulness over batches is the mean over all of their texts."""

import pytest

from explainer.explained import Attributions
from explainer.faithfulness.measures import default_metrics, faithfulness, summary, summary_metrics
from explainer.methods import SIG
from lightning_modules.validation import ValidationFaithfulness
from tests.families import TASKS, TEXTS, explained


@pytest.mark.parametrize("task", TASKS)
def test_batches_add_up_and_a_new_sum_starts_at_zero(task: str) -> None:
    model = explained("bert", **TASKS[task])
    texts = model.encode(TEXTS)
    whole = SIG().attribute(model, texts, model.predicted(texts))
    values = faithfulness(model, whole)
    total = ValidationFaithfulness(model.task)
    for _ in range(2):
        for part in (slice(0, 1), slice(1, 4)):
            total.update(model, Attributions(whole.texts[part], whole.target[part], whole.scores[part]))
        means = {name: value.item() for name, value in total.compute().items()}
        for name in summary_metrics(default_metrics(model.task.link)):
            assert means.pop(name) == pytest.approx(values[name].mean().item(), abs=1e-5)
        assert means == {"faithfulness": pytest.approx(summary(values).mean().item(), abs=1e-5)}


def test_a_metric_of_interest_joins_the_areas() -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    whole = SIG().attribute(model, texts, model.predicted(texts))
    total = ValidationFaithfulness(model.task, "log_odds")
    assert not total.higher_is_better
    total.update(model, whole)
    found = total.compute()
    assert set(found) == {"aopc_comprehensiveness", "aopc_sufficiency", "log_odds", "faithfulness"}
    expected = faithfulness(model, whole, ["log_odds"])["log_odds"].mean().item()
    assert found["log_odds"].item() == pytest.approx(expected, abs=1e-5)


def test_an_operator_takes_the_place_of_the_metrics_own() -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    whole = SIG().attribute(model, texts, model.predicted(texts))
    total = ValidationFaithfulness(model.task, operator="blank")
    total.update(model, whole)
    expected = summary(faithfulness(model, whole, operator="blank")).mean().item()
    assert total.compute()["faithfulness"].item() == pytest.approx(expected, abs=2e-6)
    assert expected != pytest.approx(summary(faithfulness(model, whole)).mean().item(), abs=2e-5)


def test_a_metric_that_is_none_and_one_without_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="`metrics` must be of comprehensiveness"):
        ValidationFaithfulness(explained("bert").task, "accuracy")
    with pytest.raises(ValueError, match="log_odds need probabilities"):
        ValidationFaithfulness(explained("bert", **TASKS["regression"]).task, "log_odds")
