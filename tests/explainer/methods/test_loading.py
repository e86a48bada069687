"""Methods by name, folder or hub id, wrapped or not; and lists of labelled methods."""

from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.explained import ExplainedModel, Target
from explainer.explainers.folder import save_folder
from explainer.methods import METHODS, RPI, SIG, AbstractMethod, Random
from explainer.methods.best_of import BestOf
from explainer.methods.contrast import Contrast
from explainer.methods.loading import is_exported, load_method, load_methods, parse_methods, row_label
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import LORA_WARNINGS, Bound, encoded, moved, saved
from tests.families import explained

pytestmark = LORA_WARNINGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """root/explainer, exported for root/model."""
    root = tmp_path_factory.mktemp("exported")
    model = ExplainedModel.from_pretrained(saved(explained("bert"), root / "model"))
    save_folder(model, moved(model, "lora"), root / "explainer")
    return str(root / "explainer")


# METHODS


def test_the_control_comes_first_and_every_method_has_its_name() -> None:
    assert next(iter(METHODS)) == "random"
    assert all(kind.name == name for name, kind in METHODS.items())


def test_helpers_wrappers_and_trained_explainers_are_no_rows() -> None:
    assert not {BestOf, Contrast, Amortized, AbstractMethod} & set(METHODS.values())


# One method


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_loaded_by_its_name(name: str) -> None:
    method = load_method(name)
    assert type(method) is METHODS[name]
    assert load_method(method) is method


def test_settings_are_the_method_s() -> None:
    assert load_method("sig", n_steps=5) == SIG(n_steps=5)


def test_an_unknown_method_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"`method` must be one of random, .*sig.*, got 'nothing'"):
        load_method("nothing")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`settings` of method 'sig': .*steps"):
        load_method("sig", steps=3)


def test_a_folder_is_a_trained_explainer_on_its_own_model(folder: str) -> None:
    method = load_method(folder)
    assert isinstance(method, Amortized)
    assert method.explained is not None
    assert Path(str(method.explained.name)) == Path(folder).parent / "model"


def test_a_folder_is_loaded_for_the_model_that_is_explained(folder: str) -> None:
    model = ExplainedModel.from_pretrained(Path(folder).parent / "model", batch_tokens=77)
    method = load_method(folder, model)
    assert isinstance(method, Amortized)
    assert method.explained is not None
    assert method.explained is not model
    assert method.explained.batch_tokens == 77
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_a_trained_explainer_takes_no_settings(folder: str) -> None:
    with pytest.raises(ValueError, match=r"`settings` of method .*explainer': steps cannot be set from here"):
        load_method(folder, steps=3)


def test_a_method_takes_no_further_settings() -> None:
    with pytest.raises(ValueError, match="`settings` of method 'sig': n_steps cannot be set from here"):
        load_method(SIG(), n_steps=3)


def test_neither_folder_nor_hub_id_is_refused() -> None:
    with pytest.raises(ValueError, match="'nobody/no-such-explainer' is neither a folder nor a hub id"):
        load_method("nobody/no-such-explainer")


# Wrapped


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_a_foil_and_a_score(name: str) -> None:
    assert load_method(name, foil="runner_up", score="log_prob") == Contrast(METHODS[name](), "runner_up", "log_prob")
    assert load_method(name, score="log_odds") == Contrast(METHODS[name](), score="log_odds")


def test_a_foil_changes_what_is_explained() -> None:
    model = explained("bert")
    texts, target = encoded(model), Target.of([0, 1, 2, 0])
    scores = load_method("attn_lrp", foil="runner_up").attribute(model, texts, target).scores
    plain = load_method("attn_lrp").attribute(model, texts, target).scores
    assert not any(torch.allclose(one, other) for one, other in zip(scores, plain, strict=True))


def test_best_by_takes_the_best_of_the_candidates() -> None:
    method = load_method("rpi", baseline="gaussian", n_baselines=3, best_by="comprehensiveness")
    assert method == BestOf(RPI(baseline="gaussian", n_baselines=3), "comprehensiveness")


def test_best_by_needs_candidates_and_a_metric() -> None:
    with pytest.raises(ValueError, match="`settings` of method 'sig': `method` must"):
        load_method("sig", best_by="comprehensiveness")
    with pytest.raises(ValueError, match=r"`by` must be one of .*, got 'accuracy'"):
        load_method("rpi", best_by="accuracy")


def test_a_trained_explainer_refuses_a_foil_when_asked(folder: str) -> None:
    method = load_method(folder, foil=0)
    model = explained("bert")
    with pytest.raises(ValueError, match="the target asks for a contrast with a foil"):
        method.attribute(model, encoded(model), Target.of([1] * 4))


# Several by their labels


def test_a_label_is_a_name_unless_the_settings_name_the_method() -> None:
    methods = load_methods({"sig": None, "random": {"seed": 3}, "slow": {"method": "sig", "n_steps": 5}})
    assert methods == {"sig": SIG(), "random": Random(seed=3), "slow": SIG(n_steps=5)}


def test_labels_of_folders_are_loaded_for_the_model(folder: str) -> None:
    model = ExplainedModel.from_pretrained(Path(folder).parent / "model")
    methods = load_methods({"mine": {"method": folder}, "sig": {"foil": 1}}, model)
    assert isinstance(methods["mine"], Amortized)
    assert methods["sig"] == Contrast(SIG(), 1)


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
        load_methods(settings)


def test_what_must_be_known_of_a_method_stays_with_any_label() -> None:
    assert row_label("random", Random()) == "random"
    assert row_label("mine", Random()) == "mine"
    assert row_label("greedy", Bound()) == "greedy (bound)"
    assert row_label("upper", Bound()) == "upper (bound)"
    best = BestOf(RPI(baseline="gaussian", n_baselines=3), "comprehensiveness")
    assert row_label("mine", best).startswith("mine")
    assert row_label("mine", best).endswith("(best of 3 by comprehensiveness)")


def test_folders_are_called_explainer_alone_and_by_their_names_together() -> None:
    assert list(parse_methods(["sig", "runs/one"], {})) == ["sig", "explainer"]
    assert list(parse_methods(["runs/one", "runs/two", "x=runs/two"], {})) == ["one", "two", "x"]


def test_settings_go_to_their_labels() -> None:
    parsed = parse_methods(["random", "again=random"], {"again": {"seed": 3}})
    assert parsed == {"random": {"method": "random"}, "again": {"method": "random", "seed": 3}}


def test_parsed_methods_are_loaded() -> None:
    parsed = parse_methods(["random", "again=random"], {"again": {"seed": 3}})
    assert load_methods(parsed) == {"random": Random(), "again": Random(seed=3)}


def test_a_folder_whose_name_has_an_equals_sign_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    assert is_exported(str(folder))
    assert parse_methods([str(folder)], {})["lr=0.1"]["method"] == str(folder)


@pytest.mark.parametrize(
    ("items", "settings", "message"),
    [
        (["nothing"], {}, "`--methods` must be of .*, got 'nothing'"),
        (["sig", "sig"], {}, "`--methods` names 'sig' twice: give one of them another label, LABEL=sig"),
        (["sig"], {"rpi": {}}, "`--method-args` are by label, one of sig, got rpi"),
    ],
)
def test_wrong_lists_are_refused(items: list[str], settings: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_methods(items, settings)
