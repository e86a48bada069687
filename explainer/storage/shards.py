"""Attributions of a whole data set on disk: numbered Parquet shards beside a manifest, whole or not there at all."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from explainer.explanation import Explanation

MANIFEST = "_manifest.json"  # readers of Parquet folders pass over what begins so
FORMAT = 1

# One row a text. `id` comes first, of the type that the data's own ids have (row numbers by default); the other columns
# are those of `Explanation`, so that a row can be read back as one, and `truncated`: the text was longer than the model
# reads, and what it did not read has no tokens here.
COLUMNS: dict[str, pa.DataType] = {
    "text": pa.string(),
    "text_pair": pa.string(),
    "tokens": pa.list_(pa.string()),
    "input_ids": pa.list_(pa.int32()),
    "offsets": pa.list_(pa.list_(pa.int32(), 2)),
    "scorable": pa.list_(pa.bool_()),
    "words_of_tokens": pa.list_(pa.int32()),
    "segments": pa.list_(pa.int8()),
    "scores": pa.list_(pa.float32()),
    "target": pa.int32(),
    "target_label": pa.string(),
    "probabilities": pa.list_(pa.float32()),
    "method": pa.string(),
    "truncated": pa.bool_(),
}
_OF_EXPLANATION = [field.name for field in fields(Explanation) if field.name in COLUMNS]


def table_of(ids: pa.Array, explanations: Sequence[Explanation], truncated: Sequence[bool]) -> pa.Table:
    """The explanations as rows of a shard."""
    values = {name: [getattr(one, name) for one in explanations] for name in _OF_EXPLANATION}
    values["truncated"] = list(truncated)
    return pa.table({"id": ids, **{name: pa.array(values[name], kind) for name, kind in COLUMNS.items()}})


@dataclass(frozen=True)
class Shards:
    """`part-00000.parquet`, `part-00001.parquet` ... of a folder: all rows of a data set in order, each once.

    A shard is the unit of resumption: it appears under its name when it is whole.

    Args:
        folder: where they are.
        rows: of all shards together.
        rows_per_shard: of every shard but the last, which has what is left.
    """

    folder: Path
    rows: int
    rows_per_shard: int

    def __len__(self) -> int:
        return -(-self.rows // self.rows_per_shard)

    def path(self, shard: int) -> Path:
        return self.folder / f"part-{shard:05d}.parquet"

    def span(self, shard: int) -> range:
        """The rows of the data that belong to a shard."""
        start = shard * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, self.rows))

    def missing(self) -> list[int]:
        """The shards that are not there, or not whole."""
        return [shard for shard in range(len(self)) if not self._is_whole(shard)]

    def _is_whole(self, shard: int) -> bool:
        try:
            return pq.read_metadata(self.path(shard)).num_rows == len(self.span(shard))
        except (OSError, pa.ArrowInvalid):
            return False

    def write(self, shard: int, table: pa.Table) -> None:
        """Write a shard under a hidden name, and give it its own when it is on the disk."""
        assert table.num_rows == len(self.span(shard))
        with _replacing(self.path(shard)) as name:
            pq.write_table(table, name, compression="zstd")

    def begin(self, settings: Mapping[str, Any], making: Mapping[str, Any]) -> None:
        """Write the manifest of a new run; of a run that is there, check that it is the same one.

        Args:
            settings: all that decides the rows.
            making: what else there is to know of how they were made.

        Raises:
            ValueError: when the folder holds something else, or a run with other settings.
        """
        mine = json.loads(json.dumps({**settings, "rows": self.rows, "rows_per_shard": self.rows_per_shard}))
        path = self.folder / MANIFEST
        if path.exists():
            return _check_same(_manifest(self.folder)["settings"], mine, self.folder)
        if any(self.folder.glob("part-*.parquet")):
            raise ValueError(f"`--output {self.folder}` holds Parquet parts but no {MANIFEST}: choose another folder.")
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = {"amortex": FORMAT, "settings": mine, "making": dict(making)}
        with _replacing(path) as name:
            Path(name).write_text(json.dumps(manifest, indent=2) + "\n")
        return None

    def clear_leftovers(self) -> None:
        """Take away the unfinished files of runs that were killed; only when nothing is writing."""
        for part in self.folder.glob(".*.unfinished"):
            part.unlink(missing_ok=True)


def read_explanations(folder: str | Path) -> Iterator[Explanation]:
    """The explanations of a data set, in its order, one shard in memory at a time.

    Raises:
        ValueError: when the folder holds no attributions of a data set, or the run is not finished.
    """
    settings = _manifest(Path(folder))["settings"]
    shards = Shards(Path(folder), settings["rows"], settings["rows_per_shard"])
    if missing := shards.missing():
        raise ValueError(
            f"{str(folder)!r} lacks {len(missing)} of its {len(shards)} shards, such as {shards.path(missing[0])}. "
            "Give the command that wrote it once more: it goes on where it stopped."
        )
    for shard in range(len(shards)):
        for row in pq.read_table(shards.path(shard), columns=_OF_EXPLANATION).to_pylist():
            yield Explanation(**{**row, "offsets": [(start, end) for start, end in row["offsets"]]})


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["amortex"] != FORMAT or not isinstance(manifest["settings"], dict):
            raise TypeError("of another format")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{str(folder)!r} holds no attributions of a data set: its {MANIFEST} is missing, broken or of something "
            f"else ({error})."
        ) from error
    return manifest


def _check_same(theirs: Mapping[str, Any], mine: Mapping[str, Any], folder: Path) -> None:
    changed = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
    if changed:
        told = "; ".join(f"{name} is {theirs.get(name)!r} there, {mine.get(name)!r} now" for name in changed)
        raise ValueError(
            f"`--output {folder}` holds attributions with other settings: {told}. Give the same settings to go on "
            "with them, or another folder."
        )


class _replacing:
    """The name of a file beside `path` that takes its place at the end of the block, when it is on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        # Hidden, and no two alike: whoever still writes for a killed run does no harm.
        handle, self._name = tempfile.mkstemp(
            dir=self._path.parent, prefix=f".{self._path.name}.", suffix=".unfinished"
        )
        os.close(handle)
        return self._name

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None:
            return os.unlink(self._name)
        with open(self._name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(self._name, 0o644)  # a temporary file is its owner's alone
        return os.replace(self._name, self._path)
