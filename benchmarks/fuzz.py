"""Generated inputs for everything that reads what others wrote: each is read, or refused by one clear error.

    python benchmarks/fuzz.py                       # 2,500 inputs for each row of `TARGETS`
    python benchmarks/fuzz.py --examples 20000 csv  # more, for some rows

Any other exception fails, and so does an input that takes longer than `SECONDS`. The tests run the same table with few
inputs each. To add a row, write a function of one generated value and a folder to write in.
"""

import argparse
import csv
import io
import json
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonargparse import auto_cli
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from explainer import Attributor, ExplainedModel
from explainer.attention_heads.parses import read_conllu
from explainer.attributor import CallOptions
from explainer.attributor.units import with_units
from explainer.commands import evaluate
from explainer.commands.attribute import _Job
from explainer.data.files import read_records, typed
from explainer.data.jsonl import read_texts
from explainer.storage.shards import MANIFEST, read_explanations
from lightning_modules.cli import _options

SECONDS = 20.0


class Target(NamedTuple):
    """Something that reads inputs.

    Attributes:
        inputs: the values that are generated.
        read: reads one of them, given a folder for its files; raises ValueError where it refuses it.
    """

    inputs: st.SearchStrategy[Any]
    read: Callable[[Any, Path], None]


# What is generated

CHARACTERS = st.characters(exclude_categories=["Cs"])
ODD = st.sampled_from(
    ["", " ", "null", "N/A", "~", "#tag", "--dash", "\ufeff", "\u2028", "\x00", "\r", "é", "a\u0301", "١", "👩\u200d👧"]
)
TEXT = st.text(CHARACTERS, max_size=20) | ODD | st.lists(ODD, max_size=4).map("".join)
NUMBER = st.integers() | st.floats() | st.sampled_from([10**400, -1, 2**63, 1e308])
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(TEXT, one, max_size=3),
)
NAME = st.sampled_from(["text", "text_pair", "id", "target", "label"])
TEXT_RECORD = st.dictionaries(NAME, VALUE, max_size=4) | st.fixed_dictionaries(
    {"text": TEXT}, optional={"text_pair": TEXT, "target": st.sampled_from([0, 1, "a", "all", "predicted", 2, "c"])}
)


ODD_BYTES = st.sampled_from(
    [b"", b"\xff", b"\xef\xbb\xbf", b"\x00", b'"', b"\n", b"\t", b"\\ud800", b"\\u0000", b"9" * 5000, b"[" * 5000]
)


@st.composite
def damaged(draw: st.DrawFn, content: st.SearchStrategy[bytes]) -> bytes:
    """Bytes as they are, or with some of them changed, lost or added."""
    found = draw(content)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        start = draw(st.integers(0, len(found)))
        end = draw(st.integers(start, min(len(found), start + 3)))
        odd = [
            b"",
            b"\xff",
            b"\xef\xbb\xbf",
            b"\x00",
            b'"',
            b"\n",
            b"\\ud800",
            b"\\u0000",
            b"9" * 5000,
            b"[" * 5000,
            b"\t",
        ]
        found = found[:start] + draw(st.binary(max_size=3) | st.sampled_from(odd)) + found[end:]
    return found


def lines(*records: str) -> bytes:
    return "\n".join(records).encode("utf-8", "surrogatepass")


JSON_LINES = st.lists(TEXT_RECORD.map(json.dumps), max_size=5).map(lambda records: lines(*records))


@st.composite
def table(draw: st.DrawFn) -> list[list[str]]:
    """The rows of a CSV, the names of the columns first; no row is blank."""
    names = ["text", *draw(st.lists(TEXT.filter(lambda name: name != "text"), max_size=2, unique=True))]
    cells = [st.text(CHARACTERS, min_size=1, max_size=8), *[TEXT] * (len(names) - 1)]
    return [names, *draw(st.lists(st.tuples(*cells).map(list), max_size=4))]


@st.composite
def treebank(draw: st.DrawFn) -> bytes:
    """Sentences in CoNLL-U, with surface tokens of two words and empty nodes."""
    rows: list[str] = []
    form = st.text(st.characters(categories=["L", "P", "N"]), min_size=1, max_size=6)
    for words in draw(st.lists(st.lists(form, min_size=1, max_size=5), max_size=3)):
        rows.append(f"# text = {draw(st.sampled_from(['', ' '])).join(words)}")
        for i, word in enumerate(words, start=1):
            if draw(st.booleans()) and i < len(words):
                wide = draw(st.sampled_from([f"{i}-{i + 1}", f"{i}-1000000000", f"{i}-{i - 1}", f"{i}.1", "²", "-1"]))
                rows.append("\t".join([wide, word, *"________"]))
            head = draw(st.integers(0, len(words)) | st.sampled_from(["_", "99", "x"]))
            rows.append("\t".join([str(i), word, *"____", str(head), "nsubj", "_", "_"]))
        rows.append("")
    return lines(*rows)


