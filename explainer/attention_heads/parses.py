"""Dependency parses: words at their characters in a text, from CoNLL-U or from spaCy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Word:
    """Characters [start, end) of the text, the index of the word it depends on (None: a root), and the relation.

    Relations are universal ones without subtypes, `obj` for spaCy's `dobj`.
    """

    start: int
    end: int
    head: int | None
    relation: str


@dataclass(frozen=True)
class Parse:
    """A text and its words in their order."""

    text: str
    words: tuple[Word, ...]


def relation_named(label: str) -> str:
    """`nsubj:pass` is a `nsubj`, spaCy's `dobj` an `obj`."""
    plain = label.lower().partition(":")[0]
    return {"dobj": "obj", "nsubjpass": "nsubj"}.get(plain, plain)


def read_conllu(path: Path) -> Iterator[Parse]:
    """The sentences of a CoNLL-U file that say their `# text =`.

    Raises:
        ValueError: when a sentence has no text, or a word is not in it; the message names the line.
    """
    block: list[tuple[int, str]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                block.append((number, line.rstrip("\n")))
            elif block:
                yield _sentence(path, block)
                block = []
    if block:
        yield _sentence(path, block)


def _sentence(path: Path, block: list[tuple[int, str]]) -> Parse:
    texts = [line.partition("=")[2].strip() for _, line in block if line.startswith("# text =")]
    if not texts:
        raise ValueError(f"{path}, line {block[0][0]}: a sentence without a `# text =` line.")
    rows = [(number, line.split("\t")) for number, line in block if not line.startswith("#")]
    spans = _spans(path, texts[0], rows)
    ids = [row[0] for _, row in rows if row[0].isdigit()]  # 3-4 is a surface token of two words, 3.1 an empty node
    index = {name: i for i, name in enumerate(ids)}
    words = [Word(*spans[row[0]], index.get(row[6]), relation_named(row[7])) for _, row in rows if row[0].isdigit()]
    return Parse(texts[0], tuple(words))


def _spans(path: Path, text: str, rows: list[tuple[int, list[str]]]) -> dict[str, tuple[int, int]]:
    """Where each word lies: forms follow each other in the text, and the words of a surface token share its place."""
    spans: dict[str, tuple[int, int]] = {}
    at = 0
    for number, row in rows:
        if len(row) != 10:
            raise ValueError(f"{path}, line {number}: CoNLL-U has 10 columns between tabs, got {len(row)}.")
        if "." in row[0] or row[0] in spans:
            continue
        start = text.find(row[1], at)
        if start < 0:
            raise ValueError(f"{path}, line {number}: {row[1]!r} is not in the sentence's text after character {at}.")
        at = start + len(row[1])
        first, _, last = row[0].partition("-")
        for name in range(int(first), int(last or first) + 1):
            spans[str(name)] = (start, at)
    return spans


def parse_with_spacy(name: str, texts: Sequence[str]) -> Iterator[Parse]:
    """The texts as an installed spaCy pipeline parses them.

    Raises:
        ValueError: when spaCy or the pipeline is not installed.
    """
    try:
        import spacy
    except ImportError as error:
        raise ValueError(
            f"`parser` spacy:{name} needs spaCy, which is not installed: `pip install amortex[spacy]`, "
            "or give parses with `conllu`."
        ) from error
    try:
        pipeline: Any = spacy.load(name)
    except OSError as error:
        raise ValueError(f"`parser`: spaCy has no pipeline {name!r}: `python -m spacy download {name}`.") from error
    for document in pipeline.pipe(texts):
        words = [
            Word(t.idx, t.idx + len(t), None if t.head.i == t.i else t.head.i, relation_named(t.dep_)) for t in document
        ]
        yield Parse(document.text, tuple(words))
