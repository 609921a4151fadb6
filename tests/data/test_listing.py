"""What is found in folders, what is set aside and noted, and one message for folders that are not as expected."""

import errno
import os
import pathlib

import pytest
from helpers import write_image

from mdps_ref.data import folders, listing
from mdps_ref.data.findings import Findings
from mdps_ref.errors import shown


@pytest.fixture
def part(tmp_path):
    """A category with one of each thing that is not used."""
    root = tmp_path / "data" / "part"
    for name in (
        "train/good/0",
        "train/good/1",
        "train/bad/0",
        "train/loose",
        "train/good/more/2",
        "test/good/0",
        "test/cut/0",
        "test/cut/1",
    ):
        write_image(root / f"{name}.png")
    for name in ("cut/0_mask", "cut/0001_mask", "good/0_mask", "bent/0_mask"):
        write_image(root / "ground_truth" / f"{name}.png")
    (root / "tests").mkdir()
    for name in (
        "train/good/notes.gif",
        "ground_truth/good/notes.gif",
        "train/good/Thumbs.db",
        "train/good/.hidden",
        "license.txt",
        "ground_truth/cut/1.npy",
    ):
        (root / name).touch()
    return root


def test_what_is_set_aside_is_noted(part):
    findings = Findings(part)
    assert folders.read_category(part.parent, "part", findings) == folders.read_category(part.parent, "part")
    noted = {kind: sorted(told["first"]) for kind, told in findings.as_dict().items()}
    assert noted == {
        "file of a suffix that is not read": ["ground_truth/cut/1.npy", "ground_truth/good/notes.gif", "train/good/notes.gif"],
        "folder below, not read": ["train/good/more"],
        "folder that is not read": ["ground_truth/bent", "tests", "train/bad"],
        "image beside the folders, not read": ["train/loose.png"],
        "image with a defect and no mask, left out of the pixel metrics": ["test/cut/1.png"],
        "mask of a good image, not used": ["ground_truth/good/0_mask.png"],
        "mask of no image, not used": ["ground_truth/cut/0001_mask.png"],
    }
    assert "1 folder below, not read: train/good/more" in findings.lines()


def test_nothing_is_noted_of_a_complete_category(tmp_path):
    for name in ("train/good/0", "test/good/0", "test/cut/0", "ground_truth/cut/0_mask"):
        write_image(tmp_path / "c" / f"{name}.png")
    findings = Findings()
    folders.read_category(tmp_path, "c", findings)
    assert not findings and findings.lines() == []


def test_a_path_outside_the_root_is_named_by_its_last_two_parts(tmp_path):
    for root in (tmp_path / "a", None):
        findings = Findings(root)
        findings.add("file", tmp_path / "b/c/d.txt")
        assert findings.lines() == ["1 file: c/d.txt"]


def test_findings_count_all_and_name_five():
    findings = Findings()
    for k in range(7):
        findings.add("mask of no image, not used", f"{k}\n\x1b[2J")
    first = ", ".join(str(k) + r"\n\x1b[2J" for k in range(5))
    assert findings.lines() == [f"7 masks of no image, not used: {first}, ..."]
    assert findings.as_dict()["mask of no image, not used"]["count"] == 7


def test_names_are_shown_in_one_short_line():
    assert shown("ä b/\u202e\udcff\x00") == "ä b/\\u202e\\udcff\\x00"
    assert shown("x" * 300 + "end").endswith("xend") and len(shown("x" * 300)) < 200


@pytest.mark.parametrize("name", ["test/Good", "train/GOOD", "test/OK"])
def test_good_with_capitals_is_never_a_defect(part, name, fails_with):
    write_image(part / name / "0.png")
    with fails_with(part / name, f"rename it to {name.split('/')[1].lower()}"):
        folders.read_category(part.parent, "part")


@pytest.mark.parametrize("given", ["", "..", "test", "test/cut", "train/good"])
def test_the_parent_to_give_is_named(part, given, fails_with):
    tree = ("DIR/NAME/train/good/*.png", "DIR/NAME/test/<defect>/*.png", "DIR/NAME/ground_truth/<defect>/<image>_mask.png")
    with fails_with(f"here give --data {part.parent} --category part", *tree):
        folders.read_category(part / given if given != ".." else part.parent.parent, "part")


def test_a_category_that_was_unpacked_into_a_folder_of_its_name(part, fails_with):
    with fails_with("neither train/good", f"here give --data {part.parent} --category part"):
        folders.read_category(part.parent.parent, "data")


def test_of_several_categories_that_are_near_the_one_of_that_name_is_named(tmp_path, fails_with):
    for name in ("a/nut", "b/bolt", "c/cable"):
        write_image(tmp_path / name / "train/good/0.png")
    with fails_with(f"here give --data {tmp_path / 'b'} --category bolt"):
        folders.read_category(tmp_path, "bolt")


