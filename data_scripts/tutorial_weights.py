"""Shrink a run's checkpoint to what sampling needs, in half precision: how `tutorials/washer.npz` was made.

python -m mdps_ref.run --out runs/washer
python data_scripts/tutorial_weights.py runs/washer/checkpoint.npz tutorials/washer.npz
"""

import argparse
import sys

from mdps_ref.errors import InputError
from mdps_ref.job.weights import halved, load_average
from mdps_ref.weights.checkpoint import save_checkpoint


def main(argv=None):
    """Run the command line `argv`; return its exit status, 2 after one line on standard error."""
    p = argparse.ArgumentParser(
        description="Shrink a run's checkpoint to the moving average of its weights, in half precision.", allow_abbrev=False
    )
    p.add_argument("checkpoint", help="the checkpoint.npz of a run folder")
    p.add_argument("out", help="the file to write; --weights of mdps_ref.run reads it")
    args = p.parse_args(argv)
    try:
        weights, about = load_average(args.checkpoint)
        save_checkpoint(args.out, {"ema": halved(args.checkpoint, weights)}, about)
    except InputError as error:
        print(f"tutorial_weights: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
