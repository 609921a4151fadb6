"""Run notebooks afresh and save them with what they show; the picture of each, from the cell tagged "picture", goes to pictures/NN.png.

python tutorials/refresh.py [NN ...]            all notebooks, or those with these numbers
python tutorials/refresh.py --times [NN ...]    save nothing; print the CPU seconds of each, and those of its slowest cells
Exit status: 0, or 1 if a notebook failed, which is then left as it was, or if one is above the limits on time.
"""

import base64
import io
import itertools
import pathlib
import sys
import time

import nbclient
import nbformat
from PIL import Image

FOLDER = pathlib.Path(__file__).parent
WIDTH = 480  # pixels, of a picture
CELL_SECONDS, NOTEBOOK_SECONDS = 3, 15  # of CPU, on one core that does nothing else
STOPWATCH = """
import os, time
os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is imported
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
_readings = []
def _watch(readings=_readings, clock=time.process_time):
    get_ipython().events.register("pre_run_cell", lambda info: readings.append(clock()))
_watch()
"""


def main(words):
    """Refresh the notebooks with these numbers, or all, or time them; return the exit status."""
    numbers = [word for word in words if word != "--times"]
    paths = sorted(path for path in FOLDER.glob("[0-9][0-9]_*.ipynb") if not numbers or path.name[:2] in numbers)
    unknown = set(numbers) - {path.name[:2] for path in paths}
    if unknown:
        print(f"no notebook has the number {', '.join(sorted(unknown))}; give two digits, such as 06", file=sys.stderr)
        return 1
    job = show_times if "--times" in words else refresh
    return max([job(path) for path in paths], default=0)


def execute(notebook):
    """Run the cells in a fresh kernel, in this folder; their outputs go into `notebook`."""
    patience = {"timeout": 1800, "startup_timeout": 1200, "iopub_timeout": 120}  # seconds: a busy machine is slow
    how = {"kernel_name": "python3", "resources": {"metadata": {"path": str(FOLDER)}}, "coalesce_streams": True}
    nbclient.NotebookClient(notebook, **how, **patience).execute()


def refresh(path):
    """Run one notebook in a fresh kernel; return 0, or 1 if it failed."""
    notebook, begun = nbformat.read(path, as_version=4), time.perf_counter()
    try:
        execute(notebook)
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
    save_picture(notebook, path.parent / "pictures" / f"{path.name[:2]}.png")
    print(f"{path.name}: {time.perf_counter() - begun:.1f} s, {path.stat().st_size / 1e3:.0f} kB")
    return 0


def cpu_seconds(path):
    """Run one notebook on one thread of one core.

    Returns
    -------
    cells : dict from int to float
        CPU seconds of each code cell, by its place among all cells; the drawing of its figures counts.
    total : float
        CPU seconds of the kernel, its start included.
    """
    notebook = nbformat.read(path, as_version=4)
    places = [place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    before, after = nbformat.v4.new_code_cell(STOPWATCH), nbformat.v4.new_code_cell("print(*_readings)")
    notebook.cells = [before, *notebook.cells, after]
    execute(notebook)
    readings = [float(word) for word in after.outputs[0].text.split()]
    lengths = [end - start for start, end in itertools.pairwise(readings)]
    return dict(zip(places, lengths, strict=True)), readings[-1]


def show_times(path):
    """Print the CPU seconds of one notebook; return 0, or 1 if it or a cell is above the limits."""
    cells, total = cpu_seconds(path)
    slowest = sorted(cells, key=cells.get, reverse=True)[:5]
    print(f"{path.name}: {total:.1f} s of CPU; cells", ", ".join(f"[{place}] {cells[place]:.1f}" for place in slowest), flush=True)
    return int(total > NOTEBOOK_SECONDS or max(cells.values()) > CELL_SECONDS)


def save_picture(notebook, path):
    """Save what the cell tagged "picture" draws first, in the width of the map of the book; a notebook without such a cell has none."""
    tagged = (cell for cell in notebook.cells if "picture" in cell.metadata.get("tags", []))
    shown = [output.data["image/png"] for cell in tagged for output in cell.outputs if "image/png" in output.get("data", {})]
    if shown:
        with Image.open(io.BytesIO(base64.b64decode(shown[0]))) as image:
            small = image.convert("RGB").resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
        path.parent.mkdir(exist_ok=True)
        small.quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
