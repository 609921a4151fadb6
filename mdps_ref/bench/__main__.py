"""python -m mdps_ref.bench: how fast each part is, on one thread and on all, beside PyTorch where that is asked for."""

import argparse
import dataclasses
import functools
import importlib
import json
import pathlib
import statistics
import sys

from mdps_ref.bench import figures, passes, profile, rows, scaling, timing
from mdps_ref.command import command_line
from mdps_ref.data.files import whole_file, write_text
from mdps_ref.errors import InputError
from mdps_ref.kernels import fast
from mdps_ref.kernels.threads import CORES
from mdps_ref.report.style import png

COLUMNS = f"{'':52}{'threads':>8}{'ms':>10}{'theirs':>10}{'x faster':>10}{'GFLOP/s':>9}{'of peak':>9}{'MiB':>7}{'theirs':>8}"


def main(arguments=None):
    """Run the rows asked for; exit status 0, 2 for a user's mistake, or 130 after Ctrl-C."""
    return command_line(bench, parser().parse_args(arguments), at_once=True)


def parser():
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m mdps_ref.bench",
        description=__doc__,
        epilog="A convolution's operations are counted as if it were done directly, so Winograd's form may pass the peak.",
        allow_abbrev=False,
    )
    p.add_argument("--against", choices=("torch",), help="time PyTorch in turns with each row that it has")
    p.add_argument("--only", metavar="NAME", default="", help="only rows that begin with NAME, such as 'conv to kernel' or 'guided'")
    p.add_argument(
        "--quick", action="store_true", help="only networks and training steps, each for a moment, without memory: a few minutes"
    )
    p.add_argument("--json", metavar="FILE", help="write all numbers there, too")
    p.add_argument("--compare", metavar="OLD.json", help="say how much faster each row is than in that file, which --json wrote")
    instead = p.add_argument_group("instead of the table; --profile and --scaling take --only and --json").add_mutually_exclusive_group()
    png_file = {"nargs": "?", "metavar": "FILE.png"}
    instead.add_argument(
        "--profile", const="profile.png", help="where a step's time goes on one thread, as bars here and in a PNG", **png_file
    )
    instead.add_argument("--scaling", const="scaling.png", help="what 1 to 16 cores would give, by counting, here and in a PNG", **png_file)
    instead.add_argument("--passes", action="store_true", help="how often the network is run for one image, here and in the authors' code")
    return p


def bench(args):
    """Measure what was asked for, print it as it grows, and write it down.  Raises: InputError."""
    if not (args.profile or args.scaling or args.passes):
        measure_table(args)
        return
    if args.against or args.quick or args.compare:
        raise InputError("--profile, --scaling and --passes measure no table; leave out --against, --quick and --compare")
    if args.passes and (args.only or args.json):
        raise InputError("--passes counts all presets, and writes no numbers down; leave out --only and --json")
    if args.passes:
        print(passes.HEADER, *passes.lines(), sep="\n")
    elif args.profile:
        draw_profiles(args)
    else:
        draw_scaling(args)


def draw_profiles(args):
    """Profile the steps asked for."""
    found = {}
    for name, seconds in profile.profiles(args.only):
        found[name] = seconds
        print(*profile.lines(name, seconds), sep="\n", flush=True)
    _keep(args, args.profile, found, found, figures.profile_bars, profile.STEPS)


def draw_scaling(args):
    """Count the steps asked for."""
    found = {}
    print(scaling.HEADER)
    for name, counts in scaling.all_counts(args.only):
        found[name] = counts
        print(*(scaling.line(name, count) for count in counts), sep="\n", flush=True)
    numbers = {name: [count._asdict() for count in counts] for name, counts in found.items()}
    _keep(args, args.scaling, found, numbers, figures.scaling_curves, scaling.STEPS)


def _keep(args, path, found, numbers, draw, steps):
    """Write a figure of what was found, and its numbers if --json asks for them.  Raises: InputError if nothing was found."""
    if not found:
        raise InputError(
            f"--only {args.only!r}: no such step begins with that; give the beginning of a name that begins with {' or '.join(steps)}"
        )
    with whole_file(path) as handle:
        handle.write(png(draw(found)))
    if args.json:
        write_text(args.json, json.dumps(numbers, indent=1) + "\n")
    print(f"drawn: {path}")


def measure_table(args):
    """Measure the rows asked for."""
    twins = _twins() if args.against else None
    earlier = _earlier(args.compare) if args.compare else {}
    table, growths = [row for row in rows.rows() if not args.quick or row.name.startswith(QUICK)], {} if args.quick else GROWTHS
    chosen = [row for row in table if row.name.startswith(args.only)]
    exponents = {name: growth for name, growth in growths.items() if name.startswith(args.only)}
    if not chosen and not exponents:
        raise InputError(f"--only {args.only!r}: no row begins with that; there are {', '.join([*(row.name for row in table), *growths])}")
    with_memory = not args.quick and timing.starts_processes()
    side = timing.large_side()
    peaks = {threads: timing.sgemm_peak(threads, side) for threads in sorted({1, CORES})}
    print(f"NumPy's BLAS: {timing.blas()}")
    print(f"matrix product of {side} x {side}: " + ", ".join(f"{peak:.0f} GFLOP/s on {threads}" for threads, peak in peaks.items()))
    for sentence in left_out(with_memory or args.quick):
        print(sentence)
    print(COLUMNS, flush=True)
    results = {"blas": timing.blas(), "peak_gflops": peaks, "rows": [], "exponents": {}}

    def write():
        if args.json:
            write_text(args.json, json.dumps(results, indent=1) + "\n")

    write()
    for row in chosen:
        for result in measured(row, twins, peaks, with_memory, args.quick):
            results["rows"].append(result)
            print(line(result), flush=True)
            write()
    for text in [*summary(results["rows"]), *compared(results["rows"], earlier)]:
        print(text, flush=True)
    for name, (make_call, sizes) in exponents.items():
        results["exponents"][name] = timing.growth(make_call, sizes)
        print(f"{name:52} time ~ size^{results['exponents'][name]:.2f} for {', '.join(map(str, sizes))}", flush=True)
        write()


