"""Training the learned baseline: both losses learn, the average is kept and exported, runs resume exactly."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from explainer.explained import ExplainedModel
from explainer.methods import RPI
from explainer.methods.rpi.baselines import Learned
from lightning_modules.baseline import BaselineTraining
from lightning_modules.cli import main
from lightning_modules.commands.export import load_training
from tests.explainer.tools import batch_of, predicted, saved
from tests.families import explained
from tests.lightning_modules.conftest import write
from tests.lightning_modules.test_mask import checkpoint


@pytest.fixture
def baselines(configuration: dict[str, Any]) -> dict[str, Any]:
    """Two epochs of a small diffusion."""
    configuration["model"] = {
        "class_path": "lightning_modules.baseline.BaselineTraining",
        "init_args": {"explained": configuration["model"]["init_args"]["explained"], "layers": [0, -1]}
        | {"width": 8, "depth": 2, "n_texts": 4},
    }
    return configuration


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(explained("llama"), tmp_path_factory.mktemp("llama"))


def fit(configuration: dict[str, Any], tmp_path: Path, *arguments: str) -> EventAccumulator:
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml"), *arguments])
    return EventAccumulator(str(tmp_path / "run")).Reload()


def test_everything_is_logged_and_the_explained_model_stays(baselines: dict[str, Any], tmp_path: Path) -> None:
    events = fit(baselines, tmp_path)
    assert len(events.Scalars("train/denoising")) == len(events.Scalars("train/neutrality")) == 6
    names = ["neutrality", "own_neutrality", "distance", "row_sum_error", "forbidden"]
    values = {name: [e.value for e in events.Scalars(f"validation/{name}")] for name in names}
    assert all(len(logged) == 2 for logged in values.values())
    assert max(values["row_sum_error"]) < 1e-5
    assert max(values["forbidden"]) == 0
    for name in ("learned", "gaussian", "all_reference"):
        assert len(events.Scalars(f"validation_faithfulness/{name}")) == 2
    assert {"validation/layer_0", "validation/layer_1"} <= set(events.Tags()["images"])
    module, saved = load_training(checkpoint(tmp_path))
    assert all(name.startswith("diffusion.") for name in saved["state_dict"])
    assert isinstance(module, BaselineTraining)
    text = ["the film was great fun"]
    model = ExplainedModel.from_pretrained(baselines["model"]["init_args"]["explained"])
    assert torch.equal(module.explained(batch_of(module.explained, text)).logits, model(batch_of(model, text)).logits)


def test_without_neutrality_there_is_none(baselines: dict[str, Any], tmp_path: Path) -> None:
    baselines["model"]["init_args"]["neutrality"] = 0.0
    assert "train/neutrality" not in fit(baselines, tmp_path).Tags()["scalars"]


def test_the_class_s_own_objective_runs(baselines: dict[str, Any], tmp_path: Path) -> None:
    """-log(1 - p_c), about ln 1.5 where three classes are nearly even."""
    baselines["model"]["init_args"]["objective"] = "class"
    losses = [event.value for event in fit(baselines, tmp_path).Scalars("train/neutrality")]
    assert all(abs(loss - 0.405) < 0.1 for loss in losses)


@pytest.mark.parametrize(("loss", "share"), [("denoising", 0.7), ("neutrality", 0.9), ("additivity", 0.9)])
def test_each_loss_falls(loss: str, share: float, baselines: dict[str, Any], tmp_path: Path) -> None:
    """The tiny model's prediction hardly moves with its attention: neutrality needs a large weight here."""
    baselines["trainer"]["max_epochs"] = 30
    weights = {"denoising": 0.0, "neutrality": 0.0, "additivity": 0.0, loss: 1e5 if loss == "neutrality" else 1.0}
    reading = {"formula": "difference"}
    baselines["model"]["init_args"] |= {"learning_rate": 5e-3, "width": 16, "reading": reading, **weights}
    events = fit(baselines, tmp_path, "--trainer.check_val_every_n_epoch", "30")
    losses = [event.value for event in events.Scalars(f"train/{loss}")]
    assert sum(losses[-10:]) < share * sum(losses[:10])


def test_a_resumed_run_ends_where_an_uninterrupted_one_ends(baselines: dict[str, Any], tmp_path: Path) -> None:
    baselines["trainer"]["max_epochs"] = 4
    fit(baselines, tmp_path)
    expected = torch.load(checkpoint(tmp_path), weights_only=True)
    stop = "[{class_path: tests.lightning_modules.test_mask.StopAfterSecondEpoch}]"
    fit(baselines, tmp_path, "--trainer.callbacks", stop)
    half = tmp_path / "run" / "checkpoints" / "last-v1.ckpt"  # the folder has a whole run already
    assert torch.load(half, weights_only=True)["epoch"] == 1
    fit(baselines, tmp_path, "--ckpt_path", str(half))
    resumed = torch.load(half, weights_only=True)
    assert resumed["global_step"] == expected["global_step"]
    for part in ("state_dict", "average"):
        for name, tensor in expected[part].items():
            assert torch.equal(resumed[part][name], tensor), name


