"""Marks that belong there: on bodies alone, regular, the same each time."""

import numpy as np
import pytest

from filo.synthetic import prints
from filo.synthetic.families import FAMILIES, draw_look
from filo.synthetic.prints import MARKS, decorate
from filo.synthetic.things import OUTLINES, inlay


def scene_of(noun: str, seed: int = 0):
    family = next(family for family in FAMILIES if noun in family.nouns)
    rng = np.random.default_rng(seed)
    return family.draw(rng, 64, **draw_look(rng, family))


@pytest.mark.parametrize("noun", ("disc", "buttons", "metal"))
@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.__name__)
def test_marks_lie_on_the_body_alone(noun, mark, monkeypatch):
    monkeypatch.setattr(prints, "MARKS", (mark,))
    scene = scene_of(noun)
    for seed in range(4):
        printed = decorate(np.random.default_rng(seed), scene, (1.0, 0.0, 0.0))
        changed = (printed.image != scene.image).any(-1)
        assert changed.any() and not (changed & ~scene.body).any()
        assert printed.has_background == scene.has_background
        again = decorate(np.random.default_rng(seed), scene, (1.0, 0.0, 0.0))
        assert (again.image == printed.image).all()


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.__name__)
def test_a_mark_is_about_as_large_as_told(mark):
    line = np.linspace(-1, 1, 201)
    x, y = np.meshgrid(line, line)
    inside = mark(x, y, 0.2) < 0
    assert inside[100].any() or inside[:, 100].any()
    assert np.abs(y[inside]).max() <= 0.25


def test_what_is_inlaid_covers_some_of_a_thing_and_not_all():
    line = (np.arange(64) + 0.5) / 64 - 0.5
    x, y = np.meshgrid(line, line)
    body = OUTLINES["disc"](x, y, 0.8, 1) < 0
    shares = [inlay(np.random.default_rng(seed), x, y, 0.8)[body].mean() for seed in range(40)]
    assert min(shares) > 0.01 and max(shares) < 0.7 and np.std(shares) > 0.05
