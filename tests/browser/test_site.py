"""The site as a reader meets it: the map of the book, notebooks whose cells run, the exercises' checker, a whole run with its report."""

import pathlib

import pytest

TUTORIALS = pathlib.Path(__file__).parents[2] / "tutorials"
NOTEBOOKS = sorted(path.name for path in TUTORIALS.glob("*.ipynb"))
WHOLE = ("00_the_map.ipynb", "07_bayes_and_the_masked_observation.ipynb", "12_scores_and_metrics.ipynb")
RIGHT, WRONG = "alpha_bar_t**0.5 * x_0 + (1 - alpha_bar_t) ** 0.5 * noise", "alpha_bar_t * x_0 + (1 - alpha_bar_t) * noise"
EXERCISE = "from mdps_ref.check import check\ncheck('E03', lambda x_0, noise, alpha_bar_t: {});"
RUN = """from mdps_ref.data.synthetic import write_category
from mdps_ref.run import in_notebook
write_category("tiny", "washer", size=32, train=12, test_good=2, per_defect=1)
in_notebook("--data", "tiny", "--category", "washer", "--train-steps", "5")"""
BENCH = "from mdps_ref.bench.__main__ import main\nmain(['--only', 'scoring'])"
ASKED = """from mdps_ref.kernels import fast, processes, threads
from mdps_ref.kernels.threads import LIMIT
with fast(8):
    print(threads.CORES, LIMIT.get(), processes.members(8))"""


def ran(book, number, source=None):
    """Run a cell; what it did, which is neither an error nor a warning."""
    done = book.run(number, source)
    assert not done.error and "Warning" not in done.stderr, f"cell {number}: {done.error or done.stderr}"
    return done


def test_it_opens_on_the_map_of_the_book_in_light_and_dark(browse):
    for scheme, brightest in (("light", 255), ("dark", 60)):
        with browse(scheme=scheme, width=1300) as book:
            page = book.page
            page.goto(f"{book.address}/")
            links = page.eval_on_selector_all(".cards a", "links => links.map(link => link.href)")
            assert [link.partition("path=")[2] for link in links] == NOTEBOOKS
            assert all(page.request.get(f"{book.address}/files/{name}").ok for name in NOTEBOOKS)
            page.evaluate("() => document.querySelectorAll('img').forEach(picture => picture.loading = 'eager')")
            page.wait_for_function("() => [...document.images].every(picture => picture.complete && picture.naturalWidth > 0)")
            ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
            assert brightest - 60 < max(ground) <= brightest


@pytest.mark.parametrize("width", [390, 1300])
def test_the_map_is_no_wider_than_the_screen(browse, width):
    with browse(width=width) as book:
        book.page.goto(f"{book.address}/")
        assert book.page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert book.page.eval_on_selector_all(".cards p", "ps => Math.min(...ps.map(p => p.getBoundingClientRect().width))") > 200


def test_cells_run_and_an_exercise_is_judged_right_and_wrong(browse):
    """In one session, so that it takes a moment."""
    with browse() as book:
        book.open(NOTEBOOKS[0])
        shown = [ran(book, number) for number in range(5)]
        assert any(cell.shows("image/png") for cell in shown)
        assert ran(book, 5, ASKED).text.split() == ["1", "1", "1"]
        right, wrong = (ran(book, 6, EXERCISE.format(formula)).text for formula in (RIGHT, WRONG))
        assert "E03: right" in right and "E03: right" not in wrong and len(wrong) > 10


@pytest.mark.long
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_first_five_cells_run(browse, name):
    with browse() as book:
        for number in range(min(5, len(book.open(name)))):
            ran(book, number)


@pytest.mark.long
@pytest.mark.parametrize("name", WHOLE)
def test_every_cell_runs(browse, name):
    with browse() as book:
        for number in range(len(book.open(name))):
            ran(book, number)


@pytest.mark.long
def test_a_run_shows_its_report_and_the_bench_says_what_it_cannot_do(browse):
    with browse() as book:
        book.open(NOTEBOOKS[0])
        run = ran(book, 0, RUN)
        assert "flagged: " in run.text and run.shows("text/html")
        heading = book.page.frame_locator("iframe[title^='report:']").locator("h1")
        assert heading.inner_text()
        bench = ran(book, 1, BENCH).text
        assert "one thread" in bench and "no second process" in bench and "scoring" in bench
        # JupyterLite first asks the server for a folder that a notebook has made in this browser.
        book.complaints = [words for words in book.complaints if not ("/api/contents/" in words and "all.json" in words)]
