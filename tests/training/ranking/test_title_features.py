import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.ranking.title_features import character_grams, lexical_directions, unit_rows

TITLES = ["Toy Story (1995)", "Toy Story 2 (1999)", "Heat (1995)", "TOY STORY (1995)", "千与千寻", "Up"]


def test_titles_that_are_spelt_alike_are_near() -> None:
    found = lexical_directions(TITLES)
    cosines = found @ found.T
    np.testing.assert_allclose(np.diag(cosines), 1, rtol=1e-5)
    assert cosines[0, 3] > 0.999
    assert cosines[0, 1] > 0.4 > abs(cosines[0, 4])
    assert cosines[0, 1] > cosines[0, 2]


@settings(max_examples=5)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_the_order_of_titles_does_not_matter(titles: list[str]) -> None:
    order = np.random.default_rng(0).permutation(len(titles))
    plain, moved = lexical_directions(titles, 16), lexical_directions([titles[place] for place in order], 16)
    np.testing.assert_allclose(moved, plain[order], atol=1e-5)


def test_grams_have_the_ends_of_the_title() -> None:
    assert character_grams("Up")[" up"] == character_grams("Up")["up "] == 1
    assert character_grams("Up") == character_grams("UP")


def test_rows_of_zeros_stay() -> None:
    assert unit_rows(np.zeros((2, 3), dtype=np.float32)).tolist() == [[0.0] * 3] * 2
