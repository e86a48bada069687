"""A run of two processes logs, trains and compares what a run of one does, though the texts do not divide evenly."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_modules.checkpoint_files import read_checkpoint
from lightning_modules.cli import main
from lightning_modules.processes import gathered, own_first, process, shown
from tests.lightning_modules.conftest import write

TWO = ["--trainer.strategy", "ddp_fork", "--trainer.devices", "2"]


def logged(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def same(found: dict[str, list[tuple[int, float]]], expected: dict[str, list[tuple[int, float]]]) -> None:
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points], tag
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in points], abs=1e-6), tag


@pytest.mark.parametrize("losses", [{"kept": 1.0, "destroyed": 1.0, "sparse": 0.1}, {}], ids=["all", "matching"])
def test_two_processes_are_as_one(losses: dict[str, float], configuration: dict[str, Any], tmp_path: Path) -> None:
    """Matching alone puts the zero of the scores by the validation texts of both."""
    configuration["model"]["init_args"]["teachers"] = {"sig": {}, "attn_lrp": {}}
    configuration["model"]["init_args"] |= {**losses, "learning_rate": 0.01}
    configuration["data"] |= {"batch_size": 3, "limit": {"train": 22, "validation": 7, "test": 7}}
    configuration["trainer"]["callbacks"] = [
        {"class_path": "lightning_modules.callbacks.Heatmaps", "init_args": {"n_texts": 2}},
        {
            "class_path": "lightning_modules.callbacks.MethodFaithfulness",
            "init_args": {"methods": {"random": {}}, "n_texts": 3, "n_shown": 1},
        },
        {
            "class_path": "lightning_modules.callbacks.MethodComparison",
            "init_args": {"methods": {"random": {}, "sig": {}}},
        },
    ]
    rows: dict[int, list[list[str]]] = {}
    for devices, options in ((1, []), (2, TWO)):
        configuration["trainer"]["logger"]["init_args"]["name"] = f"fit{devices}"
        config = write(configuration, tmp_path / "config.yaml")
        main(["fit", "--config", config, *options])
        output = ["--trainer.logger.init_args.name", f"test{devices}"]
        checkpoint = str(tmp_path / "fit1" / "checkpoints" / "last.ckpt")
        main(["test", "--config", config, "--ckpt_path", checkpoint, *options, *output])
        with (tmp_path / f"test{devices}" / "comparison.csv").open() as file:
            rows[devices] = list(csv.reader(file))
    same(logged(tmp_path / "fit2"), logged(tmp_path / "fit1"))
    assert len(rows[1]) == 1 + 3 * 7
    assert [row[:2] for row in rows[2]] == [row[:2] for row in rows[1]]
    for found, expected in zip(rows[2][1:], rows[1][1:], strict=True):
        assert [*map(float, found[2:])] == pytest.approx([*map(float, expected[2:])], abs=1e-6)
    records = json.loads((tmp_path / "test2" / "comparison.json").read_text())
    assert [record["n"] for record in records] == [7, 7, 7]
    one, two = (read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("fit1", "fit2"))
    for name, weights in one["state_dict"].items():
        assert torch.allclose(two["state_dict"][name], weights, atol=1e-5), name
    assert [len(one["random_states"]), len(two["random_states"])] == [1, 2]


def test_a_baseline_is_trained_on_one_device(
    classifier: str, configuration: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration["model"] = {
        "class_path": "lightning_modules.baseline.BaselineTraining",
        "init_args": {"explained": classifier, "width": 8, "depth": 1},
    }
    monkeypatch.setenv("AMORTEX_TRACEBACK", "1")
    with pytest.raises(Exception, match="trained on one device"):
        main(["fit", "--config", write(configuration, tmp_path / "config.yaml"), *TWO])


def test_a_single_process_speaks_and_does_everything() -> None:
    assert process() == (0, 1)
    assert shown("work") == "work"
    assert gathered("own") == ["own"]
    assert own_first(range(3)) == [0, 1, 2]


def test_processes_begin_with_shares_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    for rank in range(3):
        monkeypatch.setattr("lightning_modules.processes.process", lambda rank=rank: (rank, 3))
        parts = own_first(range(7))
        assert sorted(parts) == list(range(7))
        begun += parts[: 3 if rank == 2 else 2]
        assert (shown("work") is None) == (rank > 0)
    assert begun == list(range(7))
