"""Files that are written whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: unfinished files of killed runs stay there
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".unfinished"


@contextmanager
def replacing(path: Path, new: bool = False) -> Iterator[str]:
    """The name of a file to write, which takes the place of `path` at the end of the block.

    The folder is made if it is missing. The content is on the disk before it gets its name. After an exception `path`
    is as it was, and nothing else is left.

    Args:
        new: refuse to replace a file that exists, also one that another process makes at the same moment.

    Raises:
        OSError: when the file cannot be written; it names `path`. FileExistsError for a `new` file that exists.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path = Path(os.path.realpath(path))  # the file that a link points to, not the link
    try:
        with unfinished(path) as folder:
            name = folder / path.name
            yield str(name)
            with name.open("rb") as file:
                os.fsync(file.fileno())
            os.chmod(name, 0o644)  # some writers make files that their owner alone can read
            _place(name, path, new)
    except OSError as error:
        if error.errno is not None and (error.filename is None or UNFINISHED in str(error.filename)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A hidden folder next to `path` for files that are being written; deleted at the end of the block.

    A lock says that its process is alive. What a killed process left of the same `path` is deleted first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_unfinished(path.parent, path.name)
    for _ in range(3):  # another process may take the new folder for a leftover before it is locked
        # Hidden, so that readers of the folder pass over it; unique, as several processes may write the same file.
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED))
        lock = _lock(folder)
        if lock is not None and folder.exists():
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as name:
        Path(name).write_text(text, encoding="utf-8")


def clear_unfinished(folder: Path, of: str = "") -> None:
    """Delete what killed processes left in a folder; what a living process writes stays.

    Args:
        of: only what was to become the file of this name; of all files by default.
    """
    if fcntl is None:
        return
    for left in list(folder.iterdir()):
        if left.name.startswith(f".{of}") and left.name.endswith(UNFINISHED):
            lock = _lock(left)
            if lock is not None:
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:  # version 0.1 wrote files
                    left.unlink(missing_ok=True)
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """The descriptor of a folder that this process has locked; None where another one has, or locks do not exist."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # gone, or of another user
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _place(written: Path, path: Path, new: bool) -> None:
    if new:
        try:
            os.link(written, path)
            return
        except FileExistsError:
            raise
        except OSError as error:  # a file system without links
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
    os.replace(written, path)
