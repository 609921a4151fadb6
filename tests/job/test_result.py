"""Which images a report shows."""

import pytest

from mdps_ref.job.result import choose_images


def test_good_images_are_chosen_first_and_every_kind_of_defect():
    defects = ["bent"] * 5 + ["good"] * 9 + ["rust"] * 1 + ["scratch"] * 5
    for limit in range(3, 25):
        chosen = choose_images(defects, limit)
        kinds = [defects[i] for i in chosen]
        assert len(set(chosen)) == len(chosen) == min(limit, len(defects))
        assert {"bent", "rust", "scratch"} <= set(kinds)
        assert ("good" in kinds) == (limit > 3)
        assert kinds == sorted(kinds, key=lambda kind: (kind != "good", kind))
    assert choose_images(defects, 8) == [5, 0, 1, 2, 14, 15, 16, 17]
    assert choose_images(defects, 2) == [0, 14]
    assert [defects[i] for i in choose_images(defects, 12)].count("good") == 3
    assert choose_images(["good"] * 3, 12) == [0, 1, 2]
    assert choose_images(["rust"] * 20, 12) == list(range(12))


@pytest.mark.parametrize(
    ("kinds", "good", "of_each"), [(1, 3, 9), (2, 2, 5), (3, 3, 3), (4, 4, 2), (5, 2, 2), (6, 6, 1), (9, 3, 1), (11, 1, 1)]
)
def test_kinds_of_defects_have_equally_many_images(kinds, good, of_each):
    names = [f"kind {kind:02}" for kind in range(kinds)]
    defects = [*["good"] * 12, *(name for name in names for _ in range(12))]
    chosen = [defects[i] for i in choose_images(defects, 12)]
    assert chosen == ["good"] * good + [name for name in names for _ in range(of_each)]
