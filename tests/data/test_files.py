"""Whole files: after every failure the old file is unchanged, no other file is left, and the error is one line."""

import errno
import io
import os
import pathlib

import pytest

from mdps_ref.data import files

OLD, NEW = b"old bytes", b"new bytes"


@pytest.fixture
def path(tmp_path):
    """A file that is there already."""
    path = tmp_path / "run" / "scores.csv"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


def write(path, content=NEW):
    with files.whole_file(path) as handle:
        handle.write(content)


def assert_untouched(path):
    assert path.read_bytes() == OLD
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_is_written_its_folders_made_and_nothing_left_beside_it(tmp_path):
    path = tmp_path / "a" / "b" / "new.csv"
    write(path)
    assert path.read_bytes() == NEW
    assert [file.name for file in path.parent.iterdir()] == ["new.csv"]


def test_a_file_is_replaced_only_at_the_end_of_the_block(path):
    with files.whole_file(path) as handle:
        handle.write(NEW)
        handle.flush()
        assert path.read_bytes() == OLD
    assert path.read_bytes() == NEW


def test_the_bytes_are_on_the_disk_before_the_name_is(path, monkeypatch):
    """A power cut after the renaming must not leave an empty file under the name."""
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(("fsync", os.fstat(handle).st_size)), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("replace"), replace(*names)))
    write(path)
    assert done == [("fsync", len(NEW)), "replace"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), MemoryError()], ids=lambda error: type(error).__name__)
def test_a_block_that_raises_leaves_the_old_file(path, error):
    with pytest.raises(type(error)) as caught, files.whole_file(path) as handle:
        handle.write(NEW)
        raise error
    assert caught.value is error
    assert_untouched(path)


class FullDisk(io.BytesIO):
    """A file on a disk that has room for three bytes."""

    def write(self, content):
        super().write(content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file(path, monkeypatch, fails_with):
    def open_on_full_disk(part, mode):
        pathlib.Path(part).touch()
        return FullDisk()

    monkeypatch.setattr(files, "open", open_on_full_disk, raising=False)
    with fails_with(path, "no space left on device", "free space"):
        write(path)
    assert_untouched(path)


def test_a_disk_that_is_full_only_at_the_flush_leaves_the_old_file(path, fails_with):
    """Writes are buffered, so a full disk may raise its error as late as the flush, as /dev/full does."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    path.with_name("scores.csv.part").symlink_to("/dev/full")
    with fails_with(path, "no space left on device"):
        write(path)
    assert_untouched(path)
    assert os.path.exists("/dev/full")


def test_a_failing_rename_leaves_the_old_file(path, monkeypatch, fails_with):
    def refuse(source, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with fails_with(path, "permission denied", "choose another folder"):
        write(path)
    assert_untouched(path)


def test_a_folder_that_cannot_be_written_to_is_one_line(path, fails_with):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    path.parent.chmod(0o500)
    try:
        with fails_with(path, "permission denied", "choose another folder"):
            write(path)
    finally:
        path.parent.chmod(0o700)
    assert_untouched(path)


@pytest.mark.parametrize(
    "place, part",
    [
        ("run/scores.csv/new.csv", "choose another folder"),
        ("run/scores.csv/deeper/new.csv", "choose another folder"),
        ("run", "is a directory"),
        ("n" * 300, "name too long"),
    ],
)
def test_a_place_where_no_file_can_be_is_one_line(place, part, path, tmp_path, fails_with):
    with fails_with(tmp_path / place, part):
        write(tmp_path / place)
    assert_untouched(path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["run"]


def test_what_a_killed_run_left_behind_is_written_over(path):
    path.with_name("scores.csv.part").write_bytes(b"half of something longer than the new bytes")
    write(path)
    assert path.read_bytes() == NEW
    assert [file.name for file in path.parent.iterdir()] == ["scores.csv"]


def test_text_is_utf8_whatever_the_platform_and_a_file_name_that_is_none_keeps_its_bytes(path):
    for content in ("Größe,1\n".encode(), b"test/good/\xff\xc3\xa9.png"):
        files.write_text(path, os.fsdecode(content))
        assert path.read_bytes() == content


def test_what_would_be_waited_for_or_never_ends_is_not_opened(tmp_path, monkeypatch, fails_with):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "device").symlink_to("/dev/zero")
    monkeypatch.setattr(files, "open", lambda *_: pytest.fail("was opened"), raising=False)
    for name in ("fifo", "device"):
        with fails_with(tmp_path / name, "FIFO, socket or device"):
            files.digest(tmp_path / name)
