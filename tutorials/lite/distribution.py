"""Pyodide, as much of it as the book needs: gathered from registries, each file held against a hash."""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request

VERSION = "314.0.3"
TARBALL_SHA256 = "d7f7d24f8db486c7eda7280f3b0f7517524c8e43e8b086c6ee6ae8016658b484"  # of npm's package of that version
CDN = f"https://cdn.jsdelivr.net/pyodide/v{VERSION}/full/"
CORE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
LOCK = "pyodide-lock.json"
WHEELS = pathlib.Path(__file__).with_name("wheels.txt")
KERNEL_NEEDS = ("micropip", "ipython", "jedi", "comm")
BOOK_NEEDS = ("numpy", "scipy", "pillow", "matplotlib", "threadpoolctl", "tqdm")


class GatheringError(Exception):
    """A file could not be had, or is not the file that its hash names: one line for the user."""


def gather(folder, wheels=CDN):
    """Fill a folder with Pyodide's core, the wheels that the book needs, and a lock file that names no others.

    Parameters
    ----------
    folder : Path
        It is made, and has the lock file last: a folder with a lock file is complete.
    wheels : str
        The address, ending in "/", of the wheels that Pyodide built: its own server, or a folder as a file: address.

    Raises
    ------
    GatheringError
        If npm, pip or the server does not give a file, or gives another one than the hash says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        packages, info = _core(folder, pathlib.Path(temporary))
        _from_pypi(folder, packages)
    needed = closure(packages, KERNEL_NEEDS + BOOK_NEEDS)
    for name in needed:
        _from_pyodide(folder, packages[name], wheels)
    write_lock(folder, info, {name: packages[name] for name in needed})


def closure(packages, names):
    """Return these packages' names and, sorted among them, the names of all that they depend on."""
    found, waiting = set(), list(names)
    while waiting:
        name = normalised(waiting.pop())
        if name not in found:
            found.add(name)
            waiting += packages[name]["depends"]
    return sorted(found)


def add_wheel(folder, packages, wheel, depends, imports):
    """Copy a pure wheel into the folder and enter it in the lock's packages, over an entry of that name."""
    shutil.copy(wheel, folder)
    name, version = wheel.name.split("-")[:2]
    packages[normalised(name)] = {
        "name": normalised(name),
        "version": version,
        "file_name": wheel.name,
        "install_dir": "site",
        "sha256": sha256(wheel.read_bytes()),
        "package_type": "package",
        "imports": imports,
        "depends": depends,
        "unvendored_tests": False,
    }


def write_lock(folder, info, packages):
    """Write the lock file."""
    (folder / LOCK).write_text(json.dumps({"info": info, "packages": packages}, indent=1) + "\n", encoding="utf-8")


def read_lock(folder):
    """Return the lock file's (info, packages)."""
    lock = json.loads((folder / LOCK).read_text(encoding="utf-8"))
    return lock["info"], lock["packages"]


def sha256(data):
    """Return the hash as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def normalised(name):
    """Return a package's name as registries compare it."""
    return re.sub("[-_.]+", "-", name).lower()


def command(*words, cwd=None):
    """Run a command.  Raises: GatheringError with the last line that it says, or if there is no such command."""
    try:
        done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise GatheringError(f"{words[0]}: is not installed; install it, or give --pyodide a folder that has everything") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise GatheringError(f"{' '.join(map(str, words[:4]))} ...: {said}")


def checked(data, expected, name):
    """Return the data.  Raises: GatheringError if they have another hash than the expected."""
    if sha256(data) != expected:
        raise GatheringError(f"{name}: has SHA-256 {sha256(data)}, not {expected}; it is not the file that was pinned")
    return data


def _core(folder, temporary):
    """Unpack npm's package: the core into the folder; return the packages and the info of Pyodide's lock."""
    command("npm", "pack", f"pyodide@{VERSION}", "--silent", cwd=temporary)
    tarball = temporary / f"pyodide-{VERSION}.tgz"
    checked(tarball.read_bytes(), TARBALL_SHA256, tarball.name)
    with tarfile.open(tarball) as archive:
        for name in CORE:
            (folder / name).write_bytes(archive.extractfile(f"package/{name}").read())
        lock = json.load(archive.extractfile(f"package/{LOCK}"))
    return lock["packages"], lock["info"]


def _from_pypi(folder, packages):
    """Download the wheels that wheels.txt pins; they take the place of Pyodide's builds of the same packages."""
    with tempfile.TemporaryDirectory() as temporary:
        options = (
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--python-version=3.14",
            "--require-hashes",
        )
        command(sys.executable, "-m", "pip", "download", *options, "--dest", temporary, "--requirement", WHEELS)
        for wheel in sorted(pathlib.Path(temporary).glob("*.whl")):
            name = normalised(wheel.name.split("-")[0])
            known = packages.get(name, {"depends": [], "imports": [name]})
            add_wheel(folder, packages, wheel, known["depends"], known["imports"])


def _from_pyodide(folder, entry, wheels):
    """Fetch a wheel unless the folder has it."""
    name = entry["file_name"]
    if (folder / name).exists():
        return
    try:
        with urllib.request.urlopen(urllib.parse.urljoin(wheels, name)) as answer:
            data = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise GatheringError(f"{urllib.parse.urljoin(wheels, name)}: {error}; try again with a network") from error
    (folder / name).write_bytes(checked(data, entry["sha256"], name))
