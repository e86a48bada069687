"""What is read and what of it is explained, against straight re-computations; targets, foils and their stand-ins."""

import math

import pytest
import torch
from torch import Tensor

from explainer.explained import PREDICTED, RUNNER_UP, Readout, Target
from explainer.explained.readout import NO_QUESTION

LOGITS = torch.tensor([[[2.0, -1.0, 0.5]], [[-0.5, 3.0, 2.5]], [[0.0, 0.1, -4.0]]], dtype=torch.float64)
TARGET = Target.of([0, 2, 1])


def probability_by_hand(logits: list[float], link: str, choice: int) -> float:
    if link == "sigmoid":
        return 1 / (1 + math.exp(-logits[choice]))
    return math.exp(logits[choice]) / sum(map(math.exp, logits))


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_every_number_of_a_target_is_that_of_its_definition(link: str) -> None:
    values = Readout(LOGITS, link).of(TARGET)
    for i, choice in enumerate(TARGET.classes.tolist()):
        logits = LOGITS[i, 0].tolist()
        p = probability_by_hand(logits, link, choice)
        assert values.value[i].item() == logits[choice]
        assert values.objective[i].item() == logits[choice]
        assert values.probability is not None
        assert values.log_probability is not None
        assert values.probability[i].item() == pytest.approx(p, abs=1e-12)
        assert values.log_probability[i].item() == pytest.approx(math.log(p), abs=1e-12)
        assert values.log_odds[i].item() == pytest.approx(math.log(p / (1 - p)), abs=1e-12)


def test_values_have_no_probabilities() -> None:
    readout = Readout(LOGITS[..., :1], "identity")
    values = readout.of(Target.of([0, 0, 0]))
    assert torch.equal(values.value, LOGITS[:, 0, 0])
    assert torch.equal(values.log_odds, values.value)
    assert values.probability is None
    assert values.log_probability is None
    assert readout.probabilities is None
    with pytest.raises(ValueError, match=r"`log_prob` needs probabilities.*regression"):
        readout.objective(Target.of([0, 0, 0], score="log_prob"))
    with pytest.raises(ValueError, match="`probability` needs probabilities"):
        readout.probability(Target.of([0, 0, 0]))


@pytest.mark.parametrize("score", ["logit", "log_prob", "log_odds"])
@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_a_foil_is_subtracted_in_the_target_s_own_score(link: str, score: str) -> None:
    readout = Readout(LOGITS, link)
    foil = Target.of([1, 0, 0], score=score)
    mine = Target.of([0, 2, 1], score=score)
    both = Target(mine.choices, foil.choices, mine.score)
    assert torch.allclose(readout.objective(both), readout.objective(mine) - readout.objective(foil))


def test_several_questions_add_their_logits_and_multiply_their_probabilities() -> None:
    logits = torch.randn(4, 3, 5, dtype=torch.float64)
    target = Target(torch.randint(5, (4, 3)))
    readout = Readout(logits)
    each: list[Tensor] = []
    for q in range(3):
        each.append(Readout(logits[:, q : q + 1]).probability(Target(target.choices[:, q : q + 1])))
    assert torch.allclose(readout.probability(target), torch.stack(each).prod(dim=0))
    assert torch.allclose(readout.log_probability(target), torch.stack(each).log().sum(dim=0))
    expected = torch.stack([logits[i, q, target.choices[i, q]] for i in range(4) for q in range(3)]).view(4, 3)
    assert torch.allclose(readout.value(target), expected.sum(dim=1))
    with pytest.raises(ValueError, match="has 3 questions"):
        _ = target.classes


def test_a_choice_that_a_text_does_not_have_has_no_probability() -> None:
    readout = Readout(torch.tensor([[[1.0, 2.0, -torch.inf]]]))
    assert readout.probability(Target.of([2])).item() == 0
    assert readout.predicted().classes.tolist() == [1]
    assert readout.runner_up(Target.of([1])).tolist() == [[0]]


