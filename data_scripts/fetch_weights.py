"""Fetch torchvision's ImageNet weights of a network, which the setting `features = NAME` needs, and check the file.

python data_scripts/fetch_weights.py wide_resnet101_2
"""

import argparse
import contextlib
import hashlib
import http.client
import pathlib
import sys
import urllib.request

import tqdm

from mdps_ref.data.files import whole_file
from mdps_ref.errors import InputError
from mdps_ref.nn.resnet import RESNETS
from mdps_ref.scoring.features import EXTRACTORS, WEIGHTS_FOLDER

SITE = "https://download.pytorch.org/models"
PIECE = 2**20  # bytes read at a time
PATIENCE = 60  # seconds to wait for an answer


def main(argv=None):
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : list of str or None
        None means the process's own arguments.

    Returns
    -------
    int
        0; 2 after an error, which is one line on standard error; 130 if interrupted.
    """
    p = argparse.ArgumentParser(
        description="Fetch torchvision's ImageNet weights of a network, and check them.",
        epilog="example: python data_scripts/fetch_weights.py wide_resnet101_2",
        allow_abbrev=False,
    )
    p.add_argument("name", choices=RESNETS, help="the network")
    p.add_argument("--to", metavar="DIR", type=pathlib.Path, default=WEIGHTS_FOLDER, help="where to put the file (default: %(default)s)")
    p.add_argument("--url", metavar="URL", default=SITE, help="the folder to fetch it from (default: %(default)s)")
    args = p.parse_args(argv)
    path = args.to / EXTRACTORS[args.name].file
    try:
        if is_whole(path):
            print(f"{path}: is there already, and is whole")
        else:
            fetch(f"{args.url.rstrip('/')}/{path.name}", path)
            print(f"{path}: fetched and checked")
    except (InputError, OSError) as error:
        print(f"fetch_weights: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"fetch_weights: interrupted; {path} was not written", file=sys.stderr)
        return 130
    return 0


def is_whole(path):
    """Return True if the file exists and its SHA-256 begins with the eight digits in its name, <network>-<digits>.pth."""
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        return has_checksum(path, hashlib.file_digest(handle, "sha256"))


def has_checksum(path, digest):
    """Return True if the digest begins with the digits in the file's name."""
    return digest.hexdigest().startswith(path.stem.rpartition("-")[2])


def fetch(url, path):
    """Download a file, with a progress bar.

    Parameters
    ----------
    url : str
    path : pathlib.Path
        Its name holds the first digits of the checksum.

    Raises
    ------
    InputError
        If the site cannot be reached, stops early or sends another file, or if the file cannot be written. An older file at `path`
        then stays. The message says what to fetch by other means and where to put it.
    """
    remedy = f"fetch {url} by other means and put it at {path}"
    digest = hashlib.sha256()
    with network_errors(remedy):
        response = urllib.request.urlopen(url, timeout=PATIENCE)
    with response, whole_file(path) as handle:
        size = getattr(response, "length", None)  # None where the site does not say
        with tqdm.tqdm(total=size, unit="B", unit_scale=True, desc=path.name, mininterval=1.0) as bar:
            while piece := read(response, remedy):
                handle.write(piece)
                digest.update(piece)
                bar.update(len(piece))
        if size is not None and bar.n != size:
            raise InputError(f"the site sent {bar.n} of {size} bytes; try again, or {remedy}")
        if not has_checksum(path, digest):
            raise InputError(f"the site sent a file with another checksum than {path.name} should have; {remedy}")


def read(response, remedy):
    """Return the next piece of the answer, b"" at its end. An error of the network becomes an InputError."""
    with network_errors(remedy):
        return response.read(PIECE)


@contextlib.contextmanager
def network_errors(remedy):
    """Turn every error of the network inside the block into an InputError that ends with the remedy."""
    try:
        yield
    except (OSError, ValueError, http.client.HTTPException) as error:  # a wrong address is a ValueError
        reason = " ".join(str(error).split()).strip("<>") or type(error).__name__
        raise InputError(f"could not be fetched ({reason}); {remedy}") from error


if __name__ == "__main__":
    sys.exit(main())
