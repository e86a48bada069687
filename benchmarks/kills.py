"""Kill commands at random moments, start them again, and compare what they leave with an uninterrupted run.

python benchmarks/kills.py [--kills 300] [--only fit,predict] [--seed 0]

Everything is tiny and made here: a random classifier of three classes, 24 texts. A command runs in a process that is
forked from this one, which has imported everything, so that most of its time is work. It gets SIGKILL at a moment drawn
evenly from the time that the command takes; after at most four kills it is left to finish. Checked after every kill:
each file that has its name is whole. Checked at the end: the results are equal to those of the uninterrupted run, to
the bit (without measured times), and nothing is left behind.
"""

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnxruntime  # noqa: F401 - imported before the processes are forked
import onnxscript  # noqa: F401
import pyarrow.parquet as pq
import torch
import torch.onnx._internal.exporter._core
import yaml
from jsonargparse import auto_cli
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel
from explainer.methods import SIG
from explainer.storage.cache import _read as read_cache_file
from lightning_modules.checkpoint_files import read_checkpoint
from lightning_modules.cli import main as explainer
from lightning_modules.data import cached

WORDS = [
    "the",
    "a",
    "film",
    "plot",
    "was",
    "is",
    "good",
    "bad",
    "great",
    "awful",
    "not",
    "very",
    "fun",
    "dull",
    "and",
    "so",
]
SPECIALS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[M]"}
IN_A_ROW = 4


@dataclass
class Command:
    """A command that is killed.

    Attributes:
        run: does the work in a folder, or goes on with it.
        check: raises when a file in the folder is broken.
        result: what the finished work left, to be compared.
    """

    run: Callable[[Path], None]
    check: Callable[[Path], None]
    result: Callable[[Path], Any]


@dataclass
class Tally:
    """What happened to one command."""

    kills: int = 0
    finished: int = 0
    faults: list[str] = field(default_factory=list)
    leftovers: int = 0


