"""What the command lines of this package share: flags, streams, signals, and errors in one line."""

import argparse
import contextlib
import logging
import os
import signal
import sys

from mdps_ref.backend import BACKENDS
from mdps_ref.errors import InputError, ProcessKilled, exit_status
from mdps_ref.job.interrupt import Interrupted, stopping_at_the_next_step
from mdps_ref.job.progress import speaking
from mdps_ref.kernels import fast

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns, as it is imported, of a home that cannot be written


def add_running_flags(group):
    """Add the flags --backend, --threads, --quiet and --verbose to a group of a parser."""
    group.add_argument("--backend", choices=BACKENDS, default="auto", help="array module (default: auto, CuPy where it finds a GPU)")
    group.add_argument("--threads", metavar="N", type=positive, help="threads to compute with (default: one for each core)")
    how_much = group.add_mutually_exclusive_group()
    how_much.add_argument("--quiet", dest="level", action="store_const", const="quiet", help="no progress, only results and errors")
    how_much.add_argument("--verbose", dest="level", action="store_const", const="verbose", help="the time of each stage, too")


def add_cluster_flag(group):
    """Add the flag --cluster to a group of a parser."""
    group.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="share the images among the workers of a Dask cluster: its scheduler, tcp://HOST:8786, or local for a process on each core. "
        "There --threads is for one worker (default: 1)",
    )


@contextlib.contextmanager
def workers(args):
    """Yield the client of the cluster that --cluster names, or None without one. Inside the block kernels are fast."""
    if not args.cluster:
        with fast(args.threads):
            yield None
        return
    from mdps_ref.job.cluster import connected  # Dask is an extra

    threads = args.threads or 1
    with connected(args.cluster, threads) as client, fast(threads, forks=False):
        yield client


def given_running_flags(args):
    """Return --threads, --backend and --cluster as they were given: other threads or another backend would round sums differently."""
    given = {"--threads": args.threads, "--backend": None if args.backend == "auto" else args.backend, "--cluster": args.cluster}
    return [str(part) for flag, value in given.items() if value for part in (flag, value)]


def positive(text):
    """Return a flag's value as an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def command_line(command, args, at_once=False):
    """Run a command; tell errors and signals in one line on standard error.

    Parameters
    ----------
    command : callable
        command(args) -> None or the exit status. It may set `args.going_on` to the command that goes on after a signal, or after the
        death of a process that shared the work.
    args : argparse.Namespace
        With `level`, where the command has the flags of `add_running_flags`.
    at_once : bool
        A signal ends the command in the midst of a step: it keeps nothing that it could go on with.

    Returns
    -------
    int
        The command's own, 0 without one; 2 after an error; 130 or 143 if SIGINT or SIGTERM stopped it; 0 if the reader of standard output
        has gone.
    """
    _make_streams_safe()
    try:
        with speaking(getattr(args, "level", None) or "normal"), _ended_at_once() if at_once else stopping_at_the_next_step():
            return exit_status(_saying_how_to_go_on, command, args)
    except Interrupted as interrupted:
        _tell_how_to_go_on(args, str(interrupted))
        return interrupted.exit_status
    except KeyboardInterrupt:
        _tell_how_to_go_on(args, "SIGINT")
        return INTERRUPTED


@contextlib.contextmanager
def _ended_at_once():
    """Inside the block Ctrl-C raises KeyboardInterrupt, as Python has it."""
    earlier = []
    with contextlib.suppress(ValueError):  # only the main thread may set handlers
        earlier.append(signal.signal(signal.SIGINT, signal.default_int_handler))
    try:
        yield
    finally:
        for handler in earlier:
            signal.signal(signal.SIGINT, handler)


def _saying_how_to_go_on(command, args):
    """Call command(args); the message of a ProcessKilled gets the command that goes on."""
    try:
        return command(args)
    except ProcessKilled as killed:
        raise InputError(f"{killed}{_going_on(args)}") from None


def _tell_how_to_go_on(args, name):
    if sys.stderr:
        with contextlib.suppress(OSError, ValueError):
            print(f"mdps_ref: stopped by {name}{_going_on(args)}", file=sys.stderr)


def _going_on(args):
    command = getattr(args, "going_on", None)
    return f"; go on with: {command}" if command else ""


def _make_streams_safe():
    """Make standard output and error take any character, and be there."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):  # a browser's stream does not say whether it is closed
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (it stays open)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
