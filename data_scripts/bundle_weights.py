"""Put the weights of a run into the package: `python data_scripts/bundle_weights.py RUN`, for a run on a synthetic category.

The moving average of the weights is stored in float16. Exit status: 0, or 2 after an error, told in one line.
"""

import argparse
import pathlib
import sys

from mdps_ref.errors import exit_status
from mdps_ref.job.bundled import FOLDER
from mdps_ref.job.weights import halved, load_average, made_for
from mdps_ref.weights.checkpoint import save_checkpoint


def main(argv=None):
    """Run the command line `argv`; return the exit status."""
    p = argparse.ArgumentParser(description="Put the weights of a run on a synthetic category into the package, as float16.")
    p.add_argument("run", metavar="RUN", type=pathlib.Path, help="the folder of the run")
    p.add_argument("--to", metavar="DIR", type=pathlib.Path, default=FOLDER, help="where to write (default: the package)")
    return exit_status(bundle, p.parse_args(argv))


def bundle(args):
    """Write the file, and say where it is."""
    checkpoint = args.run / "checkpoint.npz"
    average, about = load_average(checkpoint)
    made_for(checkpoint, about)
    config = about["config"]
    path = args.to / f"{config['category']}-{config['image_size']}.npz"
    kept = {name: config[name] for name in ("network", "image_size", "category")}
    save_checkpoint(path, {"ema": halved(checkpoint, average)}, {"config": kept, "step": about["step"]})
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
