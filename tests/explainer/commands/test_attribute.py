"""`explainer attribute`: JSON lines in and out, one text in the terminal, and the answer to broken input."""

import re
from pathlib import Path

import pytest
import torch
from tokenizers import processors

from explainer.commands import attribute as module
from explainer.commands import outputs
from explainer.commands.attribute import attribute
from explainer.explained import ExplainedModel
from lightning_modules.cli import main
from tests.explainer.commands.files import PROBABILITIES, lines, written
from tests.explainer.tools import fresh, saved
from tests.families import TASKS, TEXTS, explained

KEYS = [
    "id",
    "tokens",
    "input_ids",
    "offsets",
    "scorable",
    "scores",
    "target",
    "target_label",
    "probabilities",
    "method",
    "probability",
    "value",
    "predicted_label",
    "token_type_ids",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(explained("bert"), tmp_path_factory.mktemp("model"))


def test_attribute_keeps_order_keys_and_ids(model: str, tmp_path: Path) -> None:
    rows = [{"text": text, "id": f"t{i}"} for i, text in enumerate(TEXTS)] + [
        {"text": "bad", "text_pair": "good"},
        {"text": ""},
    ]
    source, output = written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    main(
        [
            "attribute",
            "--model",
            model,
            "--method",
            "sig",
            "--input",
            str(source),
            "--output",
            str(output),
            "--batch-tokens",
            "64",
        ]
    )
    records = lines(output)
    assert [list(record) for record in records] == [KEYS] * len(rows)
    assert [record["id"] for record in records] == ["t0", "t1", "t2", "t3", 4, 5]
    for row in records:
        assert len(row["tokens"]) == len(row["input_ids"]) == len(row["offsets"]) == len(row["scores"])
        assert all(score == 0 for score, scorable in zip(row["scores"], row["scorable"], strict=True) if not scorable)
        assert abs(sum(row["probabilities"]) - 1) < 1e-5
    assert not any(records[5]["scorable"])


def test_a_line_s_target_comes_before_the_command_s(model: str, tmp_path: Path) -> None:
    source = written(
        tmp_path / "in.jsonl", [{"text": "good", "target": 2}, {"text": "good"}, {"text": "good", "target": "LABEL_0"}]
    )
    attribute("input_x_gradient", model, source, tmp_path / "out.jsonl", target="LABEL_1")
    assert [row["target"] for row in lines(tmp_path / "out.jsonl")] == [2, 1, 0]


def test_all_targets_are_a_line_for_each_class(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": "good"}, {"text": "bad", "target": 1}, {"text": "fun"}])
    attribute("input_x_gradient", model, source, tmp_path / "out.jsonl", target="all")
    records = lines(tmp_path / "out.jsonl")
    assert [(row["id"], row["target"]) for row in records] == [(0, 0), (0, 1), (0, 2), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert [list(row) for row in records] == [KEYS] * 7


def test_trust_fallback_and_words_go_into_the_record(model: str, tmp_path: Path) -> None:
    source, output = written(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS]), tmp_path / "out.jsonl"
    files = ["--input", str(source), "--output", str(output)]
    main(["attribute", "--model", model, "--method", "random", "--trust", "true", *files])
    plain = lines(output)
    assert [list(row) for row in plain] == [[*KEYS, "trust"]] * len(TEXTS)
    options = ["--fallback", "attn_lrp", "--min-faithfulness", "9", "--aggregation-strategy", "max"]
    main(["attribute", "--model", model, "--method", "random", *options, *files])
    for before, after in zip(plain, lines(output), strict=True):
        assert list(after) == [*KEYS, "trust", "words"]
        assert (before["method"], after["method"]) == ("random", "random + attn_lrp (fallback)")
        assert after["trust"]["faithfulness"] == after["trust"]["comprehensiveness"] - after["trust"]["sufficiency"]
        assert list(after["words"][0]) == ["word", "score", "start", "end", "segment"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 3: no JSON"),
        ("[1]", "line 3: must be a JSON object"),
        ('{"txt": "x"}', "line 3: `text` must be a string"),
        ('{"text": 3}', "line 3: `text` must be a string"),
        ('{"text": "x", "text_pair": 3}', "line 3: `text_pair` must be a string"),
        ('{"text": "x", "target": [1]}', "line 3: `target` must be"),
        ('{"text": "x", "target": true}', "line 3: `target` must be"),
        ('{"text": "x", "target": "LABEL_9"}', "line 3: `target` must be 'predicted', one of the labels"),
        ('{"text": "x", "target": 3}', r"in.jsonl, line 3: `target` must be .* got 3"),
        ('{"text": "\\ud800"}', "in.jsonl, line 3: no JSON .* one half of a surrogate pair"),
        (b'{"text": "caf\xe9"}', "in.jsonl, line 3: not in UTF-8"),
        ('{"text": "x", "id": ' + "9" * 5000 + "}", "in.jsonl, line 3: no JSON"),
        ('{"text": "x", "target": ' + "9" * 400 + "}", "in.jsonl, line 3: `target` must be"),
        ("[" * 100_000, "in.jsonl, line 3: no JSON .*too deeply"),
    ],
)
def test_a_broken_line_is_numbered_and_those_before_it_are_kept(
    line: str | bytes, message: str, model: str, tmp_path: Path
) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": "good"}, {"text": "bad"}, "LINE", {"text": "fun"}])
    source.write_bytes(source.read_bytes().replace(b"LINE", line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(ValueError, match=message):
        attribute("random", model, source, tmp_path / "out.jsonl")
    assert len(lines(tmp_path / "out.jsonl")) == 2


def test_a_target_that_is_the_foil_is_numbered_too(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": "good"}, {"text": "bad", "target": "LABEL_1"}])
    with pytest.raises(ValueError, match=r"in.jsonl, line 2: `foil` is the target"):
        attribute("random", model, source, tmp_path / "out.jsonl", target=0, foil="label_1")
    assert len(lines(tmp_path / "out.jsonl")) == 1


def test_a_chunk_that_cannot_be_explained_is_named_and_those_before_it_are_kept(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The predicted label of a text is the foil: known only after the prediction."""
    monkeypatch.setattr(module, "CHUNK", 2)
    source = written(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    attribute("random", model, source, tmp_path / "plain.jsonl")
    predicted = [row["target"] for row in lines(tmp_path / "plain.jsonl")]
    rows = [{"text": text, "target": "predicted" if i > 1 else (predicted[2] + 1) % 3} for i, text in enumerate(TEXTS)]
    source = written(tmp_path / "in.jsonl", rows)
    with pytest.raises(ValueError, match=r"in.jsonl, line 3: `foil` is the target itself"):
        attribute("random", model, source, tmp_path / "out.jsonl", foil=predicted[2])
    assert len(lines(tmp_path / "out.jsonl")) == 2


def test_a_text_that_the_model_cannot_read_is_numbered(tmp_path: Path) -> None:
    """A decoder's tokenizer without special tokens makes nothing of an empty text."""
    decoder = fresh("qwen2")
    decoder.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("$A", "$A $B", [])
    folder = saved(decoder, tmp_path / "model")
    source = written(tmp_path / "in.jsonl", [{"text": "good film " * 40}, {"text": "bad"}, {"text": ""}])
    with (
        pytest.warns(UserWarning, match=r"in.jsonl, line 1: The text has \d+ tokens, the model takes 40: the last"),
        pytest.raises(ValueError, match=r"in.jsonl, line 3: `text` has no tokens, .* Leave the text out"),
    ):
        attribute("input_x_gradient", folder, source, tmp_path / "out.jsonl")
    assert len(lines(tmp_path / "out.jsonl")) == 2


def test_an_old_output_outlives_a_broken_first_line_and_a_full_disk(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = written(tmp_path / "out.jsonl", ["old"])
    source = written(tmp_path / "in.jsonl", ["{"])
    with pytest.raises(ValueError, match="line 1"):
        attribute("random", model, source, output)
    written(source, [{"text": "good"}, {"text": "bad"}])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "_write", full)
    with pytest.raises(OSError, match=r"No space left on device: .*out.jsonl'"):
        attribute("random", model, source, output)
    assert output.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_an_input_is_never_written_over(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": "good"}])
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "hard").hardlink_to(source)
    for output in (source, tmp_path / "link", tmp_path / "hard", tmp_path / "x" / ".." / "in.jsonl"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=r"`--output .*` is the file of `--input`: give another name"):
            attribute("random", model, source, output)
    assert lines(source) == [{"text": "good"}]


@pytest.mark.parametrize("text", ["#hashtag film", "null", "--dash", "1.0", "- good", "a: b", "~", "@good", " "])
def test_any_text_of_the_command_line_is_that_text(
    text: str, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(module, "_show", lambda explanations, html: seen.append(explanations[0].text))
    for option in (["--text", text], [f"--text={text}"]):
        main(["attribute", "--model", model, "--method", "random", *option, "--batch-tokens", "64"])
    assert seen == [text, text]
    with pytest.raises(SystemExit):
        main(["attribute", "--model", model, "--method", "random", "--text", "--html", "x"])
    assert "`--text` needs a value; one that is like an option is given as --text=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_own_probabilities_and_values(task: str, tmp_path: Path) -> None:
    """Against the bare model."""
    model = explained("bert", **TASKS[task])
    folder = saved(model, tmp_path / "model")
    source = written(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    options = ["--target", "all", "--trust", "true", "--fallback", "sig", "--min-faithfulness", "0"]
    files = ["--input", str(source), "--output", str(tmp_path / "out.jsonl")]
    main(["attribute", "--model", folder, "--method", "attn_lrp", *files, *options])
    records = lines(tmp_path / "out.jsonl")
    labels = len(model.labels)
    assert len(records) == labels * len(TEXTS)
    for i, text in enumerate(TEXTS):
        with torch.no_grad():
            logits = model.model(**model.tokenizer(text, return_tensors="pt")).logits[0]
        probabilities = PROBABILITIES[task](logits)
        for target, record in enumerate(records[labels * i : labels * (i + 1)]):
            assert (record["id"], record["target"]) == (i, target)
            assert record["value"] == pytest.approx(float(logits[target]), abs=1e-5)
            if probabilities is None:
                assert record["probabilities"] is record["probability"] is record["predicted_label"] is None
            else:
                assert record["probabilities"] == pytest.approx(probabilities.tolist(), abs=1e-5)
                assert record["probability"] == pytest.approx(float(probabilities[target]), abs=1e-5)
                assert record["predicted_label"] == model.labels[int(logits.argmax())]


def test_foil_score_and_units_go_into_the_record(model: str, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [{"text": "the film was dull . but the plot is fun !"}])
    files = ["--input", str(source), "--output", str(tmp_path / "out.jsonl")]
    options = ["--target", "0", "--foil", "LABEL_2", "--score", "log_odds", "--units", "sentence"]
    main(["attribute", "--model", model, "--method", "leave_one_out", *files, *options])
    (record,) = lines(tmp_path / "out.jsonl")
    assert (record["target"], record["foil_label"], record["score"]) == (0, "LABEL_2", "log_odds")
    assert [unit["word"] for unit in record["units"]] == ["the film was dull .", "but the plot is fun !"]
    assert sum(unit["score"] for unit in record["units"]) == pytest.approx(sum(record["scores"]), abs=1e-5)
    tiny = ExplainedModel.from_pretrained(model)
    texts = [
        tiny.tokenizer(text, return_tensors="pt") for text in (record["units"][1]["word"], lines(source)[0]["text"])
    ]
    with torch.no_grad():
        logits = [tiny.model(**text).logits[0].double() for text in texts]
    odds = [(one.softmax(dim=0) / (1 - one.softmax(dim=0))).log() for one in logits]
    without_first, whole = (float(one[0] - one[2]) for one in odds)
    assert record["units"][0]["score"] == pytest.approx(whole - without_first, abs=1e-5)


def test_text_prints_the_explanation(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["attribute", "--model", model, "--method", "random", "--method-args", '{"seed": 3}', "--text", "a good film"])
    assert re.search(r"[+−]*a [+−]*good [+−]*film", capsys.readouterr().out)


def test_text_can_be_written_as_a_page_beside(model: str, tmp_path: Path) -> None:
    attribute("random", model, text="a good film", html=tmp_path / "page.html")
    assert ">good</span>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="shows one text: give it by"):
        attribute("random", model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", html=tmp_path / "page.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "sig", "--text", "x"], "needs `--model`"),
        (["--method", "sig"], "Give `--text TEXT`"),
        (["--method", "sig", "--input", "in.jsonl"], "--output"),
        (["--method", "no_method", "--model", "MODEL", "--text", "x"], "`method` must be one of"),
        (["--method", "sig", "--model", "MODEL", "--text", "x", "--target", "LABEL_9"], "`target` must be"),
        (["--method", "sig", "--model", "MODEL", "--text", "x", "--method-args", '{"steps": 3}'], "steps"),
        (["--method", "sig", "--model", "MODEL", "--text", "x", "--foil", "LABEL_9"], "`foil` must be 'runner_up'"),
        (["--method", "sig", "--model", "MODEL", "--text", "x", "--score", "loss"], "score"),
        (["--method", "sig", "--model", "MODEL", "--text", "x", "--units", "line"], "units"),
        (["--method", "sig", "--model", "MODEL", "--text", "x", "--fallback", "sig"], "go together"),
        (
            ["--method", "sig", "--model", "MODEL", "--text", "x", "--aggregation-strategy", "simple"],
            "have no entities",
        ),
        (["--method", "./nothing/here", "--text", "x"], "nothing/here"),
        (["--method", "sig", "--model", "./no/model", "--text", "x"], "no/model"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["attribute", *[model if argument == "MODEL" else argument for argument in arguments]])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
