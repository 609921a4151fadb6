"""The command that fetches torchvision's weights from a site on this machine: it keeps a whole and checked file, or none."""

import contextlib
import hashlib
import http.server
import importlib
import pathlib
import re
import socket
import threading

import pytest

from mdps_ref.nn.resnet import RESNETS
from mdps_ref.scoring.features import EXTRACTORS, make_features

BODY = bytes(range(256)) * 8000  # two pieces


@pytest.fixture
def script():
    """The script as a module."""
    return importlib.import_module("fetch_weights")


@pytest.fixture
def file_name(monkeypatch):
    """The name of BODY as the weights of a resnet18, with the first digits of its checksum in it."""
    name = f"resnet18-{hashlib.sha256(BODY).hexdigest()[:8]}.pth"
    monkeypatch.setitem(EXTRACTORS, "resnet18", EXTRACTORS["resnet18"]._replace(file=name))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return name


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with BODY under one path; attributes of the server change the answer."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path != self.server.path:
            return self.send_error(404)
        self.send_response(200)
        if self.server.told_size is not None:
            self.send_header("Content-Length", str(self.server.told_size))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may hang up, and a traceback would reach its standard error
            self.wfile.write(self.server.body)

    def log_message(self, *_):
        """Nothing on standard error."""


@pytest.fixture
def site(file_name):
    """The server of a site with the file under /models."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        server.path, server.body, server.told_size, server.asked = f"/models/{file_name}", BODY, len(BODY), []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_port}/models"
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fetch(script, site, tmp_path, capsys):
    """fetch(*more): run the command into `weights` in a fresh folder; return its status and its last line."""

    def run(*more):
        status = script.main(["resnet18", "--to", str(tmp_path / "weights"), "--url", site.url, *more])
        out, err = capsys.readouterr()
        told = [line for line in (err if status else out).splitlines() if "\r" not in line and "B/s" not in line and line.strip()]
        assert len(told) == 1
        return status, told[0]

    return run


def files_in(folder):
    """The names of all files in a folder that may not be there."""
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_the_file_is_fetched_and_checked(fetch, site, tmp_path, file_name):
    status, line = fetch()
    assert status == 0 and file_name in line
    assert (tmp_path / "weights" / file_name).read_bytes() == BODY
    assert files_in(tmp_path / "weights") == [file_name]
    assert site.asked == [site.path]


def test_a_site_that_does_not_tell_the_size(fetch, site, tmp_path, file_name):
    site.told_size = None
    assert fetch()[0] == 0
    assert (tmp_path / "weights" / file_name).read_bytes() == BODY


def test_what_is_there_and_whole_is_not_fetched_again(fetch, site):
    fetch()
    status, line = fetch()
    assert status == 0 and "there already" in line
    assert len(site.asked) == 1


def test_what_is_there_and_broken_is_replaced(fetch, tmp_path, file_name):
    fetch()
    (tmp_path / "weights" / file_name).write_bytes(BODY[:-1])
    assert fetch()[0] == 0
    assert (tmp_path / "weights" / file_name).read_bytes() == BODY


FAULTS = {
    "cut short": ({"body": BODY[:-7]}, f"{len(BODY) - 7} of {len(BODY)} bytes"),
    "nothing sent": ({"body": b""}, f"0 of {len(BODY)} bytes"),
    "cut short, size not told": ({"body": BODY[:-7], "told_size": None}, "another checksum"),
    "another file": ({"body": BODY[::-1]}, "another checksum"),
    "not there": ({"path": "/other"}, "404"),
}


@pytest.mark.parametrize("answer, says", FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_site_is_one_line_and_nothing_is_kept(fetch, site, tmp_path, file_name, answer, says):
    for name, value in answer.items():
        setattr(site, name, value)
    status, line = fetch()
    assert status == 2
    assert says in line and f"{site.url}/{file_name}" in line and str(tmp_path / "weights" / file_name) in line
    assert files_in(tmp_path / "weights") == []


def test_a_fault_leaves_an_old_file(fetch, site, tmp_path, file_name):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / file_name).write_bytes(b"old")
    site.body = BODY[:-7]
    assert fetch()[0] == 2
    assert (tmp_path / "weights" / file_name).read_bytes() == b"old"
    assert files_in(tmp_path / "weights") == [file_name]


def test_no_network_is_one_line_that_says_what_to_put_where(fetch, tmp_path, file_name):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    status, line = fetch("--url", url)
    assert status == 2 and "refused" in line
    assert f"{url}/{file_name}" in line and str(tmp_path / "weights" / file_name) in line
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("url", ["models", "http://127.0.0.1:port", "nothing://127.0.0.1"])
def test_a_wrong_address_is_one_line(fetch, tmp_path, url):
    status, line = fetch("--url", url)
    assert status == 2 and "could not be fetched" in line
    assert not (tmp_path / "weights").exists()


def test_a_folder_that_cannot_be_written_to_is_one_line(fetch, tmp_path):
    (tmp_path / "weights").write_text("a file")
    status, line = fetch()
    assert status == 2 and "could not be written" in line
    assert (tmp_path / "weights").read_text() == "a file"


def test_it_can_be_interrupted(fetch, script, tmp_path, monkeypatch):
    def interrupted(response, remedy):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "read", interrupted)
    status, line = fetch()
    assert status == 130 and "interrupted" in line
    assert files_in(tmp_path / "weights") == []


def test_it_goes_where_the_features_look_for_it(script, site, file_name, tmp_path, monkeypatch, fails_with):
    """Without --to, the command writes to the folder in which make_features looks."""
    monkeypatch.chdir(tmp_path)
    with fails_with(pathlib.Path("weights") / file_name, "fetch_weights.py resnet18"):
        make_features("resnet18", "", "", None)
    assert script.main(["resnet18", "--url", site.url]) == 0
    with fails_with(pathlib.Path("weights") / file_name, "give a .pth"):  # found, but BODY is no state dict
        make_features("resnet18", "", "", None)


def test_every_resnet_has_a_file_with_a_checksum_in_its_name(script):
    for name in RESNETS:
        assert re.fullmatch(rf"{name}-[0-9a-f]{{8}}\.pth", EXTRACTORS[name].file)
