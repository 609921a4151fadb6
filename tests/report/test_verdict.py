"""The verdict: what was decided, what to expect of new images, and intervals in words."""

import numpy as np
import pytest
from helpers import words

from mdps_ref.report.html import percent
from mdps_ref.report.verdict import interval_in_words, verdict


def with_scores(fake_result, defects, scores):
    """A Result of such scores whose threshold is 3."""
    return fake_result(defects, mdps={"score": np.array(scores, np.float32)}, threshold=3.0)


@pytest.mark.parametrize(
    ("defects", "scores", "said"),
    [
        (("good", "good", "rust", "bent", "bent"), [1, 6, 2, 4, 5], "2 of 3 defective and 1 of 2 good images of washer were flagged."),
        (("rust",), [4], "1 of 1 defective image of washer was flagged."),
        (("good", "good"), [1, 2], "0 of 2 good images of washer were flagged."),
    ],
)
def test_what_was_decided(defects, scores, said, fake_result):
    text = words(verdict(with_scores(fake_result, defects, scores)))
    assert said in text
    assert ("no defective test images" in text) == (set(defects) == {"good"})


@pytest.mark.parametrize(("above", "one_in"), [(0, "6"), (1, "3")])
def test_false_alarms_are_expected_by_the_rank_of_the_threshold_among_the_held_out_scores(above, one_in, fake_result):
    """Of five held-out scores and a new one, each is equally often the largest: 1 in 6. The second largest is exceeded twice as often."""
    result = with_scores(fake_result, ("good", "rust"), [1, 5])
    result.held_out_scores[:] = [1, 2, 2.5, 3, 3 + above]
    assert f"about 1 false alarm in {one_in} new good images; the threshold rests on 5 held-out" in words(verdict(result))


def test_an_interval_of_a_perfect_ranking_and_one_with_a_width(fake_result):
    result = with_scores(fake_result, ("good", "good", "rust", "rust"), [1, 2, 4, 5])
    assert result.metrics["mdps"]["intervals"]["image_auroc"] == [1, 1]
    assert "1.000" not in interval_in_words(result, "image_auroc") and "All 4 images" in interval_in_words(result, "image_auroc")
    result.metrics["mdps"]["intervals"]["image_auroc"] = [0.9991, 0.9994]
    assert "0.999 to 0.999" in interval_in_words(result, "image_auroc")
    result.metrics["mdps"]["intervals"]["image_auroc"] = [0.25, 0.75]
    assert "0.250 to 0.750" in interval_in_words(result, "image_auroc")
    result.metrics["mdps"]["intervals"] = {}
    assert "No interval" in interval_in_words(result, "image_auroc")


@pytest.mark.parametrize(
    ("good", "defective", "said"),
    [
        ([1, 4], [5, 6], "The false alarm scores below every defective image"),
        ([4, 4.5], [5, 6], "The 2 false alarms score below every defective image"),
        ([1, 2], [2.5, 6], "The missed image scores above every good image"),
        ([1, 1.5], [2, 2.5], "The 2 missed images score above every good image"),
        ([1, 2], [5, 6], None),
        ([1, 6], [5, 6.5], None),
    ],
)
def test_a_perfect_ranking_beside_a_wrong_decision_is_explained(good, defective, said, fake_result):
    """The threshold is 3. In the last case the ranking itself is wrong."""
    text = words(verdict(with_scores(fake_result, ("good", "good", "rust", "rust"), [*good, *defective])))
    assert ("only the threshold lies" in text) == bool(said)
    assert (said or "") in text


def test_the_shares_stand_in_their_sentences(fake_result):
    """One of the four pairs of images is ranked wrong."""
    text = words(verdict(with_scores(fake_result, ("good", "good", "rust", "rust"), [1, 4, 2, 5])))
    assert "In 75\N{NO-BREAK SPACE}% of the pairs of a defective and a good image" in text
    assert "{" not in text


def test_only_a_whole_share_reads_0_or_100_percent():
    shares = (0, 1e-6, 0.5, 0.9964, 1 - 1e-6, 1)
    texts = [percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in shares]
    assert texts == ["0 %", "under 0.1 %", "50 %", "99.6 %", "over 99.9 %", "100 %"]
