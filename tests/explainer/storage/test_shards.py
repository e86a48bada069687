"""Parquet shards: read as written, in order; whole or not there; other settings are refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explainer.attributor import Attributor
from explainer.explanation import Explanation
from explainer.methods import InputTimesGradient
from explainer.storage.shards import COLUMNS, Shards, read_explanations, table_of
from tests.families import TEXTS, explained

FIVE = [*TEXTS, ""]


def explanations() -> list[Explanation]:
    return Attributor(explained("bert"), InputTimesGradient())(FIVE, [None, "good", None, "", None])


def rows(shards: Shards, shard: int) -> pa.Table:
    span = shards.span(shard)
    part = explanations()[span.start : span.stop]
    return table_of(pa.array(span), part, [False] * len(part))


def finished(folder: Path) -> Shards:
    shards = Shards(folder, rows=5, rows_per_shard=2)
    shards.begin({"method": "x"}, {})
    for shard in reversed(range(3)):
        shards.write(shard, rows(shards, shard))
    return shards


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    finished(tmp_path)
    assert list(read_explanations(tmp_path)) == explanations()


def test_the_files_are_a_data_set_for_everyone(tmp_path: Path) -> None:
    finished(tmp_path)
    table = pq.read_table(tmp_path)
    assert table.column("id").to_pylist() == [0, 1, 2, 3, 4]
    assert table.column_names == ["id", *COLUMNS]
    assert [table.schema.field(name).type for name in COLUMNS] == list(COLUMNS.values())


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
    pq.write_table(rows(shards, 1).slice(0, 1), shards.path(1))
    shards.path(2).unlink()
    assert shards.missing() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"lacks 3 of its 3 shards, such as .*part-00000.parquet"):
        list(read_explanations(tmp_path))


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = finished(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half(table: pa.Table, name: str, **options: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OSError, match="no space"):
        shards.write(1, rows(shards, 1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_leftovers_of_a_killed_run_are_not_read_and_go(tmp_path: Path) -> None:
    shards = finished(tmp_path)
    (tmp_path / ".part-00000.parquet.abc.unfinished").write_bytes(b"half")
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


@pytest.mark.parametrize("content", [None, "{", "[]", '{"amortex": 99, "settings": {}}'])
def test_what_is_no_run_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "_manifest.json").write_text(content)
    with pytest.raises(ValueError, match="holds no attributions of a data set"):
        list(read_explanations(tmp_path))
