"""Training mask explainers: every variant learns, checkpoints hold what is trained, and runs resume exactly."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn.utils.rnn import pad_sequence

from explainer import Attributor
from explainer.explained import ExplainedModel, TokenBatch
from explainer.explainers.losses import correlation_matching
from explainer.explainers.side import states_of
from explainer.methods.trained.amortized import Amortized
from lightning_modules.cli import main
from lightning_modules.commands.export import load_training
from lightning_modules.mask import MaskTraining, _mixed_targets, _Rows, kept_states
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
    "teachers in turn": {"teachers": {"sig": {}, "attn_lrp": {}}, "mixing": "alternate"},
}


SETTINGS: dict[str, dict[str, int]] = {
    "lora": {"rank": 2},
    "separate": {},
    "side": {"width": 8, "rank": 4, "heads": 2},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("explainer", SETTINGS)
def test_every_recipe_trains_the_explainer_and_nothing_else(
    explainer: str, recipe: dict[str, Any], configuration: dict[str, Any], tmp_path: Path
) -> None:
    arguments = configuration["model"]["init_args"]
    arguments |= recipe | {"explainer": explainer, "explainer_settings": SETTINGS[explainer]}
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


@pytest.mark.parametrize("explainer", SETTINGS)
def test_exported_attributor_equals_the_checkpoint_to_the_bit(
    explainer: str, configuration: dict[str, Any], files: dict[str, str], tmp_path: Path
) -> None:
    words = [len(json.loads(line)["text"].split()) for line in Path(files["train"]).read_text().splitlines()]
    longest = max(words) + 2  # a token a word, and the two special ones
    configuration["model"]["init_args"] |= {
        "explainer": explainer,
        "explainer_settings": SETTINGS[explainer],
        "seed": 1,
    }
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "exported")])
    module, _ = load_training(checkpoint(tmp_path))
    texts = ["the film was great fun", "bad"]
    assert isinstance(module, MaskTraining)
    expected = [explanation.scores for explanation in module.attributor(texts)]
    loaded = Attributor.from_pretrained(tmp_path / "exported")
    found = [e.scores for e in loaded(texts)]
    assert found == expected
    assert isinstance(loaded.method, Amortized)
    assert loaded.method.explainer.longest_text == longest
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


TWO = {"sig": {}, "quadrature": {"method": "sig", "n_steps": 2}}


@pytest.mark.parametrize("mixing", ["mean", "alternate"])
def test_agreement_with_every_teacher_is_logged(mixing: str, configuration: dict[str, Any], tmp_path: Path) -> None:
    """Two teachers of one method with different settings."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    configuration["model"]["init_args"] |= {"teachers": TWO, "mixing": mixing}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    for label in TWO:
        values = [event.value for event in events.Scalars(f"train/agreement_{label}")]
        assert len(values) == 6
        assert all(-1 <= value <= 1 for value in values)
        assert len(events.Scalars(f"validation/spearman_{label}")) == 2


def rows(teachers: dict[str, torch.Tensor]) -> _Rows:
    """Two texts of five tokens, all of them scorable."""
    ids: torch.Tensor = torch.ones(2, 5, dtype=torch.long)
    batch = TokenBatch(ids, ids, ids.bool())
    return _Rows(batch, torch.zeros(2, dtype=torch.long), torch.zeros(2, 3), teachers)


def training(classifier: str, **arguments: Any) -> MaskTraining:
    return MaskTraining(classifier, explainer_settings={"rank": 2}, teachers={"sig": {}, "random": {}}, **arguments)


def test_the_mean_weighs_standardized_teachers(classifier: str) -> None:
    known = rows({"sig": torch.randn(2, 5), "random": torch.randn(2, 5)})
    scores = torch.randn(2, 5)
    for weights, share in ((None, 0.5), ({"sig": 3.0, "random": 1.0}, 0.75)):
        mixed = share * known.teachers["sig"] + (1 - share) * known.teachers["random"]
        centred = [values - values.mean(dim=1, keepdim=True) for values in (scores, mixed)]
        correlation = (centred[0] * centred[1]).sum(dim=1) / (centred[0].norm(dim=1) * centred[1].norm(dim=1))
        found = training(classifier, teacher_weights=weights)._matching(scores, known)
        assert found.item() == pytest.approx(1 - correlation.mean().item(), abs=1e-6)