def make_model(folder: Path) -> str:
    """Write a tiny random classifier; the path of its folder."""
    vocabulary = {token: i for i, token in enumerate([*SPECIALS.values(), *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=40, **SPECIALS).save_pretrained(folder)
    sizes: dict[str, Any] = {
        "num_labels": 3,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "intermediate_size": 32,
    }
    torch.manual_seed(0)
    config = BertConfig(**sizes, vocab_size=len(vocabulary), max_position_embeddings=40)
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def make_texts(folder: Path) -> dict[str, str]:
    generator, paths = random.Random(0), {}
    for split, n in (("train", 24), ("validation", 8), ("test", 24)):
        rows = [{"text": " ".join(generator.choices(WORDS, k=generator.randint(2, 12)))} for _ in range(n)]
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        paths[split] = str(path)
    return paths


# The commands


def training(model: str, texts: dict[str, str], dropout: float) -> Command:
    """`fit`; each start resumes the newest `last.ckpt` there is, in a run folder of its own."""

    def run(folder: Path) -> None:
        logger = {"save_dir": str(folder), "name": "run"}
        configuration: dict[str, Any] = {
            "seed_everything": 0,
            "model": {
                "class_path": "lightning_modules.mask.MaskTraining",
                "init_args": {
                    "explained": model,
                    "explainer_settings": {"rank": 2, "dropout": dropout},
                    "teachers": {"sig": {}},
                    "learning_rate": 0.01,
                },
            },
            "data": {"files": texts, "label": None, "batch_size": 8},
            "trainer": {
                "max_epochs": 6,
                "accelerator": "cpu",
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
                "log_every_n_steps": 1,
                "logger": {"class_path": "pytorch_lightning.loggers.TensorBoardLogger", "init_args": logger},
            },
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration))
        saved = checkpoints(folder, "last")
        explainer(["fit", "--config", str(folder / "config.yaml"), *(["--ckpt_path", str(saved[-1])] if saved else [])])

    def check(folder: Path) -> None:
        for name in ("last", "best"):
            for path in checkpoints(folder, name):
                read_checkpoint(path)

    def result(folder: Path) -> Any:
        newest = checkpoints(folder, "last")[-1]
        last, best = read_checkpoint(newest), read_checkpoint(newest.with_name("best.ckpt"))
        return {
            "steps": (last["global_step"], best["global_step"]),
            "weights": [{name: digest(value) for name, value in c["state_dict"].items()} for c in (last, best)],
            "random": digest(last["random_states"][0]["torch"]),
        }

    return Command(run, check, result)


def checkpoints(folder: Path, name: str) -> list[Path]:
    """The checkpoints of that name, in the order of the runs."""
    found = folder.glob(f"run/version_*/checkpoints/{name}.ckpt")
    return sorted(found, key=lambda path: int(path.parts[-3].removeprefix("version_")))


def predicting(model: str, texts: dict[str, str]) -> Command:
    def run(folder: Path) -> None:
        where = ["--data", texts["test"], "--output", str(folder / "out"), "--rows-per-shard", "2"]
        explainer(["predict", "--method", "sig", "--model", model, *where, "--accelerator", "cpu"])

    def check(folder: Path) -> None:
        for path in (folder / "out").glob("part-*.parquet"):
            pq.read_table(path)

    def result(folder: Path) -> Any:
        return [pq.read_table(path).to_pylist() for path in sorted((folder / "out").glob("part-*.parquet"))]

    return Command(run, check, result)


def comparing(model: str, texts: dict[str, str]) -> Command:
    def run(folder: Path) -> None:
        where = ["--data", texts["test"], "--n", "24", "--output", str(folder / "out")]
        explainer(["compare", "--model", model, "--methods", "random,sig,integrated_gradients", *where])

    def result(folder: Path) -> Any:
        return (folder / "out" / "comparison.csv").read_text()

    return Command(run, lambda folder: check_cache(folder / "out" / "parts"), result)


def teaching(model: str, texts: dict[str, str]) -> Command:
    """The cache of a teacher's scores, in files of two texts."""
    lines = [json.loads(line)["text"] for line in Path(texts["test"]).read_text().splitlines()]

    def run(folder: Path) -> None:
        os.environ["AMORTEX_CACHE"], cached.CHUNK = str(folder / "cache"), 2
        explained = ExplainedModel.from_pretrained(model)
        encoded = explained.encode(lines)
        target = explained.predicted(encoded)
        scores = cached.cached_scores(SIG(n_steps=30), explained, encoded, target, "teacher")
        torch.save(scores, folder / "scores.pt")

    def result(folder: Path) -> Any:
        return [digest(scores) for scores in torch.load(folder / "scores.pt", weights_only=True)]

    return Command(run, lambda folder: check_cache(folder / "cache"), result)


def exporting(checkpoint: Path) -> Command:
    def run(folder: Path) -> None:
        out = folder / "attributor"
        explainer(["export", "--ckpt", str(checkpoint), "--output", str(out), "--onnx", str(folder / "model.onnx")])

    def check(folder: Path) -> None:
        out = folder / "attributor"
        if all((out / name).exists() for name in ("config.json", "model.safetensors")):
            Attributor.from_pretrained(out)("the film was good")
        if (folder / "model.onnx").exists():
            onnx.load(folder / "model.onnx")

    def result(folder: Path) -> Any:
        out = folder / "attributor"
        files = [out / "model.safetensors", *(folder / f"model{end}" for end in (".onnx", ".json", ".tokenizer.json"))]
        settings = json.loads((out / "config.json").read_text()) | {"explained_model": "a relative path"}
        return settings, [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    return Command(run, check, result)


def check_cache(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        if read_cache_file(path) is None:
            raise ValueError(f"{path} is broken")


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


# Killing


def start(command: Command, folder: Path) -> int:
    """The id of a process that runs the command; what it prints is in the file `output` of the folder."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        command.run(folder)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait(child: int, seconds: float | None = None) -> int | None:
    """The exit code of a process, which is killed after some seconds; None when it was."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            os.kill(child, signal.SIGKILL)
            with suppress(ProcessLookupError):  # it was killed before it had a group
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)


def uninterrupted(command: Command, folder: Path) -> tuple[Any, float]:
    """The result, and the seconds of the second run: the first fills caches that all runs share."""
    seconds = 0.0
    for number in range(2):
        place = folder / str(number)
        place.mkdir(parents=True)
        began = time.monotonic()
        if wait(start(command, place)):
            raise RuntimeError((place / "output").read_text())
        seconds = time.monotonic() - began
    return command.result(folder / "1"), seconds


def interrupted(
    command: Command, folder: Path, expected: Any, seconds: float, draw: random.Random, kills: int
) -> Tally:
    """Kill, check, start again; at last finish and compare."""
    tally = Tally()
    folder.mkdir(parents=True)
    try:
        for _ in range(min(kills, IN_A_ROW)):
            code = wait(start(command, folder), draw.uniform(0.0, seconds))
            if code is not None:
                break
            tally.kills += 1
            command.check(folder)
        code = wait(start(command, folder))
        if code:
            raise ValueError(f"started again, it ended with code {code}: {(folder / 'output').read_text()[-800:]}")
        if command.result(folder) != expected:
            raise ValueError("the result is another one")
        tally.finished += 1
    except Exception as error:
        tally.faults.append(f"{folder}: {type(error).__name__}: {error}")
    tally.leftovers = sum(1 for path in folder.rglob("*") if path.name.startswith((".", "tmp")))
    return tally


def main(kills: int = 300, only: str | None = None, seed: int = 0, folder: Path | None = None) -> None:
    """Measure and print.

    Args:
        kills: in all, evenly over the commands.
        only: names of commands, with commas between.
        seed: of the moments.
        folder: where everything is written; a temporary one by default.
    """
    torch.set_num_threads(1)
    place = Path(tempfile.mkdtemp(prefix="kills-")) if folder is None else folder
    place.mkdir(parents=True, exist_ok=True)
    os.environ["AMORTEX_CACHE"], os.environ["HF_DATASETS_CACHE"] = str(place / "cache"), str(place / "datasets")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    model, texts = make_model(place / "model"), make_texts(place)
    commands = {
        "fit": training(model, texts, 0.0),
        "fit with dropout": training(model, texts, 0.3),
        "predict": predicting(model, texts),
        "compare": comparing(model, texts),
        "teacher cache": teaching(model, texts),
        "export": exporting(place / "whole" / "fit" / "1" / "run" / "version_0" / "checkpoints" / "best.ckpt"),
    }
    wanted = list(commands) if only is None else only.split(",")
    draw, tallies = random.Random(seed), {name: Tally() for name in wanted}
    print(f"In {place}: {kills} kills over {', '.join(wanted)}.", flush=True)
    for name, tally in tallies.items():
        if name == "export" and "fit" not in wanted:
            uninterrupted(commands["fit"], place / "whole" / "fit")
        expected, seconds = uninterrupted(commands[name], place / "whole" / name)
        trial = 0
        while tally.kills < kills // len(wanted):
            left = kills // len(wanted) - tally.kills
            one = interrupted(commands[name], place / name / str(trial), expected, seconds, draw, left)
            tally.kills, tally.finished = tally.kills + one.kills, tally.finished + one.finished
            tally.faults, tally.leftovers = tally.faults + one.faults, tally.leftovers + one.leftovers
            for fault in one.faults:
                print(f"FAULT in {name}: {fault}", flush=True)
            trial += 1
        print(
            f"{name}: {tally.kills} kills in {trial} runs of {seconds:.1f} s, {tally.finished} with the result of the "
            f"uninterrupted run, {len(tally.faults)} faults, {tally.leftovers} leftovers",
            flush=True,
        )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