def left_out(processes):
    """Sentences on what cannot be measured on this machine.  processes: whether it starts a second one."""
    if CORES == 1:
        yield "This system runs one thread at a time, so there are no rows for more."
    if not processes:
        yield "This system starts no second process, in which memory would be measured, so those columns show '-'."


def measured(row, twins, peaks, with_memory, quick):
    """A row's results, a dictionary for each number of threads; memory, measured in processes of their own, is the same in both.

    quick: time for a quarter of the usual budget.
    """
    setups = [functools.partial(getattr(rows, row.setup), *row.arguments)]
    if hasattr(twins, row.setup):
        setups.append(functools.partial(getattr(twins, row.setup), *row.arguments))
    memory = [timing.peak_memory(setup) if with_memory else None for setup in setups] + [None]
    with fast():
        ours_call = setups[0]()
    calls = [ours_call] + [setup() for setup in setups[1:]]
    for threads, peak in peaks.items():
        if twins:
            twins.use_threads(threads)
        ours, theirs, ratio = timing.in_turns(*calls, threads=threads, budget=timing.BUDGET / (4 if quick else 1))
        speed = row.flops and row.flops / ours / 1e9
        yield {
            **dataclasses.asdict(row),
            "threads": threads,
            "seconds": ours,
            "their_seconds": theirs,
            "times_faster": ratio,
            "gflops": speed,
            "of_peak": speed and speed / peak,
            "mib": memory[0],
            "their_mib": memory[1],
        }


def line(result):
    """A result as a line of the table."""

    def number(key, form, factor=1):
        return "-" if result[key] is None else format(factor * result[key], form)

    return (
        f"{result['name']:52}{result['threads']:>8}{number('seconds', '.2f', 1000):>10}{number('their_seconds', '.2f', 1000):>10}"
        f"{number('times_faster', '.2f'):>10}{number('gflops', '.0f'):>9}{number('of_peak', '.0%'):>9}"
        f"{number('mib', '.0f'):>7}{number('their_mib', '.0f'):>8}"
    )


def summary(results):
    """Lines with the median and the least of "x faster" over the convolutions of each kind, a network's first and last left out."""
    kinds = {}
    for result in results:
        kind, shape = result["name"].rpartition(" ")[::2]
        if kind in rows.CONVOLUTIONS and result["times_faster"] and 3 not in result["arguments"]:
            network = "released" if result["arguments"][0] == 1 else "small"
            kinds.setdefault((kind, network, result["threads"]), []).append((result["times_faster"], shape))
    for (kind, network, threads), ratios in sorted(kinds.items()):
        median, (least, shape) = statistics.median(ratio for ratio, _ in ratios), min(ratios)
        yield f"{f'{kind}, all of {network}':52}{threads:>8}  median {median:.2f}, least {least:.2f} at {shape} x faster"


def compared(results, earlier):
    """Lines with the earlier time of each row over the present one.  earlier: {(name, threads): seconds}."""
    for result in results:
        then = earlier.get((result["name"], result["threads"]))
        if then:
            now, label = result["seconds"], f"{result['name']:52}{result['threads']:>8}"
            yield f"{label}  {1000 * then:.2f} -> {1000 * now:.2f} ms, {then / now:.2f} x faster than then"


def _earlier(path):
    """The seconds of each row in a file that --json wrote, by (name, threads).  Raises: InputError if the file is none."""
    try:
        return {(row["name"], row["threads"]): row["seconds"] for row in json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["rows"]}
    except (OSError, ValueError, TypeError, KeyError):
        raise InputError(f"--compare {path}: is no file that an earlier run's --json wrote; make one with --json {path}") from None


def _twins():
    """The module of PyTorch's side.  Raises: InputError where PyTorch cannot be imported."""
    try:
        return importlib.import_module("mdps_ref.bench.torch_twins")
    except ImportError as error:
        raise InputError(f"--against torch: {error}; install PyTorch for the CPU, or leave it out") from error


QUICK = ("UNet", "guided step", "training step", "features, efficientnet", "features, mobilenet")  # beginnings of the rows' names
GROWTHS = {
    "growth with the image's side, tiny": (lambda side: rows.guided_and_mdps(side, network="tiny", samples=1), (32, 64, 128)),
    "growth with the images of a batch, tiny": (lambda n: rows.guided_and_mdps(32, n, network="tiny", samples=1), (1, 2, 4, 8)),
    "growth with n, the posterior samples, tiny": (lambda n: rows.guided_and_mdps(32, network="tiny", samples=n), (1, 2, 4, 8)),
    "growth with the chain's steps, tiny": (
        lambda steps: rows.guided_and_mdps(32, network="tiny", samples=1, guided_start=20 * steps - 1, mdps_start=20 * steps - 1),
        (5, 10, 20, 40),
    ),
}

if __name__ == "__main__":
    sys.exit(main())
