"""Dependency parses: words at their characters in a text, from CoNLL-U or from spaCy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Word:
    """A word of a parsed text.

    Attributes:
        start: its first character in the text; `end` is the one after its last.
        head: the index of the word it depends on; None for a root.
        relation: a universal dependency relation without subtype, `obj` for spaCy's `dobj`.
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
    """The universal relation that a parser's label stands for.

    >>> relation_named("nsubj:pass"), relation_named("dobj")
    ('nsubj', 'obj')
    """
    plain = label.lower().partition(":")[0]
    return {"dobj": "obj", "nsubjpass": "nsubj"}.get(plain, plain)


def read_conllu(path: Path) -> Iterator[Parse]:
    """The sentences of a CoNLL-U file; each needs a `# text =` line.

    Raises:
        ValueError: when a sentence has no such line, or a word is not in its text; the message names the line.
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
    lines = [(number, line.split("\t")) for number, line in block if not line.startswith("#")]
    spans = _spans(path, texts[0], lines)
    # Other ids are 3-4, a surface token of two words, and 3.1, an empty node.
    words = [columns for _, columns in lines if columns[0].isdigit()]
    index = {columns[0]: i for i, columns in enumerate(words)}
    return Parse(texts[0], tuple(Word(*spans[c[0]], index.get(c[6]), relation_named(c[7])) for c in words))


def _spans(path: Path, text: str, lines: list[tuple[int, list[str]]]) -> dict[str, tuple[int, int]]:
    """The characters of each word, by its id.

    The forms follow each other in the text, and the words of a surface token share its characters.
    """
    spans: dict[str, tuple[int, int]] = {}
    at = 0
    for number, columns in lines:
        if len(columns) != 10:
            raise ValueError(f"{path}, line {number}: CoNLL-U has 10 columns between tabs, got {len(columns)}.")
        identifier, form = columns[:2]
        if "." in identifier or identifier in spans:
            continue
        start = text.find(form, at)
        if start < 0:
            raise ValueError(f"{path}, line {number}: {form!r} is not in the sentence's text after character {at}.")
        at = start + len(form)
        first, _, last = identifier.partition("-")
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
