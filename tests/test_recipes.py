"""The recipes for Kubernetes and Slurm: what they start, which the commands understand, and that a job that ended early goes on."""

import os
import pathlib
import subprocess

import pytest

from mdps_ref import run, score

FOLDER = pathlib.Path(__file__).parents[1] / "data_scripts"
PARSERS = {"mdps_ref.run": run.parser, "mdps_ref.score": score.parser}

# Stand-ins: a scheduler and workers that only wait, and a Python that tells the address, or writes down what it was to run.
DASK = """#!/usr/bin/env bash
[ "$1" = worker ] || echo '{"address": "tcp://here:1"}' > "${@: -1}"
exec sleep 60
"""
SRUN = """#!/usr/bin/env bash
exec "$@"
"""
PYTHON = """#!/usr/bin/env bash
[ "$1" = -m ] || { echo tcp://here:1; exit; }
printf '%s\\n' "$@" > started
"""


def parsed(arguments):
    """What a command line `-m mdps_ref.NAME ...` asks for."""
    assert arguments[0] == "-m"
    return PARSERS[arguments[1]]().parse_args(arguments[2:])


@pytest.fixture
def slurm(tmp_path):
    """slurm(*arguments): what the recipe starts with them, parsed, in a folder without Slurm and Dask."""
    for name, content in (("dask", DASK), ("srun", SRUN), ("python", PYTHON)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)

    def started(*arguments):
        env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        subprocess.run(["bash", FOLDER / "slurm.sh", *arguments], cwd=tmp_path, env=env, check=True, timeout=60)
        assert not list(tmp_path.glob("mdps.*"))
        return parsed((tmp_path / "started").read_text().splitlines())

    return started


def test_on_slurm_images_are_scored_and_a_scoring_goes_on(slurm):
    asked = slurm("score", "my out", "detector.npz", "my images")
    assert (asked.detector, asked.images, asked.out) == ("detector.npz", ["my images"], "my out")
    assert (asked.cluster, asked.resume) == ("tcp://here:1", True)


@pytest.mark.parametrize("left, resumed", [(None, False), ("mdps_ref-lock", False), ("config.json", True), ("categories.json", True)])
def test_on_slurm_a_run_begins_or_goes_on(left, resumed, slurm, tmp_path):
    if left:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / left).touch()
    asked = slurm("run", "out", "--data", "sets", "--category", "all")
    assert (asked.data, asked.category, asked.out, asked.cluster) == ("sets", "all", "out", "tcp://here:1")
    assert asked.resume == resumed


def test_on_slurm_a_scheduler_that_ends_at_once_ends_the_job(slurm, tmp_path):
    (tmp_path / "bin/dask").write_text("#!/usr/bin/env bash\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        slurm("score", "out", "detector.npz", "images")


def test_on_kubernetes_the_jobs_are_commands_that_there_are(tmp_path):
    """What each container of a job starts, with the shell of this machine and a Python that writes it down."""
    yaml = pytest.importorskip("yaml")
    things = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    jobs = {}
    for thing in things:
        if thing["kind"] == "Job":
            (container,) = thing["spec"]["template"]["spec"]["containers"]
            env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
            subprocess.run([*container["command"], *container["args"]], cwd=tmp_path, env=env, check=True, timeout=60)
            jobs[thing["metadata"]["labels"]["job"]] = parsed((tmp_path / "started").read_text().splitlines())
    services = {thing["metadata"]["name"]: thing["spec"]["ports"][0]["port"] for thing in things if thing["kind"] == "Service"}
    assert jobs.keys() == {"score", "run"} and jobs["run"].category == "all" and not jobs["run"].resume and jobs["score"].resume
    for asked in jobs.values():
        assert asked.cluster == f"tcp://mdps-scheduler:{services['mdps-scheduler']}" and asked.out.startswith("/photographs/")
