"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = ".unfinished"


@contextmanager
def replacing(path: Path) -> Iterator[str]:
    """The name of a temporary file in the folder of `path`, which takes the place of `path` at the end of the block.

    The folder is made if it is missing. The content is on the disk before it gets its name. After an exception the
    temporary file is deleted, and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, so that readers of a folder pass over it; and unique, because a killed run may have children that still
    # write.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
    os.close(handle)
    try:
        yield name
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # a temporary file can be read by its owner only
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
