"""The lock of a folder: what is said where it cannot be made or held, and its form on Windows."""

import errno
import fcntl
import importlib.util
import os
import sys
import types

import pytest

from mdps_ref.job import lock
from mdps_ref.job.lock import Taken, held_lock


def failing(number):
    """A function that fails as the system does, with this error number."""

    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_one_line_with_the_remedy(number, tmp_path, monkeypatch, fails_with):
    """Root may write anywhere, so the system's answer is played."""
    monkeypatch.setattr(lock, "open", failing(number), raising=False)
    with fails_with(f"{tmp_path / 'lock'}: could not be written", os.strerror(number).lower(), "--out"), held_lock(tmp_path / "lock", ""):
        pass


def test_of_two_holders_the_second_is_refused_until_the_first_is_done(tmp_path):
    for _ in range(2):
        with held_lock(tmp_path / "lock", ""):
            with pytest.raises(Taken, match="wait for it"), held_lock(tmp_path / "lock", "wait for it"):
                pass
            assert (tmp_path / "lock").exists()
        assert not (tmp_path / "lock").exists()


def test_a_lock_that_a_user_removed_and_another_process_made_anew_is_not_its_first_holders_to_remove(tmp_path):
    path = tmp_path / "lock"
    with held_lock(path, "taken"):
        path.unlink()
        second = held_lock(path, "taken")
        second.__enter__()
    assert path.is_file()
    second.__exit__(None, None, None)
    assert not path.exists()


def test_a_file_system_without_locks_is_told_and_no_reason_to_stop(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "_lock", failing(errno.ENOLCK))
    with held_lock(tmp_path / "lock", "wait for it"):
        assert (tmp_path / "lock").exists()
    told = capsys.readouterr().err
    assert str(tmp_path / "lock") in told and "no second run" in told and told.count("\n") == 1


@pytest.mark.parametrize("made_again", [False, True])
def test_a_lock_that_its_holder_removed_before_it_could_be_held_holds_nothing(made_again, tmp_path, monkeypatch):
    """Another process would make the file anew, and hold that, too."""
    path, hold = tmp_path / "lock", lock._lock

    def late(handle):
        path.rename(tmp_path / "gone")  # so that the new file cannot have the old one's number
        if made_again:
            path.touch()
        hold(handle)

    monkeypatch.setattr(lock, "_lock", late)
    with pytest.raises(Taken, match="wait for it"), held_lock(path, "wait for it"):
        pass
    assert path.exists() == made_again


def test_on_windows_the_first_byte_is_locked_without_waiting(tmp_path, monkeypatch):
    """The module as it is made where there is no fcntl; msvcrt's part is played by fcntl."""

    def locking(number, mode, count):
        assert (mode, count, os.lseek(number, 0, os.SEEK_CUR)) == (2, 1, 0)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            failing(errno.EACCES)()

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    spec = importlib.util.spec_from_file_location("lock_on_windows", lock.__file__)
    windows = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(windows)
    for _ in range(2):
        with windows.held_lock(tmp_path / "lock", ""):
            with pytest.raises(windows.Taken, match="wait for it"), windows.held_lock(tmp_path / "lock", "wait for it"):
                pass
        assert not (tmp_path / "lock").exists()


def test_in_a_browser_there_is_nothing_to_lock_with(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", types.SimpleNamespace())
    with lock.held_lock(tmp_path / "lock", "taken"):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()
