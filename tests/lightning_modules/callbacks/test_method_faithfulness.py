"""Methods and the explainer in training: level lines, the explainer's own, figures, and nothing disturbed."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from explainer.explained import Attributions, ExplainedModel
from explainer.faithfulness.measures import faithfulness, summary
from explainer.methods import METHODS, SIG
from explainer.methods.loading import load_method
from lightning_modules.callbacks import MethodFaithfulness
from lightning_modules.callbacks.method_faithfulness import evaluating
from lightning_modules.cli import main
from lightning_modules.data.text import TextData
from tests.lightning_modules.conftest import write

METHODS_GIVEN = {"sig": {}, "seeded": {"method": "random", "seed": 3}}


def train(configuration: dict[str, Any], tmp_path: Path, **arguments: Any) -> EventAccumulator:
    """Train two epochs of three steps; what was logged."""
    configuration["trainer"]["callbacks"] = [
        {
            "class_path": "lightning_modules.callbacks.MethodFaithfulness",
            "init_args": {"methods": METHODS_GIVEN, "n_texts": 5, "n_shown": 2} | arguments,
        }
    ]
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    return EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0}).Reload()


@pytest.mark.parametrize(
    ("interval", "steps"),
    [
        ({}, [0, 3, 6]),
        ({"every_n_epochs": 2}, [0, 6]),
        ({"every_n_epochs": 0, "every_n_steps": 2}, [0, 2, 4, 6]),
        ({"every_n_epochs": 1, "every_n_steps": 2}, [0, 2, 3, 4, 6]),
    ],
    ids=["every epoch", "every second epoch", "by steps", "both"],
)
def test_lines_are_logged_at_their_intervals(
    interval: dict[str, int], steps: list[int], configuration: dict[str, Any], tmp_path: Path
) -> None:
    events = train(configuration, tmp_path, **interval)
    for label in ("sig", "seeded", "explainer"):
        assert [event.step for event in events.Scalars(f"validation_faithfulness/{label}")] == steps
    assert [image.step for image in events.Images("validation_faithfulness/heatmaps")] == steps


def test_a_method_s_line_is_level_at_its_faithfulness_and_the_explainer_s_moves(
    configuration: dict[str, Any], files: dict[str, str], classifier: str, tmp_path: Path
) -> None:
    configuration["model"]["init_args"]["learning_rate"] = 0.05
    events = train(configuration, tmp_path)
    data = TextData(files=files)
    data.setup()
    model = ExplainedModel.from_pretrained(classifier)
    texts = model.encode(data.examples("validation", list(range(5))).texts)
    target = model.predicted(texts)
    for label, method in (("sig", load_method("sig")), ("seeded", load_method("random", seed=3))):
        expected = summary(faithfulness(model, method.attribute(model, texts, target))).mean()
        values = [event.value for event in events.Scalars(f"validation_faithfulness/{label}")]
        assert values == pytest.approx([expected.item()] * 3, abs=1e-6)
    assert len({event.value for event in events.Scalars("validation_faithfulness/explainer")}) > 1


def test_methods_are_scored_once(
    configuration: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Counted(SIG):
        def attribute(self, *arguments: Any, **options: Any) -> Attributions:
            calls.append(1)
            return super().attribute(*arguments, **options)

    monkeypatch.setitem(METHODS, "counted", Counted)
    train(configuration, tmp_path, methods={"counted": {}}, every_n_steps=1)
    assert len(calls) == 1


def test_the_training_is_what_it_is_without_the_callback(configuration: dict[str, Any], tmp_path: Path) -> None:
    configuration["model"]["init_args"]["explainer_settings"] = {"rank": 2, "dropout": 0.3}
    train(configuration, tmp_path, every_n_steps=1)
    watched = tmp_path / "run" / "checkpoints" / "last.ckpt"
    state = torch.load(watched, weights_only=True)["state_dict"]
    watched.unlink()
    configuration["trainer"].pop("callbacks")
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    alone = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(state[name], alone[name]) for name in alone)


def test_every_part_returns_to_its_own_mode() -> None:
    module = LightningModule()
    module.one, module.other = torch.nn.Dropout(), torch.nn.Dropout().eval()
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert (module.training, module.one.training, module.other.training) == (True, True, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": {"no_method": {}}}, "`method` must be one of"),
        ({"n_texts": 0}, "`n_texts` must be at least 1"),
        ({"every_n_epochs": 0}, "would never be measured"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MethodFaithfulness(**arguments)


def test_another_module_is_refused() -> None:
    with pytest.raises(ValueError, match="belongs to the training of a mask explainer"):
        MethodFaithfulness().on_fit_start(cast(Trainer, None), LightningModule())
