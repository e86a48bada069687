"""Trust in explanations, and the fallback for those without it, against passes of the model written out."""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from explainer.attributor import Attributor
from explainer.attributor.trust import Fallback, top_tokens, trusts
from explainer.explained import Attributions, ExplainedModel, Target, TargetValues, Tokens
from explainer.explanation import Explanation, Trust
from explainer.methods import METHODS, AttnLRP, InputXGradient, LeaveOneOut, Random
from tests.explainer.tools import bit_equal_logits, fresh
from tests.families import TASKS, TEXTS, explained

GIVEN = [*TEXTS, "", "fun film"]

NUMBERS: dict[str, Callable[[Tensor], Tensor]] = {
    "classification": lambda logits: logits.softmax(dim=-1),
    "multi_label": torch.sigmoid,
    "regression": lambda logits: logits,
}
"""What trust is about: the probability of every label, or the value."""


def attributor(family: str = "bert", task: str = "classification") -> Attributor:
    return Attributor(explained(family, **TASKS[task]), Random())


def slowly(explanation: Explanation, task: str) -> tuple[float, float]:
    """Comprehensiveness and sufficiency, token by token and pass by pass, on the ids alone."""
    model = explained("bert", **TASKS[task])
    own = [i for i, scorable in enumerate(explanation.scorable) if scorable]
    k = max(1, len(own) // 5)
    top = sorted(own, key=lambda i: (-explanation.scores[i], i))[:k]

    def number(places: list[int]) -> float:
        ids = torch.tensor([[explanation.input_ids[i] for i in places]])
        with torch.no_grad():
            logits = model.model(ids).logits[0]
        return NUMBERS[task](logits)[explanation.target].item()

    everything = range(len(explanation.tokens))
    deleted = [i for i in everything if i not in top]
    alone = [i for i in everything if i in top or not explanation.scorable[i]]
    whole = number(list(everything))
    return whole - number(deleted), whole - number(alone)


@pytest.mark.parametrize("task", TASKS)
def test_trust_is_what_deleting_and_keeping_the_top_fifth_does(task: str) -> None:
    """To the probability of the target, or to the value of a regression; of every label."""
    for by_label in attributor(task=task)(TEXTS, targets="all", trust=True):
        for explanation in by_label.values():
            trust = explanation.trust
            assert (trust.comprehensiveness, trust.sufficiency) == pytest.approx(slowly(explanation, task), abs=1e-6)
            assert trust.faithfulness == trust.comprehensiveness - trust.sufficiency


@pytest.mark.parametrize("task", TASKS)
def test_a_foil_and_another_score_leave_the_trust_as_it_is(task: str) -> None:
    plain = attributor(task=task)(TEXTS, target=0, trust=True)
    options = {"score": "log_odds"} if task == "regression" else {"score": "log_odds", "foil": 1}
    for before, after in zip(plain, attributor(task=task)(TEXTS, target=0, trust=True, **options), strict=True):
        assert before.trust == after.trust


@pytest.mark.parametrize(("n", "k"), [(0, 1), (1, 1), (4, 1), (5, 1), (9, 1), (10, 2), (24, 4), (25, 5)])
def test_the_top_is_a_fifth_and_one_at_least(n: int, k: int) -> None:
    assert top_tokens(n) == k


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_trust_changes_nothing_else(family: str) -> None:
    plain, with_trust = attributor(family)(GIVEN), attributor(family)(GIVEN, trust=True)
    for before, after in zip(plain, with_trust, strict=True):
        assert before.trust is None
        assert isinstance(after.trust, Trust)
        assert (before.scores, before.method) == (after.scores, after.method)


def test_an_empty_text_is_neither_better_nor_worse_without_its_tokens() -> None:
    trust = attributor()("", trust=True).trust
    assert (trust.comprehensiveness, trust.sufficiency) == pytest.approx((0, 0), abs=1e-6)


def test_trust_takes_two_copies_per_text_in_one_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("bert")
    calls: list[int] = []
    evaluate = type(model).evaluate

    def counting(self: ExplainedModel, sequences: Sequence[Tokens], target: Target) -> TargetValues:
        calls.append(len(sequences))
        return evaluate(self, sequences, target)

    monkeypatch.setattr(type(model), "evaluate", counting)
    Attributor(model, InputXGradient())(TEXTS, trust=True)
    assert calls == [2 * len(TEXTS)]


def test_the_record_has_the_trust_where_it_was_asked_for() -> None:
    explanation = attributor()("a good film", trust=True)
    trust = explanation.trust
    assert explanation.record()["trust"] == {
        "comprehensiveness": trust.comprehensiveness,
        "sufficiency": trust.sufficiency,
        "faithfulness": trust.faithfulness,
    }
    assert "trust" not in attributor()("a good film").record()


# Fallback


def split_by(threshold: float, task: str = "classification") -> tuple[list[Explanation], list[bool]]:
    plain = attributor(task=task)(GIVEN, trust=True)
    return plain, [e.trust.faithfulness < threshold and any(e.scorable) for e in plain]


def middle(task: str = "classification") -> float:
    values = sorted(e.trust.faithfulness for e in attributor(task=task)(TEXTS, trust=True))
    return (values[1] + values[2]) / 2


@pytest.mark.parametrize("task", TASKS)
def test_texts_below_the_threshold_fall_back_and_the_others_stay(task: str) -> None:
    threshold = middle(task)
    plain, low = split_by(threshold, task)
    assert sum(low) >= 2
    assert not all(low)
    other = Attributor(explained("bert", **TASKS[task]), AttnLRP())(GIVEN)
    given_back = attributor(task=task)(GIVEN, fallback=Fallback(AttnLRP(), threshold, keep="fallback"))
    for before, second, after, fell in zip(plain, other, given_back, low, strict=True):
        assert after.method == ("attn_lrp (fallback)" if fell else "random")
        assert after.scores == (pytest.approx(second.scores, abs=1e-6) if fell else before.scores)
        assert (after.probabilities, after.value) == (before.probabilities, before.value)


def test_the_fallback_explains_the_same_target_with_its_foil_and_score() -> None:
    options = {"foil": "runner_up", "score": "log_odds", "units": "word"}
    second = Attributor(explained("bert"), LeaveOneOut())(TEXTS, **options)
    for keep in ("fallback", "better"):
        given_back = attributor()(TEXTS, fallback=Fallback(LeaveOneOut(), 9.0, keep=keep), **options)
        first = attributor()(TEXTS, **options)
        for after, other, own in zip(given_back, second, first, strict=True):
            assert after.scores == pytest.approx(own.scores if "random" in after.method else other.scores, abs=1e-5)
            assert (after.foil_label, after.score) == (other.foil_label, "log_odds")


def test_the_mean_has_half_of_each_at_the_spread_of_the_first() -> None:
    plain, low = split_by(middle())
    other = Attributor(explained("bert"), AttnLRP())(GIVEN)
    given_back = attributor()(GIVEN, fallback="attn_lrp", min_faithfulness=middle())
    for before, second_one, after, fell in zip(plain, other, given_back, low, strict=True):
        assert after.method == ("random + attn_lrp (fallback)" if fell else "random")
        own = torch.tensor(before.scorable)
        first, second = torch.tensor(before.scores), torch.tensor(second_one.scores)
        if not fell or int(own.sum()) < 2:
            continue
        spread = first[own].std() / second[own].std()
        assert torch.allclose(torch.tensor(after.scores), first / 2 + second * spread / 2, atol=1e-5)


def test_the_mean_with_equal_scores_keeps_the_order() -> None:
    explanation = attributor()("bad", fallback="sig", min_faithfulness=9)
    plain = attributor()("bad")
    assert explanation.scores == pytest.approx([score / 2 for score in plain.scores])


def test_the_better_of_two_is_the_better_and_says_so() -> None:
    plain = attributor()(GIVEN, trust=True)
    forced = attributor()(GIVEN, fallback=Fallback(AttnLRP(), 9.0, keep="fallback"))
    better = attributor()(GIVEN, fallback=Fallback(AttnLRP(), 9.0, keep="better"))
    winners = set()
    for first, other, best in zip(plain, forced, better, strict=True):
        if not any(first.scorable):
            assert best.method == "random"
            continue
        assert best.trust.faithfulness == max(first.trust.faithfulness, other.trust.faithfulness)
        assert best.method.endswith("(best of 2 by faithfulness at 20 %)")
        winners.add(best.method.split()[0])
    assert winners == {"random", "attn_lrp"}


@pytest.mark.parametrize("keep", ["mean", "fallback", "better"])
def test_the_trust_is_that_of_the_scores_that_are_returned(keep: str) -> None:
    model = explained("bert")
    given_back = attributor()(TEXTS, target=2, fallback=Fallback(AttnLRP(), middle(), keep=keep))
    scores = [torch.tensor(explanation.scores) for explanation in given_back]
    again = trusts(model, Attributions(model.encode(TEXTS), Target.of([2] * len(TEXTS)), scores), given_back)
    assert [e.trust.faithfulness for e in given_back] == pytest.approx([t.faithfulness for t in again], abs=1e-6)


def test_where_nothing_is_below_the_threshold_the_method_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AttnLRP, "scores", lambda *_: pytest.fail("was run"))
    assert attributor()(GIVEN, fallback="attn_lrp", min_faithfulness=-9) == attributor()(GIVEN, trust=True)


