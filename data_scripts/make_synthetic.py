"""Draw the synthetic data set: woven cloth, glazed tiles and toothed washers, with defects and exact masks, in MVTec AD's layout."""

import argparse
import pathlib
import sys

from mdps_ref.data.synthetic import DEFECTS, SIZES, check_request, write_category
from mdps_ref.errors import InputError

COUNTS = {
    "--size": (128, f"pixels along a side, {SIZES[0]} to {SIZES[1]}"),
    "--train": (120, "good images to train on"),
    "--test-good": (20, "good images to test on"),
    "--per-defect": (6, "images to test on for each kind of defect"),
    "--seed": (0, "the same seed gives the same bytes"),
}


def _arguments(argv):
    """The parsed command line."""
    kinds = "\n".join(f"  {category}: {', '.join(defects)}" for category, defects in DEFECTS.items())
    example = "example:\n  python data_scripts/make_synthetic.py --out data/synthetic --category weave --size 64"
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"categories and their defects:\n{kinds}\n\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="where to make one folder for each category")
    parser.add_argument("--category", nargs="+", default=list(DEFECTS), metavar="NAME", help="what to draw (default: all)")
    for name, (default, what) in COUNTS.items():
        parser.add_argument(name, type=int, default=default, metavar="N", help=f"{what} (default: {default})")
    return parser.parse_args(argv)


def main(argv=None):
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : list of str or None
        None means the process's own arguments.

    Returns
    -------
    int
        0, or 2 after an error, which is one line on standard error.
    """
    options = _arguments(argv)
    try:
        for category in options.category:
            folder = options.out / category
            check_request(category, options.size)
            if folder.exists():
                raise InputError(f"{folder}: exists already; choose another --out, or remove it first")
        for category in options.category:
            counts = {"train": options.train, "test_good": options.test_good, "per_defect": options.per_defect}
            print(write_category(options.out, category, size=options.size, seed=options.seed, **counts), flush=True)
    except InputError as error:
        print(f"make_synthetic: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
