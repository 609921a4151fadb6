"""Run notebooks afresh and save them with what they show; the picture of each, from the cell tagged "picture", goes to pictures/NN.png.

python tutorials/refresh.py [NN ...]    all notebooks, or those with these numbers
Exit status: 0, or 1 if a notebook failed, which is then left as it was.
"""

import base64
import io
import pathlib
import sys
import time

import nbclient
import nbformat
from PIL import Image

FOLDER = pathlib.Path(__file__).parent
WIDTH = 480  # pixels, of a picture


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
    save_picture(notebook, path.parent / "pictures" / f"{path.name[:2]}.png")
    print(f"{path.name}: {time.perf_counter() - begun:.1f} s, {path.stat().st_size / 1e3:.0f} kB")
    return 0


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
