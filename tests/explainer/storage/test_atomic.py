"""Files that are written whole or not at all."""

import os
from pathlib import Path

import pytest

from explainer.storage.atomic import UNFINISHED, replacing


@pytest.mark.parametrize("before", [None, "old"])
def test_the_file_takes_its_place_at_the_end_of_the_block(before: str | None, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    if before is not None:
        path.parent.mkdir()
        path.write_text(before)
    with replacing(path) as name:
        Path(name).write_text("whole")
        assert (path.read_text() if path.exists() else None) == before
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["file.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_an_exception_everything_is_as_it_was(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as name:
            Path(name).write_text("ha")
            raise error

    with pytest.raises(error):
        write_half()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"file.json": "old"}


def test_others_may_read_the_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as name:
        Path(name).write_text("whole")
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o644


def test_unfinished_files_are_hidden_in_the_same_folder_and_no_two_are_alike(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        for name in (one, other):
            assert Path(name).parent == tmp_path
            assert Path(name).name.startswith(".file.")
            assert name.endswith(UNFINISHED)
            Path(name).write_text(name)
    assert path.read_text() == one


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("replace"), replace(*names)))
    with replacing(tmp_path / "file") as name:
        Path(name).write_text("whole")
    assert order == ["sync", "replace"]
