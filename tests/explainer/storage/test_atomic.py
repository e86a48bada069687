"""Files that are written whole or not at all."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from explainer.storage import atomic
from explainer.storage.atomic import UNFINISHED, clear_unfinished, replacing, write_text


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


def test_unfinished_files_are_hidden_next_to_their_place_and_no_two_are_alike(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        for name in (one, other):
            assert Path(name).name == "file"
            assert Path(name).parent.parent == tmp_path
            assert Path(name).parent.name.startswith(".file.")
            assert Path(name).parent.name.endswith(UNFINISHED)
            Path(name).write_text(name)
    assert path.read_text() == one


def test_a_new_file_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path, new=True) as first:
        Path(first).write_text("first")
        assert not path.exists()
    with pytest.raises(FileExistsError, match=r"file'$"), replacing(path, new=True) as second:
        Path(second).write_text("second")
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    write_text(tmp_path / "link", "é")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_bytes() == "é".encode()


WRITER = """
import runpy, sys, time
from pathlib import Path
replacing = runpy.run_path(sys.argv[2])["replacing"]
with replacing(Path(sys.argv[1])) as name:
    Path(name).write_text("half")
    Path(name).with_name(".tmp.of.another.package").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("killed", "living")]
    command = [sys.executable, "-c", WRITER]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(subprocess.Popen([*command, str(path), atomic.__file__], stdout=subprocess.PIPE))
            for path in paths
        ]
        try:
            for writer in writers:
                assert writer.stdout
                assert writer.stdout.readline() == b"writing\n"
            writers[0].kill()
            writers[0].wait()
            assert len(list(tmp_path.iterdir())) == 2
            clear_unfinished(tmp_path, "living")
            assert len(list(tmp_path.iterdir())) == 2
            write_text(paths[0], "whole")  # the next run of the same file
            clear_unfinished(tmp_path)
            left = sorted(path.name.split(".")[1] or path.name for path in tmp_path.glob(".*"))
            assert (left, paths[0].read_text()) == (["living"], "whole")
        finally:
            for writer in writers:
                writer.kill()
    clear_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("of pyarrow, without a number")])
def test_an_error_of_the_disk_names_the_file(error: OSError, tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "file"):
            raise error

    with pytest.raises(OSError, match=r"No space left on device: .*/file'$|without a number"):
        write()
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        write_text(tmp_path, "")
    assert list(tmp_path.iterdir()) == []


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("replace"), replace(*names)))
    with replacing(tmp_path / "file") as name:
        Path(name).write_text("whole")
    assert order == ["sync", "replace"]
