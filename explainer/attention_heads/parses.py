"""Dependency parses: words at their characters in a text, from CoNLL-U or from spaCy."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explainer.data.lines import InputError, read_lines


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
        InputError: when a sentence has no such line, an id, a head or a number of columns is wrong, or a word is not in
            its text; the message names the line.
    """
    block: list[tuple[int, str]] = []
    for number, line in read_lines(path):
        if line.strip():
            block.append((number, line.rstrip("\r\n")))
        elif block:
            yield _sentence(path, block)
            block = []
    if block:
        yield _sentence(path, block)


def _sentence(path: Path, block: list[tuple[int, str]]) -> Parse:
    texts = [line.partition("=")[2].strip() for _, line in block if line.startswith("# text =")]
    if not texts:
        raise InputError(path, block[0][0], "a sentence without a `# text =` line.")
    rows = [_Row.of(path, number, line) for number, line in block if not line.startswith("#")]
    words = [row for row in rows if row.is_word]
    index = {row.first: i for i, row in enumerate(words)}
    for i, row in enumerate(words):
        if row.first != i + 1:
            raise InputError(path, row.number, f"word {row.id!r} must be {i + 1}: words are numbered from 1, in order.")
        if row.head not in index and row.head not in (0, None):
            raise InputError(path, row.number, f"head {row.head} is no word of the sentence, which has {len(words)}.")
    spans = _spans(path, texts[0], rows, len(words))
    parsed = [
        Word(*spans[row.first], None if row.head is None else index.get(row.head), relation_named(row.relation))
        for row in words
    ]
    return Parse(texts[0], tuple(parsed))


_ID = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?|\d{1,6}\.\d{1,6}", re.ASCII)


@dataclass(frozen=True)
class _Row:
    """A line of a sentence: a word (3), a surface token of several words (3-4), or an empty node (3.1).

    Attributes:
        first: the word's number, or that of the surface token's first word; `last` of its last. 0 for an empty node.
        head: the number of another word; 0 for a root, None where the file has none.
    """

    number: int
    id: str
    form: str
    first: int
    last: int
    head: int | None
    relation: str

    @property
    def is_word(self) -> bool:
        return self.id.isdecimal()

    @classmethod
    def of(cls, path: Path, number: int, line: str) -> "_Row":
        columns = line.split("\t")
        if len(columns) != 10:
            raise InputError(path, number, f"CoNLL-U has 10 columns between tabs, got {len(columns)}.")
        identifier, form, head = columns[0], columns[1], columns[6]
        match = _ID.fullmatch(identifier)
        if match is None:
            raise InputError(path, number, f"no id of CoNLL-U: {identifier!r:.60}.")
        if head != "_" and not re.fullmatch(r"\d{1,6}", head, re.ASCII):
            raise InputError(path, number, f"the head must be a word's number or 0, got {head!r:.60}.")
        if not form:
            raise InputError(path, number, "a word without characters.")
        first, last = (int(part or match[1] or 0) for part in (match[1], match[2]))
        return cls(number, identifier, form, first, last, None if head == "_" else int(head), columns[7])


def _spans(path: Path, text: str, rows: Sequence[_Row], n_words: int) -> dict[int, tuple[int, int]]:
    """The characters of each word, by its number.

    The forms follow each other in the text, and the words of a surface token share its characters.
    """
    spans: dict[int, tuple[int, int]] = {}
    at = 0
    for row in rows:
        if row.first == 0 or (row.is_word and row.first in spans):
            continue
        if not row.first <= row.last <= n_words:
            raise InputError(path, row.number, f"{row.id} is not in the sentence, which has {n_words} words.")
        start = text.find(row.form, at)
        if start < 0:
            raise InputError(path, row.number, f"{row.form!r:.60} is not in the sentence's text after character {at}.")
        at = start + len(row.form)
        spans |= dict.fromkeys(range(row.first, row.last + 1), (start, at))
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
