"""`explainer heads` on a generated treebank, and its picture."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from explainer.attention_heads import HeadMask, Parse, Word
from explainer.commands import heads as module
from explainer.commands.heads import heads
from explainer.explained import ExplainedModel
from explainer.methods import MaskLRP
from tests.explainer.tools import batch_of, bit_equal_logits, predicted, saved
from tests.families import TASKS, explained


def treebank() -> str:
    """Sentences of five words: the first an amod of the second, that the nsubj of the fourth."""
    lines = []
    for adjective in ("good", "dull", "great"):
        words = [adjective, "film", "not", "was", "fun"]
        lines.append(f"# text = {' '.join(words)}")
        heads = {1: (2, "amod"), 2: (4, "nsubj"), 3: (4, "advmod"), 4: (0, "root"), 5: (4, "xcomp")}
        lines += [f"{i}\t{w}\t{w}\tX\t_\t_\t{heads[i][0]}\t{heads[i][1]}\t_\t_" for i, w in enumerate(words, start=1)]
        lines.append("")
    return "\n".join(lines) + "\n"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> ExplainedModel:
    """`from_pretrained` of any name is the tiny BERT."""
    model = explained("bert")
    stand_in = SimpleNamespace(from_pretrained=lambda name, batch_tokens: model)
    monkeypatch.setattr(module, "ExplainedModel", stand_in)
    return model


def test_a_treebank_becomes_a_mask_that_mask_lrp_reads(tiny: ExplainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(treebank())
    output, picture = tmp_path / "heads.json", tmp_path / "heads.png"
    with bit_equal_logits(tiny):
        heads("tiny", output, conllu=tmp_path / "a.conllu", xi_pos=0.3, picture=picture, note="generated,")
    mask = HeadMask.load(output)
    assert mask.tensor(tiny).shape == (2, 2)
    assert (mask.model, mask.fingerprint) == ("tiny-bert", tiny.fingerprint)
    assert mask.note == "generated, 3 texts."
    assert mask.thresholds == {"xi_pos": 0.3, "xi_synt": 0.1}
    assert {name: row["n"] for name, row in mask.statistics["relations"].items()} == {
        "nsubj": 3, "obj": 0, "amod": 3, "advmod": 3
    }  # fmt: skip
    assert mask.statistics["n_tokens"] >= 15
    assert picture.read_bytes().startswith(b"\x89PNG")
    batch = batch_of(tiny)
    assert MaskLRP(heads=str(output)).scores(tiny, batch, predicted(tiny, batch)).isfinite().all()


def test_the_same_treebank_gives_the_same_file(tiny: ExplainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(treebank())
    for name in ("one.json", "two.json"):
        heads("tiny", tmp_path / name, conllu=tmp_path / "a.conllu")
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


def test_a_parser_reads_the_texts_of_the_input(
    tiny: ExplainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def parse(name: str, texts: list[str]) -> Iterator[Parse]:
        asked.append((name, texts))
        return iter([Parse(text, (Word(0, 4, 1, "amod"), Word(5, 9, None, "root"))) for text in texts])

    monkeypatch.setattr(module, "parse_with_spacy", parse)
    (tmp_path / "in.jsonl").write_text('{"text": "good film"}\n\n{"text": "dull plot"}\n')
    heads("tiny", tmp_path / "h.json", parser="spacy:en_x", input=tmp_path / "in.jsonl", relations=["amod"])
    assert asked == [("en_x", ["good film", "dull plot"])]
    assert HeadMask.load(tmp_path / "h.json").statistics["relations"]["amod"]["n"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give `--conllu FILE`, or `--parser spacy:NAME --input TEXTS`"),
        ({"parser": "stanza:en", "input": Path("x")}, "`--parser` must be spacy:NAME.*got 'stanza:en'"),
        ({"parser": "spacy:en"}, "`--parser` needs `--input`"),
    ],
    ids=["nothing", "another parser", "no texts"],
)
def test_missing_arguments_are_named(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heads("tiny", tmp_path / "h.json", **arguments)


def test_a_line_without_text_is_refused_by_its_number(tiny: ExplainedModel, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n')
    with pytest.raises(ValueError, match=r"in.jsonl, line 2: `text` must be a string, got None"):
        heads("tiny", tmp_path / "h.json", parser="spacy:en", input=tmp_path / "in.jsonl")


def test_an_empty_treebank_is_refused(tiny: ExplainedModel, tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text("\n")
    with pytest.raises(ValueError, match="no parsed texts"):
        heads("tiny", tmp_path / "h.json", conllu=tmp_path / "a.conllu")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_heads(task: str, tmp_path: Path) -> None:
    """Attention does not depend on what the model answers."""
    (tmp_path / "a.conllu").write_text(treebank())
    folder = saved(explained("bert", **TASKS[task]), tmp_path / "model")
    heads(folder, tmp_path / "h.json", conllu=tmp_path / "a.conllu")
    assert HeadMask.load(tmp_path / "h.json").statistics["n_tokens"] >= 15


def test_the_treebank_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(treebank())
    for options in ({"output": tmp_path / "a.conllu"}, {"output": tmp_path / "b", "picture": tmp_path / "a.conllu"}):
        with pytest.raises(ValueError, match="is the file of `--conllu`"):
            heads("tiny", conllu=tmp_path / "a.conllu", **options)
    assert (tmp_path / "a.conllu").read_text() == treebank()
