"""How the site is built: a map from one source, files held against their hashes, one line for every mistake.  No browser is needed."""

import json
import pathlib
import re

import build
import distribution
import heads
import pytest
from book_map import map_page

TUTORIALS = pathlib.Path(__file__).parents[2] / "tutorials"
README = (TUTORIALS / "README.md").read_text(encoding="utf-8")


def test_the_map_has_each_notebook_of_the_readme_with_its_picture_and_minutes():
    page = map_page(README)
    assert re.findall(r"\]\(|\*\w+\*", page) == [], "only those sentences of the introduction that are no Markdown are on the page"
    names = [path.name for path in sorted(TUTORIALS.glob("*.ipynb"))]
    assert re.findall(r'<li><a href="notebooks/index.html\?path=([^"]+)"><img src="pictures/', page) == names
    assert re.findall(r"(\d+) minutes", page) == re.findall(r"\| (\d+) \| [^|]*\|$", README, re.MULTILINE)
    assert [name for name in re.findall(r'src="([^"]+)"', page) if not (TUTORIALS / name).is_file()] == []
    for who, number in (("student", "01"), ("researcher", "13"), ("practitioner", "15")):
        (line,) = [line for line in page.splitlines() if f"<b>{who}</b>" in line]
        assert f"path={number}_" in line


def test_the_map_leads_to_the_page_without_python():
    assert 'href="try_it/"' in map_page(README)


def test_a_notebook_gets_a_new_address(monkeypatch):
    text = (TUTORIALS / "04_noise.ipynb").read_text(encoding="utf-8")
    monkeypatch.setattr(heads, "SITE", "https://someone.github.io/book/")
    moved = heads.linked(text, "04_noise.ipynb")
    assert moved != text and heads.linked(moved, "04_noise.ipynb") == moved
    assert moved.count("https://someone.github.io/book/notebooks/index.html?path=04_noise.ipynb") == 1
    changed = set(text.splitlines()) ^ set(moved.splitlines())
    assert len(changed) == 2 and all("Run this page" in line for line in changed)


def test_the_sites_copy_is_unnumbered_and_has_each_output_in_one_piece():
    text = (TUTORIALS / "00_the_map.ipynb").read_text(encoding="utf-8")
    before, after = (json.loads(some)["cells"] for some in (text, heads.on_site(text)))
    assert heads.WORDS in "".join(before[0]["source"]) and heads.WORDS not in "".join(after[0]["source"])
    assert heads.ON_SITE in "".join(after[0]["source"])
    joined = 0
    for old, new in zip(before[1:], after[1:], strict=True):
        assert old["source"] == new["source"] and new.get("execution_count") is None
        for listed, whole in zip(old.get("outputs", ()), new.get("outputs", ()), strict=True):
            if "text" in listed:
                assert whole["text"] == "".join(listed["text"])
                joined += isinstance(listed["text"], list)
            assert all(isinstance(value, str) for value in whole.get("data", {}).values())
    assert joined


def test_a_head_says_to_serve_the_site_while_its_address_is_this_machine(monkeypatch):
    said = []
    for site in ("http://127.0.0.1:8000/", "https://someone.github.io/book/"):
        monkeypatch.setattr(heads, "SITE", site)
        said.append("first build and serve the site" in heads.link("04_noise.ipynb"))
        assert f"]({site}notebooks/index.html?path=04_noise.ipynb)" in heads.link("04_noise.ipynb")
    assert said == [True, False]


def test_a_text_of_the_readme_is_no_html():
    assert "<b>x</b>" not in (page := map_page(README.replace("| the chain rule", "| `a` <b>x</b>")))
    assert "<code>a</code> &lt;b&gt;x" in page


def test_a_wheel_with_another_hash_is_refused_and_not_kept(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a-1-py3-none-any.whl").write_bytes(b"a wheel")
    entry = {"file_name": "a-1-py3-none-any.whl", "sha256": distribution.sha256(b"a wheel")}
    there = (tmp_path / "there").as_uri() + "/"
    with pytest.raises(distribution.GatheringError, match="a-1-py3-none-any.whl"):
        distribution._from_pyodide(tmp_path, entry | {"sha256": distribution.sha256(b"another")}, there)
    assert not (tmp_path / "a-1-py3-none-any.whl").exists()
    distribution._from_pyodide(tmp_path, entry, there)
    assert (tmp_path / "a-1-py3-none-any.whl").read_bytes() == b"a wheel"


def test_a_package_brings_what_it_depends_on():
    packages = {name: {"depends": depends} for name, depends in {"a": ["B_c"], "b-c": ["d"], "d": ["a"], "e": []}.items()}
    assert distribution.closure(packages, ["a"]) == ["a", "b-c", "d"]


def test_a_wheel_takes_the_place_of_pyodides_own(tmp_path):
    wheel = tmp_path / "tqdm-9.0-py3-none-any.whl"
    wheel.write_bytes(b"new")
    packages = {"tqdm": {"version": "4.0", "sha256": "old", "depends": ["x"]}}
    (tmp_path / "site").mkdir()
    distribution.add_wheel(tmp_path / "site", packages, wheel, ["y"], ["tqdm"])
    distribution.write_lock(tmp_path / "site", {"arch": "wasm32"}, packages)
    assert distribution.read_lock(tmp_path / "site") == ({"arch": "wasm32"}, packages)
    assert (packages["tqdm"]["version"], packages["tqdm"]["depends"]) == ("9.0", ["y"])
    assert packages["tqdm"]["sha256"] == distribution.sha256((tmp_path / "site" / wheel.name).read_bytes())


def test_every_pinned_wheel_has_a_hash():
    lines = [line for line in distribution.WHEELS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line)] == []


def test_a_page_of_jupyterlite_names_the_icon_beside_it_and_says_that_it_opens():
    page = build.completed('<html>\n<head>\n    <title>a</title></head><body class="x">&lt;head></body>')
    before, after = page.split(build.OPENING)
    assert before == '<html>\n<head>\n    <link rel="icon" href="favicon.ico">\n    <title>a</title></head><body class="x">\n    '
    assert after == "&lt;head></body>"


def test_a_folder_that_is_not_empty_is_one_line(tmp_path, capsys):
    (tmp_path / "mine").touch()
    assert build.main(["--out", str(tmp_path)]) == 2
    assert str(tmp_path) in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_a_command_that_is_not_there_or_fails_is_one_line():
    for words in (("no-such-command", "x"), ("git", "no-such-verb")):
        with pytest.raises(distribution.GatheringError, match=f"^{words[0]}.*[^\n]$"):
            distribution.command(*words)
