"""Attributions of a whole data set on disk: a manifest and numbered Parquet shards, each whole or missing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from explainer.explanation import Explanation
from explainer.storage.atomic import clear_unfinished, replacing

MANIFEST = "_manifest.json"  # readers of Parquet folders skip names that begin with an underscore
FORMAT = 2
READABLE = (1, 2)  # format 1 has no columns for what is explained beyond the target's index, label and probabilities

# One row per text. `id` comes first, of the type that the data's own ids have (row numbers by default). The other
# columns are the fields of `Explanation`, so that a row can be read back as one, and `truncated`: the text was longer
# than the model reads, and the part that was not read has no tokens here.
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
    "probability": pa.float32(),
    "value": pa.float32(),
    "predicted_label": pa.string(),
    "foil_label": pa.string(),
    "score": pa.string(),
    "token_type_ids": pa.list_(pa.int8()),
    "units_of_tokens": pa.list_(pa.int32()),
    "truncated": pa.bool_(),
}
_OF_EXPLANATION = [field.name for field in fields(Explanation) if field.name in COLUMNS]
_SINCE_FORMAT_2 = {
    *("probability", "value", "predicted_label", "foil_label", "score"),
    *("token_type_ids", "units_of_tokens"),
}


def table_of(ids: pa.Array, explanations: Sequence[Explanation], truncated: Sequence[bool]) -> pa.Table:
    """The explanations as rows of a shard.

    Args:
        truncated: per explanation, whether its text was longer than the model reads.
    """
    values = {name: [getattr(one, name) for one in explanations] for name in _OF_EXPLANATION}
    values["truncated"] = list(truncated)
    return pa.table({"id": ids, **{name: pa.array(values[name], kind) for name, kind in COLUMNS.items()}})


@dataclass(frozen=True)
class Shards:
    """The files `part-00000.parquet`, `part-00001.parquet` ... of a folder: every row of a data set once, in order.

    A run resumes by whole shards: a shard gets its name when all of it is on the disk.

    Args:
        folder: holds the shards and their manifest.
        rows: of all shards together.
        rows_per_shard: of every shard but the last, which may have fewer.
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

    def missing(self, format: int = FORMAT) -> list[int]:
        """The numbers of the shards that do not exist or are not whole.

        A whole shard has all its rows and columns, and every page has the checksum it was written with.

        Args:
            format: of the run that wrote them.
        """
        return [shard for shard in range(len(self)) if not self._is_whole(shard, format)]

    def beyond(self) -> list[Path]:
        """Files in the folder that are named like shards and are none of this run's."""
        own = {self.path(shard) for shard in range(len(self))}
        return sorted(path for path in self.folder.glob("part-*.parquet") if path not in own)

    def _is_whole(self, shard: int, format: int) -> bool:
        wanted = {name: kind for name, kind in COLUMNS.items() if format > 1 or name not in _SINCE_FORMAT_2}
        try:
            table = pq.read_table(self.path(shard), page_checksum_verification=True, partitioning=None)
        except (OSError, pa.ArrowInvalid):
            return False
        stored = {field.name: field.type for field in table.schema if field.name != "id"}
        return table.num_rows == len(self.span(shard)) and "id" in table.column_names and stored == wanted

    def write(self, shard: int, table: pa.Table) -> None:
        """Write one shard, whole or not at all."""
        assert table.num_rows == len(self.span(shard))
        with replacing(self.path(shard)) as name:
            pq.write_table(table, name, compression="zstd", write_page_checksum=True)

    def begin(self, settings: Mapping[str, Any], making: Mapping[str, Any]) -> None:
        """Write the manifest of a new run; check that a run in the folder is the same one.

        Of several processes that begin at the same moment one writes the manifest, and the others check theirs by it.

        Args:
            settings: everything that decides the rows.
            making: further facts about how they were made.

        Raises:
            ValueError: when the folder holds something else, a run with other settings, parts that do not belong to
                the run, or an unfinished run that an older version of this package began.
        """
        settings = {**settings, "rows": self.rows, "rows_per_shard": self.rows_per_shard}
        settings = json.loads(json.dumps(settings))
        path = self.folder / MANIFEST
        # In this order: another process writes its manifest before its first part.
        if any(self.folder.glob("part-*.parquet")) and not path.exists():
            raise ValueError(f"`--output {self.folder}` holds Parquet parts but no {MANIFEST}: choose another folder.")
        try:
            with replacing(path, new=True) as name:
                manifest = {"amortex": FORMAT, "settings": settings, "making": dict(making)}
                Path(name).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        except FileExistsError:
            self._check_same(settings)

    def _check_same(self, settings: Mapping[str, Any]) -> None:
        manifest = _manifest(self.folder)
        stored = manifest["settings"]
        changed = [name for name in {**settings, **stored} if settings.get(name) != stored.get(name)]
        if changed:
            changes = "; ".join(f"{name} is {stored.get(name)!r} there, {settings.get(name)!r} now" for name in changed)
            raise ValueError(
                f"`--output {self.folder}` holds attributions with other settings: {changes}. Give the same settings "
                "to go on with them, or another folder."
            )
        self._check_alone()
        if manifest["amortex"] != FORMAT and self.missing(manifest["amortex"]):
            raise ValueError(
                f"`--output {self.folder}` holds an unfinished run of format {manifest['amortex']}, and this version "
                f"writes format {FORMAT}: choose another folder."
            )

    def _check_alone(self) -> None:
        """Refuse parts that are none of this run: readers of the folder would take their rows for its rows."""
        if beyond := self.beyond():
            raise ValueError(
                f"{str(self.folder)!r} holds {len(beyond)} parts that do not belong to its {len(self)} shards, such as "
                f"{beyond[0].name}: move them away."
            )

    def clear_leftovers(self) -> None:
        """Delete the unfinished files of killed runs; those of a run that is still writing stay."""
        clear_unfinished(self.folder)


def read_explanations(folder: str | Path) -> Iterator[Explanation]:
    """The explanations of a data set, in its order, one shard in memory at a time.

    Raises:
        ValueError: when the folder holds no attributions of a data set, parts of something else, or an unfinished run.
    """
    manifest = _manifest(Path(folder))
    settings, format = manifest["settings"], manifest["amortex"]
    shards = Shards(Path(folder), settings["rows"], settings["rows_per_shard"])
    shards._check_alone()
    if missing := shards.missing(format):
        raise ValueError(
            f"{str(folder)!r} lacks {len(missing)} of its {len(shards)} shards, such as {shards.path(missing[0])}. "
            "Run the command that wrote it again: it resumes where it stopped."
        )
    for path in map(shards.path, range(len(shards))):
        stored = set(pq.read_schema(path).names)
        for row in pq.read_table(path, columns=[name for name in _OF_EXPLANATION if name in stored]).to_pylist():
            yield Explanation(**{**row, "offsets": [(start, end) for start, end in row["offsets"]]})


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        settings = manifest["settings"]
        if manifest["amortex"] not in READABLE or not isinstance(settings, dict):
            raise TypeError("of another format")
        if (
            type(settings["rows"]) is not int
            or type(settings["rows_per_shard"]) is not int
            or min(settings["rows"], settings["rows_per_shard"] - 1) < 0
        ):
            raise TypeError("without the numbers of its rows")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{str(folder)!r} holds no attributions of a data set: its {MANIFEST} is missing, broken or of something "
            f"else ({error})."
        ) from error
    return manifest
