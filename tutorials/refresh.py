"""Run notebooks afresh and save them with what they show.

python tutorials/refresh.py [NN ...]    all notebooks, or those with these numbers
Exit status: 0, or 1 if a notebook failed, which is then left as it was.
"""

import pathlib
import sys
import time

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parent


def main(numbers):
    """Refresh the notebooks with these numbers, or all; return the exit status."""
    paths = sorted(path for path in FOLDER.glob("[0-9][0-9]_*.ipynb") if not numbers or path.name[:2] in numbers)
    unknown = set(numbers) - {path.name[:2] for path in paths}
    if unknown:
        print(f"no notebook has the number {', '.join(sorted(unknown))}; give two digits, such as 06", file=sys.stderr)
        return 1
    return max([refresh(path) for path in paths], default=0)


def refresh(path):
    """Run one notebook in a fresh kernel; return 0, or 1 if it failed."""
    notebook, begun = nbformat.read(path, as_version=4), time.perf_counter()
    try:
        nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}).execute()
    except nbclient.exceptions.CellExecutionError as error:
        print(f"{path.name}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return 1
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of the run, which would change with every run
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)
    print(f"{path.name}: {time.perf_counter() - begun:.1f} s, {path.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
