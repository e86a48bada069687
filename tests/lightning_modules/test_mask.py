"""Training mask explainers: every variant learns, checkpoints hold what is trained, and runs resume exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from explainer import Attributor
from lightning_modules.cli import main
from lightning_modules.export import load_training
from lightning_modules.mask import MaskTraining, _mixed_targets
from tests.lightning_modules.conftest import write


class StopAfterSecondEpoch(Callback):
    """Ends a run as an interruption would: after the checkpoint of its second epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 1


def checkpoint(tmp_path: Path) -> Path:
    return next((tmp_path / "run" / "checkpoints").glob("*.ckpt"))


RECIPES: dict[str, dict[str, Any]] = {
    "matching alone": {},
    "aml alone": {"teachers": None, "matching": 0.0, "kept": 1.0, "destroyed": 1.0, "sparse": 0.3},
    "in sequence": {"matching": [[0, 1], [0.5, 1], [0.5, 0]], "kept": [[0, 0], [0.5, 0], [0.5, 1]]},
    "two teachers, any class": {"teachers": {"sig": {}, "attn_lrp": {}}, "other_class": 0.5},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("explainer", ["lora", "separate"])
def test_every_recipe_trains_the_explainer_and_nothing_else(
    explainer: str, recipe: dict[str, Any], configuration: dict[str, Any], tmp_path: Path
) -> None:
    arguments = configuration["model"]["init_args"]
    arguments |= recipe | {"explainer": explainer}
    if explainer == "separate":
        arguments["explainer_settings"] = {}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    module, saved = load_training(checkpoint(tmp_path))
    assert isinstance(module, MaskTraining)
    untrained = MaskTraining(**{k: v for k, v in module.hparams.items() if not k.startswith("_")})
    trained = module.explainer.trained(module.explained)
    before = untrained.explainer.trained(untrained.explained)
    assert set(saved["state_dict"]) == set(module.state_dict())
    assert len(saved["state_dict"]) == len(trained)
    moved = [name for name in trained if not torch.equal(trained[name], before[name])]
    assert len(moved) > len(trained) / 2
    batch = module.explained.collate(module.explained.encode(["the film was great fun"]))
    assert torch.equal(module.explained(batch), untrained.explained(batch))


def test_a_checkpoint_loads_with_weights_only_and_holds_no_frozen_weight(
    configuration: dict[str, Any], tmp_path: Path
) -> None:
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    saved = torch.load(checkpoint(tmp_path), weights_only=True)
    assert saved["state_dict"]
    assert all("lora_" in name or name.startswith("explainer.") for name in saved["state_dict"])


def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(configuration: dict[str, Any], tmp_path: Path) -> None:
    """Same batches, same learning rates, same optimizer state: equal to the bit."""
    configuration["trainer"]["max_epochs"] = 4
    whole = write(configuration, tmp_path / "whole.yaml")
    main(["fit", "--config", whole])
    expected = torch.load(checkpoint(tmp_path), weights_only=True)
    checkpoint(tmp_path).unlink()
    stop = ["--trainer.callbacks", "[{class_path: tests.lightning_modules.test_mask.StopAfterSecondEpoch}]"]
    main(["fit", "--config", whole, *stop])
    half = checkpoint(tmp_path)
    assert torch.load(half, weights_only=True)["epoch"] == 1
    main(["fit", "--config", whole, "--ckpt_path", str(half)])
    half.unlink()
    resumed = torch.load(checkpoint(tmp_path), weights_only=True)
    assert resumed["global_step"] == expected["global_step"]
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], tensor), name


def test_exported_attributor_equals_the_checkpoint_to_the_bit(configuration: dict[str, Any], tmp_path: Path) -> None:
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "exported")])
    module, _ = load_training(checkpoint(tmp_path))
    texts = ["the film was great fun", "bad"]
    assert isinstance(module, MaskTraining)
    expected = [explanation.scores for explanation in module.attributor(texts)]
    found = [e.scores for e in Attributor.from_pretrained(tmp_path / "exported")(texts)]
    assert found == expected
    assert any(score != 0 for score in found[0])
    assert "exported" in (tmp_path / "exported" / "README.md").read_text()


def test_matching_learns_its_teacher(configuration: dict[str, Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    configuration["trainer"]["max_epochs"] = 15
    configuration["model"]["init_args"] |= {"explainer": "separate", "explainer_settings": {}, "learning_rate": 3e-3}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    losses = [event.value for event in events.Scalars("train/matching")]
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    for name in ("aopc_comprehensiveness", "aopc_sufficiency", "faithfulness", "spearman_sig"):
        assert len(events.Scalars(f"validation/{name}")) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"explainer": "side"}, "`explainer` must be one of"),
        ({"teachers": None}, "there are no `teachers`"),
        ({"teachers": {"lime": {}}}, "`method` must be one of"),
        ({"matching": [[0.5, 1], [0, 1]]}, "`matching` must have progress rising"),
        ({"sparse": -1.0}, "`sparse` must not be negative"),
        ({"warmup": 1.5}, "`warmup` is a share"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str, classifier: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskTraining(**({"explained": classifier, "teachers": {"sig": {}}} | arguments))


def test_a_schedule_that_leaves_nothing_to_learn_from_is_refused(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration["model"]["init_args"]["matching"] = [[0, 1], [0.5, 1], [0.5, 0]]
    with pytest.raises(SystemExit):
        main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    assert "Every loss weight is 0 at progress 0.50" in capsys.readouterr().err


def test_training_starts_from_an_exported_explainer(configuration: dict[str, Any], tmp_path: Path) -> None:
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "exported")])
    module, _ = load_training(checkpoint(tmp_path))
    arguments = {key: value for key, value in module.hparams.items() if not key.startswith("_")}
    again = MaskTraining(**arguments | {"pretrained": str(tmp_path / "exported")})
    for name, tensor in module.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_other_classes_are_drawn_at_their_share_and_never_the_predicted_one() -> None:
    probabilities = torch.rand(3000, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    predicted = probabilities.argmax(dim=1)
    assert torch.equal(_mixed_targets(probabilities, 0.0, seed=0), predicted)
    mixed = _mixed_targets(probabilities, 0.3, seed=0)
    assert abs((mixed != predicted).float().mean().item() - 0.3) < 0.03
    assert set(((mixed - predicted) % 4).tolist()) == {0, 1, 2, 3}