def test_alternating_teachers_take_turns_and_count_by_their_weights(
    classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = rows({"sig": torch.randn(2, 5), "random": torch.randn(2, 5)})
    module = training(classifier, mixing="alternate", teacher_weights={"sig": 3.0, "random": 1.0})
    found = []
    for step in range(4):
        monkeypatch.setattr(MaskTraining, "global_step", step)
        found.append(module._matching(known.teachers["sig"], known).item())
    # The scores are those of the first teacher: nothing is left to match on its turns.
    assert found[0] == found[2] == pytest.approx(0.0, abs=1e-6)
    expected = correlation_matching(known.teachers["sig"], known.teachers["random"], known.batch.scorable)
    assert found[1] == found[3] == pytest.approx(0.5 * expected.item())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"explainer": "front"}, "`explainer` must be one of"),
        ({"keep_states": True}, "`keep_states` is for `explainer: side`"),
        ({"explainer": "side", "keep_states": True, "kept": 1.0}, "`keep_states` is for `explainer: side`"),
        ({"teachers": {"no/such/folder": {}}}, "'no/such/folder' is neither a folder nor a hub id"),
        ({"teachers": None}, "there are no `teachers`"),
        ({"teachers": {"no_method": {}}}, "`method` must be one of"),
        ({"teachers": {"fast": {"method": "sig", "steps": 3}}}, "`settings` of method 'sig'"),
        ({"mixing": "both"}, "`mixing` must be"),
        ({"teacher_weights": {"attn_lrp": 1.0}}, "`teacher_weights` must have one weight for each of"),
        ({"teacher_weights": {"sig": 0.0}}, "`teacher_weights` must be positive"),
        ({"matching": [[0.5, 1], [0, 1]]}, "`matching` must have progress rising"),
        ({"sparse": -1.0}, "`sparse` must not be negative"),
        ({"warmup": 1.5}, "`warmup` is a share"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str, classifier: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskTraining(**({"explained": classifier, "teachers": {"sig": {}}} | arguments))


SIDE = {"explainer": "side", "explainer_settings": SETTINGS["side"], "other_class": 0.5}


def test_kept_states_train_as_states_read_anew_do(configuration: dict[str, Any], tmp_path: Path) -> None:
    """Half precision is the only difference; and no pass of the explained model is left in a training step."""
    found = []
    for keep in (False, True):
        configuration["model"]["init_args"] |= SIDE | {"keep_states": keep}
        main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
        found.append(torch.load(checkpoint(tmp_path), weights_only=True)["state_dict"])
        checkpoint(tmp_path).unlink()
    for name, tensor in found[0].items():
        assert torch.allclose(found[1][name], tensor, atol=2e-2), name


def test_kept_states_are_the_explained_model_s_own(classifier: str) -> None:
    explained = ExplainedModel.from_pretrained(classifier)
    texts = explained.encode(["the film was great fun", "bad"])
    for text, kept in zip(texts, kept_states(explained, texts), strict=True):
        _, states = states_of(explained, explained.collate([text]))
        assert kept.dtype == torch.float16
        assert torch.allclose(kept.float(), torch.stack(states, dim=2)[0], atol=1e-2)


def test_a_step_on_kept_states_runs_no_pass(configuration: dict[str, Any], tmp_path: Path) -> None:
    configuration["model"]["init_args"] |= SIDE | {"keep_states": True}
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    module, _ = load_training(checkpoint(tmp_path))
    assert isinstance(module, MaskTraining)
    texts = module.explained.encode(["the film was great fun", "bad"])
    batch, target = module.explained.collate(texts), torch.tensor([1, 2])
    expected = module(batch, target)
    states = list(pad_sequence(kept_states(module.explained, texts), batch_first=True).unbind(dim=2))
    module.explained.model.register_forward_pre_hook(lambda *_: pytest.fail("a pass of the explained model"))
    assert torch.allclose(module(batch, target, states), expected, atol=1e-2)


def test_an_exported_explainer_teaches(configuration: dict[str, Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "teacher")])
    checkpoint(tmp_path).unlink()
    teacher = {"lora": {"method": str(tmp_path / "teacher")}}
    configuration["model"]["init_args"] |= SIDE | {"teachers": teacher, "keep_states": True, "learning_rate": 3e-3}
    configuration["trainer"] |= {"max_epochs": 15}
    configuration["trainer"]["logger"]["init_args"]["name"] = "student"
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    events = EventAccumulator(str(tmp_path / "student")).Reload()
    losses = [event.value for event in events.Scalars("train/matching")]
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


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