def test_stand_ins_are_the_predicted_choice_and_the_runner_up() -> None:
    readout = Readout(LOGITS)
    asked = Target.of([PREDICTED, 0, PREDICTED], foil=[RUNNER_UP, RUNNER_UP, 2], score="log_odds")
    target = asked.resolved(readout)
    assert target.classes.tolist() == [0, 0, 1]
    assert target.foil is not None
    assert target.foil[:, 0].tolist() == [2, 1, 2]
    assert target.score == "log_odds"


def test_a_foil_that_is_the_target_and_an_unknown_score_are_refused() -> None:
    with pytest.raises(ValueError, match="`foil` is the target of text 1 itself"):
        Target.of([0, 1], foil=[1, 1])
    with pytest.raises(ValueError, match="`score` must be one of logit, log_prob, log_odds"):
        Target.of([0], score="probability")
    with pytest.raises(ValueError, match="`foil` is the target"):
        Target.of([PREDICTED], foil=[0]).resolved(Readout(LOGITS[:1]))
    with pytest.raises(ValueError, match="one output only"):
        Readout(LOGITS[..., :1], "identity").runner_up(Target.of([0, 0, 0]))


def test_no_value_of_several_is_the_predicted_one() -> None:
    with pytest.raises(ValueError, match="`target` must name one of the 3 values"):
        Readout(LOGITS, "identity").predicted()


def test_targets_are_cut_and_repeated_with_their_foils() -> None:
    target = Target.of([0, 1, 2], foil=[1, 2, 0], score="log_prob")
    assert target[1:].classes.tolist() == [1, 2]
    for part, classes, foils in (
        (target[[2, 0]], [2, 0], [0, 1]),
        (target.repeat(2), [0, 1, 2, 0, 1, 2], [1, 2, 0, 1, 2, 0]),
        (target.repeat_interleave(torch.tensor([2, 0, 1])), [0, 0, 2], [1, 1, 0]),
    ):
        assert part.classes.tolist() == classes
        assert part.foil is not None
        assert part.foil[:, 0].tolist() == foils
        assert part.score == "log_prob"
    assert target.plain.foil is None
    assert target.key == {"choices": [[0], [1], [2]], "foil": [[1], [2], [0]], "score": "log_prob"}


@pytest.mark.parametrize(
    ("row", "refused"),
    [
        ([0.0, torch.nan, 1.0], True),
        ([0.0, torch.inf, 1.0], True),
        ([-torch.inf, -torch.inf, -torch.inf], True),
        ([0.0, -torch.inf, 1.0], False),  # no such choice
    ],
)
def test_logits_that_are_no_numbers_are_refused_by_the_name_of_their_text(row: list[float], refused: bool) -> None:
    readout = Readout(torch.tensor([[[0.0, 1.0, 2.0]], [row]]))
    if refused:
        with pytest.raises(ValueError, match=r"logits of text 7 are .*float32"):
            readout.check_finite(lambda row: f"text {row + 6}")
    else:
        readout.check_finite(str)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_the_log_odds_of_several_questions_are_those_of_their_joint_probability(link: str) -> None:
    logits = torch.randn(6, 3, 2, dtype=torch.float64)
    target = Target(torch.tensor([[0, 1, 0]] * 5 + [[1, NO_QUESTION, NO_QUESTION]]))
    readout = Readout(logits, link)
    assert torch.allclose(readout.log_odds(target), torch.logit(readout.probability(target)))
    alone = Readout(logits[5:, :1], link).log_odds(Target.of([1]))
    assert torch.allclose(readout.log_odds(target)[5:], alone)


@pytest.mark.parametrize("shift", [-700.0, -30.0, 12.0, 30.0, 300.0])
def test_joint_log_odds_are_exact_and_have_gradients_where_p_is_nearly_0_or_1(shift: float) -> None:
    """Of two equal log-odds l: 2 l where p is tiny, l - ln 2 where it is nearly 1."""
    logits = torch.tensor([[[shift, 0.0], [shift, 0.0]]], requires_grad=True)
    joint = Readout(logits).log_odds(Target(torch.zeros(1, 2, dtype=torch.int64)))
    assert joint.item() == pytest.approx(2 * shift if shift < 0 else shift - math.log(2), rel=1e-5)
    joint.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0].item() == pytest.approx(1.0 if shift < 0 else 0.5, rel=1e-3)
