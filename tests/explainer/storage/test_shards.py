"""Parquet shards: read as written, in order; whole or missing; other settings are refused."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explainer.attributor import Attributor
from explainer.explanation import Explanation
from explainer.methods import InputXGradient
from explainer.storage.shards import COLUMNS, MANIFEST, Shards, read_explanations, table_of
from tests.families import TASKS, TEXTS, explained

FIVE = [*TEXTS, ""]


def explanations(task: str = "classification") -> list[Explanation]:
    model = explained("bert", **TASKS[task])
    return Attributor(model, InputXGradient())(FIVE, [None, "good", None, "", None])


def table(shards: Shards, shard: int, every: list[Explanation] | None = None) -> pa.Table:
    span = shards.span(shard)
    part = (every or explanations())[span.start : span.stop]
    return table_of(pa.array(span), part, [False] * len(part))


def finished(folder: Path, every: list[Explanation] | None = None) -> Shards:
    shards = Shards(folder, rows=5, rows_per_shard=2)
    shards.begin({"method": "x"}, {})
    for shard in reversed(range(3)):
        shards.write(shard, table(shards, shard, every))
    return shards


@pytest.mark.parametrize("task", TASKS)
def test_what_is_read_is_what_was_written(task: str, tmp_path: Path) -> None:
    finished(tmp_path, explanations(task))
    assert list(read_explanations(tmp_path)) == explanations(task)


def test_foils_scores_and_units_are_read_back_too(tmp_path: Path) -> None:
    changed = [
        replace(one, foil_label="a", score="log_prob", units_of_tokens=list(range(len(one.tokens))))
        for one in explanations()
    ]
    finished(tmp_path, changed)
    assert list(read_explanations(tmp_path)) == changed


# Format 1


def older(folder: Path) -> Shards:
    """The same folder as version 0.1 wrote it: without the columns of format 2."""
    shards = finished(folder)
    for shard in range(3):
        pq.write_table(pq.read_table(shards.path(shard)).drop_columns(sorted(NEW)), shards.path(shard))
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"amortex": 1}))
    return shards


NEW = {
    "probability",
    "value",
    "predicted_label",
    "foil_label",
    "score",
    "token_type_ids",
    "units_of_tokens",
}


def test_format_1_is_read_with_what_it_has(tmp_path: Path) -> None:
    older(tmp_path)
    read = list(read_explanations(tmp_path))
    assert read == [replace(one, **dict.fromkeys(NEW - {"score"})) for one in explanations()]
    assert [one.caption.headline for one in read] == [one.caption.headline for one in explanations()]


def test_a_finished_run_of_format_1_stays_and_an_unfinished_one_is_refused(tmp_path: Path) -> None:
    shards = older(tmp_path)
    shards.begin({"method": "x"}, {})
    shards.path(1).unlink()
    with pytest.raises(ValueError, match="unfinished run of format 1, and this version writes format 2"):
        shards.begin({"method": "x"}, {})


# Files


def test_the_files_are_a_data_set_for_everyone(tmp_path: Path) -> None:
    finished(tmp_path)
    whole = pq.read_table(tmp_path)
    assert whole.column("id").to_pylist() == [0, 1, 2, 3, 4]
    assert whole.column_names == ["id", *COLUMNS]
    assert [whole.schema.field(name).type for name in COLUMNS] == list(COLUMNS.values())


def test_every_row_is_in_one_shard() -> None:
    for n in range(1, 9):
        shards = Shards(Path("x"), rows=n, rows_per_shard=3)
        assert [row for shard in range(len(shards)) for row in shards.span(shard)] == list(range(n))
        assert all(len(shards.span(shard)) > 0 for shard in range(len(shards)))


def test_no_rows_are_no_shards(tmp_path: Path) -> None:
    shards = Shards(tmp_path, rows=0, rows_per_shard=3)
    shards.begin({}, {})
    assert list(read_explanations(tmp_path)) == []


def test_a_shard_that_is_broken_or_short_is_missing(tmp_path: Path) -> None:
    shards = finished(tmp_path)
    assert shards.missing() == []
    content = shards.path(0).read_bytes()
    shards.path(0).write_bytes(content[: len(content) // 2])
    pq.write_table(table(shards, 1).slice(0, 1), shards.path(1))
    shards.path(2).unlink()
    assert shards.missing() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"lacks 3 of its 3 shards, such as .*part-00000.parquet"):
        list(read_explanations(tmp_path))


def test_a_shard_with_a_flipped_bit_or_without_a_column_is_missing(tmp_path: Path) -> None:
    shards = finished(tmp_path)
    content = bytearray(shards.path(0).read_bytes())
    content[len(content) // 3] ^= 1
    shards.path(0).write_bytes(content)
    pq.write_table(pq.read_table(shards.path(1)).drop_columns(["units_of_tokens"]), shards.path(1))
    other = pq.read_table(shards.path(2)).to_pandas().assign(scores="none")
    pq.write_table(pa.Table.from_pandas(other), shards.path(2))
    assert shards.missing() == [0, 1, 2]


def test_parts_beyond_the_last_are_seen(tmp_path: Path) -> None:
    shards = finished(tmp_path)
    shards.path(2).rename(shards.path(7))
    for read in (lambda: shards.begin({"method": "x"}, {}), lambda: list(read_explanations(tmp_path))):
        with pytest.raises(ValueError, match=r"1 parts that do not belong to its 3 shards, such as part-00007"):
            read()


def test_of_two_processes_that_begin_at_once_one_writes_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one begins, and finishes, between the look for a manifest and its writing."""
    write = Path.write_text

    def meanwhile(path: Path, *text: str, **options: str) -> int:
        monkeypatch.setattr(Path, "write_text", write)
        finished(tmp_path)
        return path.write_text(*text, **options)

    for settings, message in (({"method": "x"}, None), ({"method": "y"}, "method is 'x' there, 'y' now")):
        shards = Shards(tmp_path, rows=5, rows_per_shard=2)
        (tmp_path / MANIFEST).unlink(missing_ok=True)
        for part in tmp_path.glob("part-*"):
            part.unlink()
        monkeypatch.setattr(Path, "write_text", meanwhile)
        with pytest.raises(ValueError, match=message) if message else nullcontext():
            shards.begin(settings, {})
        assert json.loads((tmp_path / MANIFEST).read_text())["settings"]["method"] == "x"
        assert shards.missing() == []


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = finished(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half(table: pa.Table, name: str, **options: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OSError, match="no space"):
        shards.write(1, table(shards, 1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_leftovers_of_a_killed_run_are_not_read_and_go(tmp_path: Path) -> None:
    shards = finished(tmp_path)
    (tmp_path / ".part-00000.parquet.abc.unfinished").write_bytes(b"half")  # of version 0.1
    (tmp_path / ".part-00001.parquet.abc.unfinished").mkdir()
    assert pq.read_table(tmp_path).num_rows == 5
    shards.clear_leftovers()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "_manifest.json",
        *(f"part-0000{i}.parquet" for i in range(3)),
    ]


def test_the_same_settings_go_on_and_others_are_named(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "new", rows=5, rows_per_shard=2)
    shards.begin({"method": "a", "target": 1, "layers": (1, 2)}, {"versions": "then"})
    shards.begin({"method": "a", "target": 1, "layers": [1, 2]}, {"versions": "now"})
    assert json.loads((tmp_path / "new" / "_manifest.json").read_text())["making"] == {"versions": "then"}
    with pytest.raises(ValueError, match="other settings: method is 'a' there, 'b' now; target is 1 there, None now"):
        shards.begin({"method": "b", "layers": [1, 2]}, {})
    with pytest.raises(ValueError, match="rows_per_shard is 2 there, 3 now"):
        Shards(tmp_path / "new", rows=5, rows_per_shard=3).begin({"method": "a", "target": 1, "layers": [1, 2]}, {})


def test_parts_without_a_manifest_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").touch()
    with pytest.raises(ValueError, match=r"`--output .*` holds Parquet parts but no _manifest\.json"):
        Shards(tmp_path, rows=5, rows_per_shard=2).begin({}, {})


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"amortex": 99, "settings": {}}', '{"amortex": 2, "settings": {"rows": "5"}}']
)
def test_what_is_no_run_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "_manifest.json").write_text(content)
    with pytest.raises(ValueError, match="holds no attributions of a data set"):
        list(read_explanations(tmp_path))
