"""Whole runs on a cluster: a category is a task. The workers see the data and the run folders under the same paths."""

import platform
import time

import distributed

from mdps_ref.errors import InputError
from mdps_ref.job.cluster import Session, Work
from mdps_ref.job.interrupt import also_stopping_if
from mdps_ref.job.lock import Taken
from mdps_ref.job.run_folder import PLAN

SECONDS_TO_STOP = 60  # that a task waits for the lock of a run: of an earlier command, which is about to notice that it is not wanted
KILLED = "the processes that worked on it were killed, one after another; give the workers more memory, and go on with --resume"


def runs_on_cluster(client, run_category, threads=1, backend="auto"):
    """Return the `run_each` of `categories.one_by_one` that does runs on a cluster.

    A run whose worker dies goes on in another worker, from where it was. Runs whose workers die again and again are tried once more, each
    alone: a neighbour may have been guilty. If the client goes, its runs stop at their next step.

    Parameters
    ----------
    client : distributed.Client
    run_category : callable
        run_category(config, folder, xp) does a run, or goes on with it.
    threads, backend
        See `cluster.Work`.
    """

    def run_each(jobs):
        session, suspected = Session(client, Work(_array_module, {}, threads, backend)), []

        def submit(job):
            return session.submit(_run, run_category, *job[1:])

        for job, task in session.in_order(jobs, submit):
            try:
                yield job[0], session.result(task)
            except distributed.KilledWorker:
                suspected.append(job)
        for job in suspected:
            try:
                yield job[0], session.result(submit(job))
            except distributed.KilledWorker:
                yield job[0], KILLED

    return run_each


def _array_module(weights, xp):
    return xp


def _run(xp, run_category, config, folder):
    """In a worker: do a run; return why it failed, or None."""
    if not (folder.parent / PLAN).is_file():
        return f"{platform.node()} does not see {folder.parent}; give a folder to --out that all workers see"
    until = time.monotonic() + SECONDS_TO_STOP
    while True:
        try:
            with also_stopping_if(_unwanted):
                return run_category(config, folder, xp)
        except (InputError, OSError) as error:
            if not isinstance(error, Taken) or time.monotonic() > until:
                return f"on {platform.node()}: {error}"
        time.sleep(1)


def _unwanted():
    """In a worker: whether nobody waits for this task any more."""
    worker = distributed.get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled"