def test_the_exported_baseline_is_the_average_to_the_bit(baselines: dict[str, Any], tmp_path: Path) -> None:
    fit(baselines, tmp_path)
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "exported")])
    module, saved = load_training(checkpoint(tmp_path))
    assert isinstance(module, BaselineTraining)
    loaded = Learned.load(tmp_path / "exported")
    assert loaded == module.baseline
    for name, tensor in loaded.diffusion.state_dict().items():
        assert torch.equal(tensor, saved["average"][name])
    trained = {name.removeprefix("diffusion."): tensor for name, tensor in saved["state_dict"].items()}
    assert any(not torch.equal(tensor, saved["average"][name]) for name, tensor in trained.items())
    model = module.explained
    batch = batch_of(model)
    scores = RPI(baseline=str(tmp_path / "exported")).scores(model, batch, predicted(model, batch))
    assert scores.isfinite().all()
    assert "exported" in (tmp_path / "exported" / "README.md").read_text()
    half = tmp_path / "half"
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(half), "--dtype", "float16"])
    weights = {
        name: load_file(folder / "model.safetensors")
        for name, folder in (("whole", tmp_path / "exported"), ("half", half))
    }
    for name, _ in loaded.diffusion.named_parameters():
        assert torch.equal(weights["half"][name], weights["whole"][name].half())


@pytest.mark.parametrize("task", ["multi_label", "regression"])
def test_a_baseline_of_every_task_is_trained(
    task: str, models: dict[str, str], baselines: dict[str, Any], tmp_path: Path
) -> None:
    baselines["model"]["init_args"] |= {"explained": models[task], "additivity": 1.0}
    events = fit(baselines, tmp_path)
    for name in (
        "train/neutrality",
        "train/additivity",
        "validation/own_neutrality",
        "validation_faithfulness/learned",
    ):
        values = [event.value for event in events.Scalars(name)]
        assert values
        assert all(value == value for value in values)
    assert min(event.value for event in events.Scalars("train/neutrality")) >= 0


def test_settings_of_the_diffusion_reach_it_and_the_checkpoint(baselines: dict[str, Any], tmp_path: Path) -> None:
    baselines["model"]["init_args"] |= {"prediction": "eps", "n_timesteps": 50, "use_hidden": False}
    fit(baselines, tmp_path)
    module, _ = load_training(checkpoint(tmp_path))
    assert isinstance(module, BaselineTraining)
    expected = {"width": 8, "depth": 2, "prediction": "eps", "n_timesteps": 50, "use_hidden": False}
    assert {name: module.diffusion.settings[name] for name in expected} == expected


def test_a_decoder_s_causality_is_exact(baselines: dict[str, Any], llama: str, tmp_path: Path) -> None:
    baselines["model"]["init_args"]["explained"] = llama
    events = fit(baselines, tmp_path)
    assert [event.value for event in events.Scalars("validation/forbidden")] == [0, 0]
    main(["export", "--ckpt", str(checkpoint(tmp_path)), "--output", str(tmp_path / "exported")])
    model = ExplainedModel.from_pretrained(llama)
    batch = batch_of(model)
    assert RPI(baseline=str(tmp_path / "exported")).scores(model, batch, predicted(model, batch)).isfinite().all()


def test_an_objective_without_a_meaning_for_a_regression_is_refused(models: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="`objective: class` needs probabilities"):
        BaselineTraining(models["regression"], objective="class")


def test_the_average_moves_slower_than_the_weights(classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = BaselineTraining(classifier, width=8, depth=1, decay=0.75)
    before = copy.deepcopy(module.average.state_dict())
    for parameter in module.diffusion.parameters():
        parameter.data.add_(1.0)
    for step, share in ((0, 0.9), (1000, 0.25)):
        module.average.load_state_dict(before)
        monkeypatch.setattr(BaselineTraining, "global_step", step)
        with torch.no_grad():
            module.on_train_batch_end()
        for name, parameter in module.average.named_parameters():
            assert torch.allclose(parameter, before[name] + share, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"n_variants": 0}, {"decay": 1.0}])
def test_wrong_arguments_are_named(arguments: dict[str, Any], classifier: str) -> None:
    with pytest.raises(ValueError, match="`n_variants` must be at least 1 and `decay` in"):
        BaselineTraining(classifier, **arguments)
    for weight in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="`neutrality` must be finite and not negative"):
            BaselineTraining(classifier, neutrality=weight)
    with pytest.raises(ValueError, match="weights must not all be 0"):
        BaselineTraining(classifier, denoising=0.0, neutrality=0.0)
    with pytest.raises(ValueError, match="`objective` must be"):
        BaselineTraining(classifier, objective="both")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'colour'"):
        BaselineTraining(classifier, colour="red")
    with pytest.raises(ValueError, match="`layer` must lie between"):
        BaselineTraining(classifier, layers=[5])