IDS = st.lists(st.integers(0, 300) | VALUE, max_size=5)
RECORD = st.fixed_dictionaries(
    {},
    optional={"input_ids": IDS | VALUE, "scorable": st.lists(st.booleans() | VALUE) | VALUE, "scores": IDS | VALUE}
    | {"target": st.integers(-1, 4) | VALUE, "token_type_ids": IDS | VALUE},
) | st.integers(1, 70).flatmap(
    lambda n: st.fixed_dictionaries(
        {"input_ids": st.lists(st.integers(0, 34), min_size=n, max_size=n)}
        | {"scorable": st.lists(st.booleans(), min_size=n, max_size=n)}
        | {"scores": st.lists(st.floats(-1e38, 1e38), min_size=n, max_size=n), "target": st.integers(0, 2)}
    )
)
SETTINGS = st.fixed_dictionaries({"rows": VALUE | st.just(0), "rows_per_shard": VALUE | st.integers(1, 5)})
MANIFESTS = VALUE | st.fixed_dictionaries(
    {"amortex": st.sampled_from([1, 2, 3, "2", None]), "settings": SETTINGS | VALUE}
)


# How it is read


def json_lines(content: bytes, folder: Path) -> None:
    """Every record can be written again; an error names file and line."""
    file = _written(folder / "a.jsonl", content)
    with _named(file):
        for number, record in read_texts(file):
            assert number > 0
            json.dumps(record, ensure_ascii=False, allow_nan=False).encode()


