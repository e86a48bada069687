"""Methods by label: several settings of one method, labels of a comparison's rows."""

from pathlib import Path
from typing import Any

import pytest

from explainer.methods import SIG, Random
from explainer.methods.loading import labelled, methods_named, shown_as
from tests.explainer.tools import Bound


def test_a_label_is_a_name_unless_the_settings_name_the_method() -> None:
    found = methods_named({"sig": None, "random": {"seed": 3}, "slow": {"method": "sig", "n_steps": 5}})
    assert found == {"sig": SIG(), "random": Random(seed=3), "slow": SIG(n_steps=5)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nothing": {}}, "`method` must be one of"),
        ({"sig": {"method": "nothing"}}, "`method` must be one of"),
        ({"slow": {"method": "sig", "steps": 3}}, "`settings` of method 'sig'"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methods_named(settings)


def test_what_must_be_known_of_a_method_stays_beside_any_label() -> None:
    assert shown_as("random", Random()) == "random"
    assert shown_as("mine", Random()) == "mine"
    assert shown_as("greedy", Bound()) == "greedy (bound)"
    assert shown_as("upper", Bound()) == "upper (bound)"


def test_folders_are_called_explainer_alone_and_by_their_names_together() -> None:
    assert list(labelled(["sig", "runs/one"], {})) == ["sig", "explainer"]
    assert list(labelled(["runs/one", "runs/two", "x=runs/two"], {})) == ["one", "two", "x"]


def test_settings_go_to_their_labels() -> None:
    found = labelled(["random", "again = random".replace(" ", "")], {"again": {"seed": 3}})
    assert found == {"random": {"method": "random"}, "again": {"method": "random", "seed": 3}}


def test_a_folder_whose_name_has_an_equals_sign_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    assert labelled([str(folder)], {})["lr=0.1"]["method"] == str(folder)
