"""The commands as processes: odd streams, full disks, signals, and kills at any moment."""

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import write_image

from mdps_ref.job.run_folder import LOCK

pytestmark = pytest.mark.kernels_as_they_are  # the other process has the table


def process(arguments, **more):
    """Start `python -m ...` with these arguments."""
    return subprocess.Popen([sys.executable, "-m", *map(str, arguments)], **more)


def ended(arguments, timeout=600, **more):
    """Run `python -m ...` to its end; its status, and what it printed on standard output and error."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        timeout=timeout,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        **more,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def arguments(place, done, tmp_path_factory):
    """arguments(command, out): those of a command that takes a moment."""
    photographs = tmp_path_factory.mktemp("photographs")
    for name in ("Größe.png", "画像.png", "c.png"):
        write_image(photographs / name, np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8))
    commands = {
        "score": ["mdps_ref.score", done, photographs],
        "run": ["mdps_ref.run", "--data", place / "data", "--category", "part", "--config", place / "quick.json"],
    }
    return lambda command, out: [*commands[command], "--out", out]


STREAMS = {
    "no standard error": "2>&-",
    "no standard output": ">&-",
    "neither": ">&- 2>&-",
    "no input": "<&-",
    "a full device": ">/dev/full",
    "a reader that has gone": "| true",
}


@pytest.mark.parametrize("redirection", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("out", ["-", "folder"])
def test_odd_streams_lose_nothing_and_give_no_traceback(out, redirection, arguments, tmp_path):
    command = shlex.join(map(str, [sys.executable, "-m", *arguments("score", out if out == "-" else tmp_path / "out")]))
    told = subprocess.run(["bash", "-c", f"{command} {redirection}"], stderr=subprocess.PIPE, cwd=tmp_path, timeout=600)
    assert b"Traceback" not in told.stderr and b"Exception" not in told.stderr, told.stderr
    if out == "folder":
        assert len((tmp_path / "out/scores.csv").read_text().splitlines()) == 4
    if redirection != ">/dev/full":
        assert told.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_that_the_terminal_cannot_write_are_escaped(encoding, arguments, tmp_path):
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    status, out, err = ended(arguments("score", "-"), cwd=tmp_path, env=env)
    assert (status, len(out.decode(encoding).splitlines())) == (0, 4), err


def test_neither_home_nor_hash_seed_nor_a_users_style_of_figures_changes_a_byte(arguments, done, tmp_path, contents):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: red\nsavefig.dpi: 7\n")
    env = {name: value for name, value in os.environ.items() if name != "HOME"} | {"PYTHONHASHSEED": "7"}
    status, _, err = ended(arguments("run", tmp_path / "out"), cwd=tmp_path, env=env)
    assert status == 0, err
    assert results(contents, tmp_path / "out") == results(contents, done)


def test_a_home_that_cannot_be_written_is_no_word_of_matplotlibs(tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"} | {"HOME": "/dev/null"}
    assert ended(["mdps_ref.score", "--help"], cwd=tmp_path, env=env)[::2] == (0, b"")


@pytest.mark.parametrize("most", [0, 3_000, 40_000, 200_000])
def test_a_full_disk_is_one_line_and_status_2(most, arguments, tmp_path):
    """A limit on the size of a file takes the place of a full disk: config.json, decoded images, a checkpoint, and figures meet it."""
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))}
    status, _, err = ended([*arguments("run", tmp_path / "out"), "--quiet"], cwd=tmp_path, **limit)
    assert status == 2 and err.count(b"\n") == 1 and str(tmp_path / "out").encode() in err and b"file too large" in err, err
    assert not list(tmp_path.rglob("*.part")) and not (tmp_path / "out/report.html").exists()


def longer(place, folder):
    """The arguments of a run of a few seconds."""
    quick = json.loads((place / "quick.json").read_text()) | {"train_steps": 150, "checkpoint_every": 10, "samples": 3}
    (folder / "longer.json").write_text(json.dumps(quick))
    return ["--data", place / "data", "--category", "part", "--config", folder / "longer.json"]


RESULTS = ("checkpoint.npz", "train.csv", "scores.csv", "metrics.json", "detector.npz", "data.json", "maps/")


@pytest.fixture(scope="module")
def unbroken(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    assert ended(["mdps_ref.run", *longer(place, folder), "--out", folder / "out"], cwd=folder)[0] == 0
    return folder / "out"


def results(contents, folder):
    return {name: content for name, content in contents(folder).items() if name.startswith((*RESULTS, "figures/"))}


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_keeps_what_was_done_and_the_command_that_is_printed_goes_on(number, status, place, unbroken, tmp_path, contents):
    with process(
        ["mdps_ref.run", *longer(place, tmp_path), "--out", tmp_path / "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as run:
        while not (tmp_path / "out/checkpoint.npz").exists() and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(number)
        told = run.stderr.read().decode().splitlines()
    assert run.returncode == status and "Traceback" not in "".join(told)
    assert not (tmp_path / "out" / LOCK).exists()
    going_on = shlex.split(told[-1].partition("go on with: ")[2])
    assert subprocess.run(going_on, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600).returncode == 0
    assert results(contents, tmp_path / "out") == results(contents, unbroken)


@pytest.mark.slow
def test_kills_at_random_moments_change_no_byte(place, unbroken, tmp_path, contents, request):
    """Training, calibration, detection and report. More kills: --kills N."""
    kills, rng, out = request.config.getoption("--kills"), np.random.default_rng(0), tmp_path / "out"
    arguments, stages = ["mdps_ref.run", *longer(place, tmp_path), "--out", out], []
    while True:
        resume = ["--resume"] if (out / "config.json").exists() else []
        with process([*arguments, *resume], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
            try:
                run.communicate(timeout=None if len(stages) >= kills else 1.5 + 3 * rng.random())
            except subprocess.TimeoutExpired:
                run.kill()
        if run.returncode == 0 and len(stages) >= kills:
            break
        assert run.returncode in (0, -signal.SIGKILL)
        stages.append(run.returncode)
    assert results(contents, out) == results(contents, unbroken)
    assert not list(out.rglob("*.part"))
