"""Teams of forked processes: results in order, errors told, nothing left behind, and the same maps and gradients as one process."""

import os
import pathlib
import pickle
import signal
import sys
import time

import numpy as np
import pytest

from mdps_ref.errors import InputError
from mdps_ref.job import images
from mdps_ref.job.config import make_config, with_defaults
from mdps_ref.job.interrupt import Interrupted
from mdps_ref.job.train import BatchGradient, draw_batch, start_training
from mdps_ref.kernels import fast, processes
from mdps_ref.kernels.processes import Team, members, shared_copies
from mdps_ref.kernels.threads import LIMIT, even_shares

pytestmark = [
    pytest.mark.kernels_as_they_are,
    pytest.mark.skipif(not processes.CAN_FORK, reason="this system forks no processes"),
]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_share_goes_to_a_process_of_its_own_and_results_come_in_order():
    with Team(lambda x, y: (os.getpid(), x * y), 3) as team:
        for factor in (1, 10):
            pids, products = zip(*team([(k, factor) for k in (1, 2, 3)]), strict=True)
            assert products == (factor, 2 * factor, 3 * factor)
            assert len(set(pids)) == 3 and pids[0] == os.getpid()


def test_no_process_is_left_behind_even_if_work_fails_here_while_others_go_on():
    caller = os.getpid()

    def work(_):
        if os.getpid() != caller:
            time.sleep(60)
        raise ValueError("broken")

    begun = time.monotonic()
    with Team(work, 2) as team, pytest.raises(ValueError, match="broken"):
        ((pid, _),) = team._others
        assert alive(pid)
        team([(1,), (2,)])
    assert not alive(pid) and time.monotonic() - begun < 30


def test_what_is_raised_in_another_process_is_raised_here():
    def work(x):
        if x:
            raise InputError(f"share {x} is broken")

        return x

    with Team(work, 3) as team:
        with pytest.raises(InputError, match="share 1 is broken"):
            team([(0,), (1,), ("",)])
        assert team([(0,), ([],), ({},)]) == [0, [], {}]


class Odd(Exception):
    """Made from two things, so pickle cannot make it again from its one argument."""

    def __init__(self, what, why):
        super().__init__(f"{what}: {why}")