def test_a_folder_of_loose_images(tmp_path, fails_with):
    for k in range(3):
        write_image(tmp_path / "photos" / f"{k}.jpg")
    with fails_with("neither train/good", "3 images lie in", "into train/good", "DIR/NAME/train/good"):
        folders.read_category(tmp_path, "photos")


# Images to score


@pytest.mark.parametrize("there", [False, True])
def test_a_category_that_has_no_test_images(there, tmp_path, fails_with):
    write_image(tmp_path / "nut/train/good/0.png")
    if there:
        (tmp_path / "nut/test").mkdir()
    with fails_with(tmp_path / "nut", "no images there", "test alone"):
        listing.list_images([tmp_path / "nut"])


def names(paths, findings=None):
    return [image.name for image in listing.list_images(paths, findings)]


def test_files_and_folders_of_any_depth(tmp_path):
    for name in ("b.PNG", "a/c.webp", "a/b/ä.jfif", "a/.hidden.png", "no suffix", "z.gif"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    findings = Findings()
    assert names([tmp_path / "in"], findings) == ["a/b/ä.jfif", "a/c.webp", "b.PNG"]
    assert findings.as_dict() == {"file of a suffix that is not read": {"count": 2, "first": ["in/no suffix", "in/z.gif"]}}
    assert names([tmp_path / "in/no suffix", str(tmp_path / "in/a")]) == ["no suffix", "b/ä.jfif", "c.webp"]


def test_images_of_one_name_get_the_name_of_their_folder(tmp_path, fails_with):
    for name in ("one/0.png", "two/0.png", "three/1.png", "deep/one/0.png"):
        write_image(tmp_path / name)
    assert names([tmp_path / "one", tmp_path / "two/0.png", tmp_path / "three"]) == ["one/0.png", "two/0.png", "1.png"]
    with fails_with("one/0.png", "two images", "folder above both"):
        names([tmp_path / "one", tmp_path / "deep/one"])


def test_an_image_that_is_given_twice_is_refused(tmp_path, fails_with):
    write_image(tmp_path / "one/0.png")
    for again in ("one", "one/0.png", "one/../one", ""):
        with fails_with("one/0.png", "given twice", "leave one of the paths out"):
            names([tmp_path / "one", tmp_path / again])
    write_image(tmp_path / "far/away/1.png")
    write_image(tmp_path / "far/0.png")
    (tmp_path / "link").symlink_to(tmp_path / "far/away")
    assert names([tmp_path / "one/0.png", f"{tmp_path}/link/../0.png"]) == [
        "one/0.png",
        "far/0.png",
    ]  # of the link's target, not of the link


def test_of_a_category_the_test_images_are_listed(part):
    findings = Findings()
    assert names([part]) == ["test/cut/0.png", "test/cut/1.png", "test/good/0.png"]
    assert names([part.parent], findings) == ["part/test/cut/0.png", "part/test/cut/1.png", "part/test/good/0.png"]
    assert findings.lines() == ["1 folder of a category, of which the test images alone are read: data/part"]


def test_links(tmp_path):
    write_image(tmp_path / "in/a/0.png")
    (tmp_path / "in/a/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/gone.png").symlink_to(tmp_path / "nowhere")
    findings = Findings()
    assert names([tmp_path / "in"], findings) == ["a/0.png", "gone.png"]
    assert findings.lines() == ["1 folder that a link leads to again, read once: a/up"]


def test_what_cannot_be_listed(tmp_path, fails_with):
    (tmp_path / "empty").mkdir()
    with fails_with(tmp_path / "empty", "no images there", ".webp"):
        names([tmp_path / "empty"])
    with fails_with("no path was given"):
        names([])
    with fails_with("gone.png", "no such file"):
        names([tmp_path / "gone.png"])
    os.mkfifo(tmp_path / "empty/fifo.png")
    for given in ("empty", "empty/fifo.png"):
        with fails_with("fifo.png", "FIFO, socket or device"):
            names([tmp_path / given])


def test_a_folder_below_that_may_not_be_read_is_named(tmp_path, fails_with, monkeypatch):
    """Root may read every folder, so the system's answer is played."""
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "closed/b.png")

    def guarded(do, folder_of):
        def asked(path):
            if folder_of(path).name == "closed":
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return do(path)

        return asked

    for name, folder_of in (("iterdir", lambda path: path), ("is_file", lambda path: path.parent)):
        monkeypatch.setattr(pathlib.Path, name, guarded(getattr(pathlib.Path, name), folder_of))
    with fails_with(f"{tmp_path / 'closed'}: could not be read", "permission denied"):
        listing.list_images([tmp_path])
