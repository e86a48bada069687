"""From an exported attributor to other folders, programs and the hub; and what cannot be exported."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from explainer.attributor import Attributor
from explainer.export import hub
from lightning_modules.cli import main
from lightning_modules.commands.card import (
    baseline_card,
    classifier_card,
    explainer_card,
    explainer_scores,
    fresh_card,
)
from lightning_modules.commands.export import export, load_training
from lightning_modules.mask import MaskTraining
from tests.explainer.attributor.test_attributor import exported
from tests.explainer.export.test_hub import StandIn
from tests.families import TEXTS

pytestmark = [
    pytest.mark.filterwarnings("ignore:You have passed exclude_modules:UserWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


def texts_file(folder: Path) -> str:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return str(path)


def test_a_merged_copy_and_programs_of_an_exported_attributor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attributor = exported(tmp_path)
    (tmp_path / "attributor" / "README.md").write_text("# its card\n")
    source, folder = ["--attributor", str(tmp_path / "attributor")], tmp_path / "out"
    files = ["--onnx", str(folder / "m.onnx"), "--pt2", str(folder / "m.pt2"), "--texts", texts_file(tmp_path)]
    main(["export", *source, "--output", str(folder), "--merge", "--int8", *files])
    assert Attributor.from_pretrained(folder)(TEXTS) == attributor(TEXTS)
    assert (folder / "README.md").read_text() == "# its card\n"
    assert {"explained", "m.onnx", "m.tokenizer.json", "m.json", "m.pt2"} <= {path.name for path in folder.iterdir()}
    told = capsys.readouterr().err
    assert "ONNX Runtime differs from PyTorch by at most" in told
    assert f"int8: on {len(TEXTS)} texts: Spearman" in told


def test_an_exported_attributor_goes_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(tmp_path)
    StandIn.root, StandIn.calls = tmp_path / "hub", []
    monkeypatch.setattr(hub, "HfApi", StandIn)
    export(attributor=str(tmp_path / "attributor"), push="me/explainer", merge=True, private=True)
    assert (tmp_path / "hub" / "me" / "explainer" / "explained" / "model.safetensors").is_file()
    assert "huggingface.co/me/explainer/commit" in capsys.readouterr().out


def test_cards_carry_the_hub_s_metadata(tmp_path: Path) -> None:
    recipe = {"explained": "someone/classifier", "base": "someone/base", "labels": ["a"], "layers": [-1]}
    checkpoint = {"hyper_parameters": recipe, "epoch": 0, "global_step": 1}
    cards = {
        "someone/classifier": explainer_card(checkpoint, "me/explainer", None, "mit"),
        "someone/base": classifier_card(checkpoint, tmp_path, "mit"),
    }
    cards_and_baseline = [*cards.items(), ("someone/classifier", baseline_card(checkpoint, tmp_path, "mit"))]
    for base, card in cards_and_baseline:
        found = yaml.safe_load(card.split("---")[1])
        assert (found["library_name"], found["license"], found["base_model"]) == ("amortex", "mit", base)
        assert len(found["tags"]) == 1


def test_a_source_and_a_goal_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Give `--ckpt CKPT`, or `--attributor DIR`"):
        export(output=tmp_path)
    with pytest.raises(ValueError, match=r"Give `--ckpt CKPT`, or `--attributor DIR`"):
        export(tmp_path / "x.ckpt", "a-folder", output=tmp_path)
    with pytest.raises(ValueError, match=r"Name what to write: `--output`, `--onnx`, `--pt2`, `--push`"):
        export(tmp_path / "x.ckpt")


def test_a_missing_or_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.ckpt"):
        export(tmp_path / "nothing.ckpt", output=tmp_path)
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"broken\.ckpt"):
        export(tmp_path / "broken.ckpt", output=tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match=r"foreign\.ckpt"):
        export(tmp_path / "foreign.ckpt", output=tmp_path)


@pytest.mark.parametrize(
    ("labels", "tag", "told"),
    [
        (["same", "different"], "text-classification", "that tells same, different apart"),
        (None, "text-generation", "that answers with one word"),
    ],
    ids=["classifier", "language model"],
)
def test_the_card_of_a_fresh_model_says_what_it_is(labels: list[str] | None, tag: str, told: str) -> None:
    recipe = {"architecture": {"model_type": "bert"}, "labels": labels}
    card = fresh_card({"hyper_parameters": recipe, "epoch": 1, "global_step": 8}, Path("planted"))
    assert yaml.safe_load(card.split("---")[1])["tags"] == [tag]
    assert f"# planted\n\nA small bert, trained from nothing, {told}." in card
    assert "2 epochs, 8 steps" in card


def saved_training(classifier: str, folder: Path, **changes: Any) -> Path:
    """A checkpoint of a side explainer that has not been trained, some entries changed."""
    settings = {"width": 8, "rank": 4, "heads": 2}
    module = MaskTraining(classifier, "side", settings, teachers={"sig": {}})
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    module.on_save_checkpoint(checkpoint)
    checkpoint |= {"pytorch-lightning_version": "2.6.6"}
    for name, value in changes.items():
        checkpoint[name] = {**checkpoint[name], **value} if isinstance(value, dict) else value
    torch.save(checkpoint, folder / "x.ckpt")
    return folder / "x.ckpt"


def test_a_checkpoint_imports_nothing_that_it_names(
    classifier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "evilmod.py").write_text(f"open({str(marker)!r}, 'w')\nX = print\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"it is of 'evilmod\.X', which is none of lightning_modules\.baseline"):
        load_training(saved_training(classifier, tmp_path, amortex_module="evilmod.X"))
    module, _ = load_training(saved_training(classifier, tmp_path, hyper_parameters={"_instantiator": "evilmod.X"}))
    assert isinstance(module, MaskTraining)
    assert not marker.exists()
    assert "evilmod" not in sys.modules


STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "a huge width": ({"width": 20_000}, "`width` is 20000, and the saved weights have 8"),
    "a huge depth": ({"depth": 20_000}, "`depth` is 20000, and the saved weights have 2"),
    "another setting": ({"colour": 1}, "The settings of the side explainer are"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_settings_that_the_weights_do_not_have_are_refused(case: str, classifier: str, tmp_path: Path) -> None:
    values, told = STRANGE[case]
    settings = {"explainer_settings": {"width": 8, "rank": 4, "heads": 2, **values}}
    with pytest.raises(ValueError, match=told):
        load_training(saved_training(classifier, tmp_path, hyper_parameters=settings))


def test_a_checkpoint_needs_none_of_the_explainers_that_it_learned_from(classifier: str, tmp_path: Path) -> None:
    gone = {"pretrained": "gone", "teachers": {"other": {"method": "gone/too"}}, "teacher_weights": {"other": 2.0}}
    module, checkpoint = load_training(saved_training(classifier, tmp_path, hyper_parameters=gone))
    assert checkpoint["hyper_parameters"]["pretrained"] == "gone"  # the card still says it
    assert module.state_dict().keys() == checkpoint["state_dict"].keys()
    assert all(torch.equal(checkpoint["state_dict"][name], value) for name, value in module.state_dict().items())


def test_a_checkpoint_without_numbers_is_refused(classifier: str, tmp_path: Path) -> None:
    weights = {"explainer.label.shared": torch.full((8,), torch.inf)}
    with pytest.raises(ValueError, match=r"'explainer\.label\.shared' holds NaN or infinite numbers"):
        load_training(saved_training(classifier, tmp_path, state_dict=weights))


def test_an_unknown_hyper_parameter_is_refused(classifier: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.ckpt` is missing, broken, or no checkpoint"):
        load_training(saved_training(classifier, tmp_path, hyper_parameters={"colour": 1}))


def test_wrong_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--dtype"):
        export(tmp_path / "x.ckpt", output=tmp_path, dtype="int4")
    with pytest.raises(ValueError, match="--scores"):
        export(tmp_path / "x.ckpt", output=tmp_path, scores=tmp_path / "none.json")


def test_the_scores_of_responses_have_their_own_columns() -> None:
    values = {name: {"mean": 0.5, "ci95": [0.25, 0.75]} for name in ("drop_at_1", "drop_at_3", "lds")}
    lines = explainer_scores([{"method": "attn_lrp", "n": 7, "forward_equivalents": 3.0, **values}])
    assert any("drop@1 ↑ | drop@3 ↑ | LDS ↑" in line for line in lines)
    assert "| attn_lrp | " + " | ".join(["0.500 [0.250, 0.750]"] * 3) + " | 3.0 |" in lines
