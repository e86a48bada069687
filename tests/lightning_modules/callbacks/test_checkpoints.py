"""`best.ckpt` and `last.ckpt`: the highest value of all epochs, and the last one, whatever was interrupted."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_modules.base import TrainingModule
from lightning_modules.callbacks.checkpoints import Best, use_checkpoints
from lightning_modules.checkpoint_files import CheckpointFiles, read_checkpoint


@dataclass
class Batch:
    index: list[int]


def batches() -> DataLoader:
    return DataLoader([Batch([0, 1]), Batch([2])], batch_size=None, generator=torch.Generator())  # type: ignore[arg-type]


class Toy(TrainingModule):
    """A layer with dropout; the validation gives the values that the test wants, one per epoch."""

    best_by = "validation/value"

    def __init__(self, values: list[float], broken_at: int | None = None, gradient: float = 0.0) -> None:
        super().__init__(learning_rate=0.1, weight_decay=0.0, warmup=0.0)
        self.layer, self.dropout = nn.Linear(8, 8), nn.Dropout(0.5)
        self.values, self.broken_at, self.gradient = values, broken_at, gradient

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.dropout(self.layer(torch.ones(2, 8))).square().sum()
        if self.gradient and self.current_epoch == 1:
            loss = loss + self.layer.weight.abs().sum().sub(self.layer.weight.abs().sum().detach()).sqrt()
        return loss / 0 if self.global_step == self.broken_at else loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("validation/value", self.values[self.current_epoch], batch_size=1)


class Stop(Callback):
    """Ends a run after its second epoch, as an interruption does."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == 1


def fit(folder: Path, module: Toy, resumed: Path | None = None, callbacks: list[Callback] | None = None) -> Path:
    """Train to the end of the values; the folder of the checkpoints."""
    trainer = Trainer(
        max_epochs=len(module.values),
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
    )
    use_checkpoints(trainer)
    trainer.fit(module, batches(), batches(), ckpt_path=resumed)
    return folder / "checkpoints"


def step(path: Path) -> int:
    return read_checkpoint(path)["global_step"]


def test_last_is_the_last_and_best_the_best(tmp_path: Path) -> None:
    folder = fit(tmp_path, Toy([0.1, 0.3, 0.2, 0.0]))
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (step(folder / "best.ckpt"), step(folder / "last.ckpt")) == (4, 8)


def test_the_best_of_a_metric_that_should_be_low_is_the_lowest(tmp_path: Path) -> None:
    module = Toy([0.1, -0.3, -0.2, 0.0])
    module.higher_is_better = False
    assert step(fit(tmp_path, module) / "best.ckpt") == 4


@pytest.mark.parametrize("place", ["the same folder", "another folder", "a moved folder"])
@pytest.mark.parametrize("later", [0.2, 0.4])
def test_a_resumed_run_keeps_the_best_of_all_epochs(place: str, later: float, tmp_path: Path) -> None:
    values = [0.1, 0.3, later, 0.0]
    first = fit(tmp_path / "one", Toy(values), callbacks=[Stop()])
    if place == "a moved folder":
        first = first.rename(tmp_path / "moved")
    resumed = tmp_path / ("one" if place == "the same folder" else "two")
    folder = fit(resumed, Toy(values), first / "last.ckpt")
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert step(folder / "best.ckpt") == (4 if later < 0.3 else 6)
    assert step(folder / "last.ckpt") == 8


def test_a_best_checkpoint_that_is_gone_is_said_so(tmp_path: Path) -> None:
    first = fit(tmp_path / "one", Toy([0.3, 0.2, 0.1]), callbacks=[Stop()])
    (first / "best.ckpt").unlink()
    with pytest.warns(UserWarning, match=r"best checkpoint so far, .* is gone"):
        folder = fit(tmp_path / "two", Toy([0.3, 0.2, 0.1]), first / "last.ckpt")
    assert step(folder / "best.ckpt") == 6


def test_another_run_s_best_is_kept(tmp_path: Path) -> None:
    first = fit(tmp_path / "one", Toy([0.3, 0.2, 0.1]), callbacks=[Stop()])
    folder = fit(tmp_path / "two", Toy([0.9]))
    there = (folder / "best.ckpt").read_bytes()
    fit(tmp_path / "two", Toy([0.3, 0.2, 0.1]), first / "last.ckpt")
    assert (folder / "best.ckpt").read_bytes() == there
    assert step(folder / "best-v1.ckpt") == 2


def test_a_resumed_run_draws_the_dropout_of_the_whole_run(tmp_path: Path) -> None:
    values = [0.0] * 4
    torch.manual_seed(1)
    expected = read_checkpoint(fit(tmp_path / "whole", Toy(values)) / "last.ckpt")
    torch.manual_seed(1)
    half = fit(tmp_path / "half", Toy(values), callbacks=[Stop()])
    torch.manual_seed(2)
    resumed = read_checkpoint(fit(tmp_path / "rest", Toy(values), half / "last.ckpt") / "last.ckpt")
    for name, weights in expected["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], weights)
    assert torch.equal(resumed["random_states"][0]["torch"], expected["random_states"][0]["torch"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"broken_at": 3}, r"The loss is inf at step 3 \(epoch 1\), on the training texts 2\."),
        ({"gradient": 1.0}, r"The loss is nan at step 3 \(epoch 1\), on the training texts 2\."),
    ],
    ids=["an infinite loss", "a gradient that is NaN"],
)
def test_a_training_that_breaks_names_the_texts_and_keeps_the_last_good_state(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, Toy([0.1, 0.2], **options))
    for name in ("best.ckpt", "last.ckpt"):
        saved = read_checkpoint(tmp_path / "checkpoints" / name)
        assert saved["global_step"] == 2
        assert all(weights.isfinite().all() for weights in saved["state_dict"].values())


def test_weights_that_are_no_numbers_are_not_saved() -> None:
    module = Toy([0.0])
    module.trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False)
    module.layer.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"trained weights 'layer\.weight' hold NaN or infinity at step 0"):
        module.on_save_checkpoint({})


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, [Best, ModelCheckpoint]),
        ({"callbacks": [ModelCheckpoint(filename="own")]}, [ModelCheckpoint]),
        ({"enable_checkpointing": False}, []),
    ],
    ids=["nothing said", "callbacks of the configuration", "no checkpoints"],
)
def test_what_a_configuration_says_is_done(options: dict[str, Any], kinds: list[type]) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, **options)
    use_checkpoints(trainer)
    assert [type(callback) for callback in trainer.checkpoint_callbacks] == kinds
    assert isinstance(trainer.strategy.checkpoint_io, CheckpointFiles)
