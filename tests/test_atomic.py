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


@pytest.mark.parametrize(
    "fails", ["tempfile.mkstemp", "os.replace"], ids=["not opened", "not put in place"]
)
def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path, monkeypatch, fails):
    path = tmp_path / "c.csv"

    def read_only(*given: object, **_: object) -> None:
        name = str(given[0] if given else tmp_path / ".c-x1y2.csv")
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), name, None, str(path))

    monkeypatch.setattr(fails, read_only)
    with pytest.raises(OSError, match="Read-only") as found:
        write_text(path, "new")
    assert found.value.filename == str(path)
    assert str(path) in str(found.value)
    assert ".c-" not in str(found.value)
    assert not list(tmp_path.iterdir())
