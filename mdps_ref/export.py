"""`python -m mdps_ref.export CHECKPOINT.npz OUT.pth`: a network trained here, in a file from which the authors' code loads its own."""

import argparse
import pathlib
import sys

from mdps_ref.command import command_line
from mdps_ref.errors import InputError, shown
from mdps_ref.job.config import make_config
from mdps_ref.job.weights import MISMATCH, load_average, made_for
from mdps_ref.nn.unet import check_weights
from mdps_ref.released.names import to_released
from mdps_ref.weights.checks import check_finite
from mdps_ref.weights.state_dict import write_state_dict


def main(argv=None):
    """Run the command line `argv`; return its exit status: 0, or 2 after an error, told in one line on standard error; 130 after Ctrl-C."""
    return command_line(export_and_print, parser().parse_args(argv), at_once=True)


def export_and_print(args):
    """Do what the parsed `args` ask for; print the settings of the authors' network."""
    print(f"{args.out}: for a network of {released_settings(export(args.checkpoint, args.out))}")


def parser():
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m mdps_ref.export",
        description="Write the moving average of a checkpoint's weights as the state dict that the authors' trainer writes: PyTorch's zip "
        "format, their names, each behind `module.`. Prints the settings with which their code makes the network.",
        allow_abbrev=False,
    )
    p.add_argument(
        "checkpoint", metavar="CHECKPOINT.npz", help="the checkpoint.npz of a run folder whose network is of their family (released)"
    )
    p.add_argument("out", metavar="OUT.pth", help="the file to write; there must be none of that name")
    return p


def export(path, out):
    """Write the moving average of a checkpoint's weights under the authors' names.

    Parameters
    ----------
    path : path-like
        The checkpoint.npz of a run folder.
    out : path-like
        The .pth file to write.

    Returns
    -------
    UNetConfig
        The network's config.

    Raises
    ------
    InputError
        If `out` exists or cannot be written, `path` is no checkpoint of finite weights, or the authors' code cannot run its network.
    """
    if pathlib.Path(out).exists():
        raise InputError(f"{out}: is there already; give another name, or remove it")
    weights, about = load_average(path)
    try:
        network = make_config(made_for(path, about)).unet()
        check_weights(weights, network)
        check_finite(weights)
        state = to_released(weights, network)
    except InputError as error:
        raise InputError(f"{path}: {shown(error, MISMATCH)}") from None
    write_state_dict(out, {f"module.{name}": array for name, array in state.items()})
    return network


def released_settings(network):
    """Return a network's config, as text, under the names of the authors' settings."""
    settings = {
        "img_size": network.image_size,
        "base_channels": network.base_channels,
        "channel_mults": ",".join(map(str, network.multipliers)),
        "num_res_blocks": network.blocks,
        "attention_resolutions": ",".join(map(str, network.attention_sizes)),
        "n_heads": network.heads,
        "in_channels": network.channels,
    }
    return " ".join(f"{name}={value}" for name, value in settings.items())


if __name__ == "__main__":
    sys.exit(main())