class Local(Exception):
    """Holds what cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.why = lambda: text


@pytest.mark.parametrize("error", [Odd("features", "the real reason"), Local("the real reason")], ids=["comes back wrong", "is not sent"])
def test_an_exception_that_pickle_cannot_send_is_told_by_its_text(error):
    def work(x):
        if x:
            raise error

    with Team(work, 2) as team:
        with pytest.raises((RuntimeError, Odd), match="the real reason"):  # Dask teaches pickle to send Odd as it is
            team([(0,), (1,)])
        assert team([(0,), (0,)]) == [None, None]


def test_an_exception_tells_the_line_of_the_member_that_raised_it():
    def broken(x):
        return x and {}["nothing of this name"]

    with Team(broken, 2) as team, pytest.raises(KeyError) as raised:
        team([(0,), (1,)])
    assert "in broken" in raised.value.__notes__[0]


def test_a_result_that_pickle_cannot_send_is_an_error_of_the_work():
    with Team(lambda x: (lambda: x) if x else x, 2) as team:
        with pytest.raises(Exception, match="pickle"):
            team([(0,), (1,)])
        assert team([(0,), (0,)]) == [0, 0]


def test_a_request_to_stop_comes_back_from_another_process_as_it_was():
    assert pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM))).exit_status == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_is_the_callers_to_answer(number):
    """Such as `timeout` and job schedulers send it."""
    with Team(lambda member: member, 2) as team:
        ((member, _),) = team._others
        assert team([(1,), (2,)]) == [1, 2]  # so that it has begun
        os.kill(member, number)
        assert team([(3,), (4,)]) == [3, 4]


def test_a_team_ends_also_where_this_process_was_started_to_ignore_its_childrens_ends():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Team(lambda x: x, 2) as team:
            assert team([(1,), (2,)]) == [1, 2]
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("moment", ["idle", "before it reads its share", "at work"])
def test_a_process_that_is_killed_is_told(moment, fails_with):
    """The connection gives another error each time; that of an idle process is the same as when a reader of the output has gone."""
    caller = os.getpid()

    def work(member):
        if os.getpid() == caller and moment == "before it reads its share":
            os.kill(member, signal.SIGKILL)
        if os.getpid() != caller:
            os.kill(os.getpid(), signal.SIGKILL)

    with Team(work, 2) as team:
        ((member, _),) = team._others
        if moment == "idle":
            os.kill(member, signal.SIGKILL)
            os.waitid(os.P_PID, member, os.WEXITED | os.WNOWAIT)
        if moment == "before it reads its share":
            os.kill(member, signal.SIGSTOP)
            os.waitid(os.P_PID, member, os.WSTOPPED | os.WNOWAIT)
        with fails_with("was killed", "--threads 1"):
            team([(member,), (member,)])
        assert not alive(member)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_team_ends_with_its_caller_and_holds_none_of_its_files(tmp_path):
    """The caller is a child of this test, so that it can be killed; its lock is free again although its team was at work."""
    import fcntl

    reader, writer = os.pipe()
    caller = os.fork()
    if caller == 0:
        lock = open(tmp_path / "lock", "w")  # noqa: SIM115 (it is held until the process dies)
        fcntl.flock(lock, fcntl.LOCK_EX)
        team = Team(lambda _: time.sleep(60), 2)
        os.write(writer, f"{team._others[0][0]}\n".encode())
        team([(1,), (2,)])
        os._exit(0)
    member = int(os.read(reader, 100))
    time.sleep(0.2)
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for _ in range(100):
        state = pathlib.Path(f"/proc/{member}/stat")
        if not alive(member) or (state.exists() and state.read_text().split()[2] == "Z"):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the other process goes on without its caller")


def test_a_system_without_room_for_another_process_is_told(fails_with, monkeypatch):
    def full():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    with fails_with("Resource temporarily unavailable", "--threads 1"):
        Team(lambda: None, 2)


def test_a_member_may_forget_the_teams_that_it_inherits(monkeypatch):
    """Their connections are closed by then; closing them again would be complained about."""
    caller, teams, complaints = os.getpid(), [Team(lambda: None, 2)], []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    def forget():
        if os.getpid() != caller:
            teams.clear()
        return len(complaints)

    with Team(forget, 2) as team:
        assert team([(), ()]) == [0, 0]
    assert teams[0]([(), ()]) == [None, None]
    teams[0].close()


def test_the_threads_of_fast_are_shared_out(monkeypatch):
    monkeypatch.setattr("mdps_ref.kernels.table.CORES", 4)
    with fast(4), Team(lambda: LIMIT.get(), 2) as team:
        assert team([(), ()]) == [2, 2] and LIMIT.get() == 4
        assert members(9) == 4 and members(3) == 3
        with fast(4, forks=False), fast(4):
            assert members(9) == 1
    assert members(9) == 1


def test_shared_copies_are_seen_by_all():
    arrays = {"a": np.arange(3.0), "b": np.ones((2, 3), np.float32), "c": np.zeros(())}
    shared = shared_copies(arrays)

    def add(amount):
        for array in shared.values():
            array += amount

    with Team(add, 2) as team:
        team([(0,), (1,)])
    for name, array in arrays.items():
        assert shared[name].dtype == array.dtype
        np.testing.assert_array_equal(shared[name], array + 1)


@pytest.mark.parametrize("count, number", [(5, 2), (4, 4), (7, 3)])
def test_even_shares_cover_everything_once(count, number):
    shares = even_shares(count, number)
    assert [at for part in shares for at in range(count)[part]] == list(range(count)) and len(shares) == number
    assert max(part.stop - part.start for part in shares) - min(part.stop - part.start for part in shares) <= 1


@pytest.mark.parametrize("batch", [2, 5])
def test_a_shared_batch_has_the_gradient_of_the_whole_batch(batch, monkeypatch):
    """Uneven shares among them: each image counts the same."""
    monkeypatch.setattr("mdps_ref.kernels.table.CORES", 3)
    config = make_config(with_defaults({"batch_size": batch, "image_size": 16}))
    images = np.random.default_rng(0).uniform(-1, 1, (batch, 16, 16, 3)).astype(np.float32)
    found = []
    for threads in (1, 3):
        with fast(threads):
            state = start_training(config, np)
            rng = np.random.default_rng(1)
            state.weights = {name: w + 0.1 * rng.standard_normal(w.shape).astype(w.dtype) for name, w in state.weights.items()}
            with BatchGradient(state, config, np) as gradient:
                found.append(gradient(*draw_batch(images, config, 0)))
    (loss, one), (other_loss, several) = found
    assert other_loss == pytest.approx(loss, rel=1e-5)
    for name in one:
        np.testing.assert_allclose(several[name], one[name], rtol=0, atol=2e-5 * max(1e-3, abs(one[name]).max()), err_msg=name)


@pytest.mark.parametrize("count", [1, 5])
def test_what_is_drawn_is_shared_and_nothing_left_out(tmp_path, count):
    """Each item leaves a file with the number of the process that did it."""
    with fast(2):
        images._in_processes(lambda name: (tmp_path / name).write_text(str(os.getpid())), [f"{number}" for number in range(count)])
    done = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert done.keys() == {f"{number}" for number in range(count)} and len(set(done.values())) == min(2, count)
