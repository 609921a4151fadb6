"""Copies of images are told: a test image that was trained on, and a training image that is there twice."""

import pytest
from helpers import write_image

from mdps_ref.data.findings import Findings
from mdps_ref.data.folders import read_category
from mdps_ref.job.image_digests import check_data, note_copies


@pytest.fixture
def copies_in(tmp_path):
    """copies_in({path: number}): what is noted of a category that holds a picture of that grey at each path."""

    def found(numbers):
        for path, number in numbers.items():
            write_image(tmp_path / "part" / path, number)
        findings, category = Findings(tmp_path / "part"), read_category(tmp_path, "part")
        note_copies(category, check_data(tmp_path, category), findings)
        return {kind: names["first"] for kind, names in findings.as_dict().items()}

    return found


def test_images_that_differ_are_not_noted(copies_in):
    assert copies_in({"train/good/0.png": 0, "train/good/1.png": 1, "test/good/0.png": 2, "test/cut/0.png": 3}) == {}


def test_a_test_image_that_was_trained_on_is_noted(copies_in):
    found = copies_in({"train/good/0.png": 0, "train/good/1.png": 1, "test/good/7.png": 1, "test/cut/0.png": 0, "test/cut/1.png": 3})
    assert found == {"image in test, in train as well": ["test/cut/0.png", "test/good/7.png"]}


def test_a_training_image_that_is_there_more_than_once_is_noted(copies_in):
    found = copies_in({"train/good/0.png": 0, "train/good/1.png": 0, "train/good/2.png": 0, "test/good/0.png": 4})
    assert found == {"image in train, there more than once": ["train/good/1.png", "train/good/2.png"]}


def test_a_test_image_that_is_there_more_than_once_is_noted(copies_in):
    found = copies_in({"train/good/0.png": 0, "test/dent/7.png": 4, "test/good/0.png": 4})
    assert found == {"image in test, there more than once": ["test/good/0.png"]}