def test_a_fallback_leaves_the_model_and_its_own_method_as_they_were() -> None:
    with bit_equal_logits(explained("bert")):
        attributor()(GIVEN, fallback="attn_lrp", min_faithfulness=9)


@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_every_label_has_its_own_trust_and_fallback(task: str) -> None:
    every = attributor(task=task)(TEXTS, targets="all", fallback="attn_lrp", min_faithfulness=middle(task))
    for text, by_label in zip(TEXTS, every, strict=True):
        for label, explanation in by_label.items():
            alone = attributor(task=task)(text, target=label, fallback="attn_lrp", min_faithfulness=middle(task))
            assert alone.method == explanation.method
            assert alone.scores == pytest.approx(explanation.scores, abs=1e-5)


def test_settings_a_whole_fallback_and_a_name_mean_the_same() -> None:
    named = Fallback.of("attn_lrp", 1)
    assert named == Fallback.of(AttnLRP(), 1.0) == Fallback.of(Fallback(AttnLRP(), 0.3), 1)
    assert Fallback.of(None, None) is None


def test_its_cost_is_the_method_s_and_a_pass_for_the_trust() -> None:
    assert Fallback(METHODS["attn_lrp"](), 0.2).forward_equivalents(20) == 4.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fallback": "attn_lrp"}, "`fallback` .* and `min_faithfulness` .* go together"),
        ({"min_faithfulness": 0.3}, "go together"),
        ({"fallback": "no_method", "min_faithfulness": 0.3}, "`method` must be one of"),
    ],
)
def test_a_fallback_without_a_method_or_a_threshold_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attributor()(TEXTS, **options)


def test_an_unknown_way_to_choose_is_refused() -> None:
    unchecked = copy.copy(Fallback(AttnLRP(), 0.0))
    object.__setattr__(unchecked, "keep", "worse")
    with pytest.raises(ValueError, match="`keep` must be one of mean, fallback, better, got 'worse'"):
        unchecked.__post_init__()