def whole_csv(rows: list[list[str]], folder: Path) -> None:
    """A table comes back as it was written: cells as texts, the empty ones as missing."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    file = _written(folder / "a.csv", buffer.getvalue().encode())
    names = dict(zip((str(i) for i in range(9)), rows[0], strict=False)) | {"text": "text"}
    with _named(file):
        read = [record for _, record in read_records(file, names)]
        assert [[record[name] for name in names if name != "text"] for record in read] == [
            [cell or None for cell in row] for row in rows[1:]
        ]


def damaged_csv(content: bytes, folder: Path) -> None:
    """An error names the file."""
    file = _written(folder / "a.csv", content)
    with _named(file):
        assert all(isinstance(record["text"], str) for _, record in read_records(file, {"text": "text"}))


def conllu(content: bytes, folder: Path) -> None:
    """Words lie in their text, in order, and depend on words of it."""
    file = _written(folder / "a.conllu", content)
    with _named(file):
        for parse in read_conllu(file):
            for before, word in zip((None, *parse.words), parse.words, strict=False):
                assert 0 <= word.start < word.end <= len(parse.text)
                assert before is None or before == word or before.start <= word.start
                assert word.head is None or 0 <= word.head < len(parse.words)


def command_line(values: dict[str, str], folder: Path) -> None:
    """Every text of the command line arrives as it is."""
    for separate in (True, False):
        arguments = [part for name, value in values.items() for part in _given(f"--{name}", value, separate)]
        literal, others = _options(signature(_command).parameters, arguments)
        assert auto_cli(_command, args=others, as_positional=False, exit_on_error=False) | literal == {
            "text": None, "text_pair": None, "foil": None, "target": "predicted", **values
        }  # fmt: skip


def offsets(text: str, folder: Path) -> None:
    """Tokens lie in their text, and its words, sentences and paragraphs can be counted."""
    for kind in ("bytes", "words"):
        (encoded,) = _model(kind).encode([text])
        assert all(0 <= start <= end <= len(text) for start, end in encoded.offsets)
        assert len(encoded.offsets) == len(encoded.words) == len(encoded)
        for units in ("word", "sentence", "paragraph"):
            (numbered,) = with_units([encoded], units)
            assert numbered.units is not None
            assert len(numbered.units) == len(encoded)


def attribution(record: dict[str, Any], folder: Path) -> None:
    """A record of another tool is one of this model, or refused with its line."""
    file = _written(folder / "a.jsonl", json.dumps(record).encode("utf-8", "surrogatepass"))
    with _named(file):
        for number, one in evaluate.read_objects(file):
            text, scores, target = evaluate._attribution(_model("words"), file, number, one)
            assert len(text) == len(scores)
            assert target[0] in range(3)


def attribute(content: bytes, folder: Path) -> None:
    """The lines before one that cannot be used are explained, and that line is named."""
    source, output = _written(folder / "in.jsonl", content), folder / "out.jsonl"
    output.unlink(missing_ok=True)
    job = _Job(Attributor.of(_model("bytes"), "random"), "predicted", CallOptions(), None)
    unusable = None
    try:
        with _named(source):
            job.run(source, output)
    except ValueError as error:
        unusable = error
    written = output.read_text(encoding="utf-8").split("\n")[:-1] if output.exists() else []
    assert all(isinstance(json.loads(line)["scores"], list) for line in written)
    last = str(unusable).removeprefix(f"{source}, line ").partition(":")[0] if unusable else None
    usable = [number for number, _ in _before(source, last)]
    assert len(written) >= len(usable), (len(written), usable, last)
    if unusable is not None:
        raise unusable


def manifest(content: Any, folder: Path) -> None:
    """A folder with any manifest is a run, or refused."""
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
    assert list(read_explanations(folder)) == []


def column(values: list[Any], folder: Path) -> None:
    """Labels and ids of any kinds become one kind, and as many."""
    assert len(typed(values)) == len(values)


TARGETS: dict[str, Target] = {
    "json_lines": Target(damaged(JSON_LINES), json_lines),
    "csv": Target(table(), whole_csv),
    "damaged_csv": Target(damaged(table().map(lambda rows: lines(*map(",".join, rows)))), damaged_csv),
    "conllu": Target(damaged(treebank()), conllu),
    "command_line": Target(
        st.fixed_dictionaries({}, optional=dict.fromkeys(("text", "text_pair", "foil", "target"), TEXT)), command_line
    ),
    "offsets": Target(TEXT | st.text(max_size=40), offsets),
    "attribution": Target(RECORD, attribution),
    "attribute": Target(damaged(JSON_LINES), attribute),
    "manifest": Target(MANIFESTS, manifest),
    "column": Target(st.lists(VALUE | TEXT, max_size=5), column),
}


def _written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """An error inside the block is a ValueError that names the file."""
    try:
        yield
    except ValueError as error:
        if str(file) not in str(error):
            raise AssertionError(f"an error without the file's name: {error}") from error
        raise


def _given(option: str, value: str, separate: bool) -> list[str]:
    return [option, value] if separate else [f"{option}={value}"]


def _command(
    text: str | None = None,
    text_pair: str | None = None,
    foil: str | int | None = None,
    target: str | int = "predicted",
) -> dict[str, Any]:
    return {**locals()}


def _before(source: Path, line: str | None) -> Iterator[tuple[int, Any]]:
    """The texts of a file before a line; all of them where it is None."""
    try:
        for number, record in read_texts(source):
            if line is not None and number >= int(line):
                return
            yield number, record
    except ValueError:
        return


@cache
def _model(kind: str) -> ExplainedModel:
    """A tiny random classifier that reads bytes without special tokens, or words with them."""
    if kind == "bytes":
        vocabulary = {token: i for i, token in enumerate(["[PAD]", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
        backend = Tokenizer(models.BPE(vocabulary, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        specials = {"pad_token": "[PAD]"}
    else:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz", *[f"##{c}" for c in "aeiou"]]
        vocabulary = {token: i for i, token in enumerate(words)}
        backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        specials = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **specials)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    sizes |= {"intermediate_size": 16, "num_labels": 3}
    config = BertConfig(**sizes, vocab_size=len(vocabulary), max_position_embeddings=64)
    config.id2label = {0: "a", 1: "b", 2: "all"}
    return ExplainedModel(BertForSequenceClassification(config).eval(), tokenizer, name="tiny")


# The run


def run(name: str, examples: int, **options: Any) -> Counter[str]:
    """How many generated inputs of a target were read and how many refused.

    Args:
        options: of hypothesis' `settings`.

    Raises:
        Exception: what another input raised, with the input.
    """
    target = TARGETS[name]
    counts: Counter[str] = Counter()

    with tempfile.TemporaryDirectory() as folder:

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), **options)
        @given(target.inputs)
        def read(value: Any) -> None:
            with _limited(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    target.read(value, Path(folder))
                    counts["read"] += 1
                except ValueError:
                    counts["refused"] += 1

        read()
    return counts


@contextmanager
def _limited() -> Iterator[None]:
    """An error where the block takes longer than `SECONDS`."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help=", ".join(TARGETS))
    parser.add_argument("--examples", type=int, default=2500)
    arguments = parser.parse_args()
    total = 0
    for name in arguments.targets:
        counts = run(name, arguments.examples, database=None, phases=[Phase.generate, Phase.shrink])
        total += counts.total()
        print(f"{name:14s} {counts.total():7,d} inputs: {counts['read']:7,d} read, {counts['refused']:7,d} refused")
        sys.stdout.flush()
    print(f"{'all':14s} {total:7,d} inputs, none with another exception or longer than {SECONDS:.0f} s")


if __name__ == "__main__":
    main()
