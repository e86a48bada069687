"""The options of a call: what they ask of the task, and what does not go together."""

from dataclasses import fields

import pytest

from explainer.attributor.options import CallOptions, Options
from explainer.explained import PREDICTED, RUNNER_UP
from tests.families import explained


def asked(n: int = 2, **options: object) -> list[list[int]]:
    targets = CallOptions.of(**options).asked(explained("bert").task, n)  # type: ignore[arg-type]
    return [target.classes.tolist() for target in targets]


def test_one_target_per_text_or_several_for_each() -> None:
    assert asked() == [[PREDICTED, PREDICTED]]
    assert asked(target=[0, "LABEL_2"]) == [[0, 2]]
    assert asked(targets="all") == [[0, 0], [1, 1], [2, 2]]
    assert asked(1, targets=[2, "predicted"]) == [[2], [PREDICTED]]
    assert asked(0, targets="all") == [[], [], []]


def test_every_target_has_the_foil_and_the_score() -> None:
    task = explained("bert").task
    one = CallOptions(target="LABEL_1", foil=0, score="log_odds")
    several = CallOptions(targets=[1, 2], foil=0, score="log_odds")
    for target in [*one.asked(task, 2), *several.asked(task, 2)]:
        assert target.foil is not None
        assert target.foil.tolist() == [[0], [0]]
        assert target.score == "log_odds"
    (target,) = CallOptions(foil="runner_up").asked(task, 1)
    assert target.foil is not None
    assert target.foil.tolist() == [[RUNNER_UP]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1, "targets": "all"}, "`target` and `targets` exclude each other"),
        ({"targets": "LABEL_1"}, "`targets` must be 'all' or a list"),
        ({"targets": []}, "`targets` must be 'all' or a list"),
        ({"targets": ["LABEL_7"]}, "`target` must be 'predicted', one of the labels"),
        ({"target": 1, "foil": 1}, "`foil` is the target of text 0 itself"),
        ({"foil": "LABEL_7"}, "`foil` must be 'runner_up', one of the labels"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked(**options)


def test_the_types_of_a_call_name_every_option() -> None:
    """The typed keyword arguments and the options are two lists of one thing."""
    names = {field.name for field in fields(CallOptions)}
    assert set(Options.__annotations__) == names - {"targets"} | {"min_faithfulness"}
