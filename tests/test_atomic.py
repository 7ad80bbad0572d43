"""Files are written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from ttc_env.atomic import write_atomically, write_bytes, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "c.csv"
    write_text(path, "old\n")

    def part(temporary: Path) -> None:
        temporary.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, part)
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]
    write_bytes(path, b"new\r\n")
    assert path.read_bytes() == b"new\r\n"


def test_a_full_disk_names_the_file(tmp_path):
    def full(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space") as found:
        write_atomically(tmp_path / "c.csv", full)
    assert found.value.filename == str(tmp_path / "c.csv")
    assert not list(tmp_path.iterdir())
