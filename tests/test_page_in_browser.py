"""The page in a real browser: what clicks, keys and filters do, and what is seen."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
from browser import Tab, find_browser, open_browser
from PIL import Image

from aib_mm.interpret.draw.cases import Case, Tile
from aib_mm.interpret.draw.page import Section, write_page
from aib_mm.interpret.draw.pictures import image_jpeg, outline_uri
from aib_mm.interpret.draw.truth import HIT_RATE, ClassRow

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason='no Chromium here (on Debian: apt install chromium)'
)
CLASSES = ('cat', 'dog')
SCALE = (0.0, 2.0)
#: Place of the first card that passes; the image of what has the focus.
FIRST = "document.querySelector('.card:not([hidden])').getBoundingClientRect().top"
OWN = "document.activeElement.closest('.card').querySelector('h4').textContent"


def make_case(folder: Path, i: int) -> Case:
    """A brown image whose map has four values, from 0 to ``1 + i / 10``."""
    place = folder / f'im{i:04d}'
    place.mkdir()
    brown = np.full((200, 200, 3), (200, 100, 50), np.uint8)
    (place / 'image.jpg').write_bytes(image_jpeg(brown))
    values = np.repeat(np.repeat([[0.0, 0.1], [0.2, 1 + i / 10]], 100, 0), 100, 1)
    mask = np.zeros((200, 200), bool)
    mask[:20] = True
    return Case(
        name=f'im{i:04d}.png',
        photo=f'{place.name}/image.jpg',
        shape=(200, 200),
        predicted=[i % 2],
        true=[0],
        right=i % 2 == 0,
        tiles=[
            Tile(name, values).picture(place) for name in ('mean', 'std', 'sample_1')
        ],
        outline=outline_uri(mask),
        scores=[(i % 2, 0.9)],
        measures=dict(
            consistency=1 - i / 10, preference=0.4 + i / 5, total_bits=10 * i + 1
        ),
    )


def write(
    path: Path, cases: list[Case], value_range: tuple[float, float] | None = SCALE
) -> Path:
    write_page(
        path,
        title='Where it looks',
        lead='Brown images.',
        sections=[Section('', '', cases)],
        classes=CLASSES,
        value_range=value_range,
        by_class=[ClassRow(0, 5, 0.6, 0.8)],
        class_measure=HIT_RATE,
    )
    return path


@pytest.fixture(scope='module')
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('page')
    return write(folder / 'index.html', [make_case(folder, i) for i in range(5)])


@pytest.fixture(scope='module')
def browser() -> Any:
    with open_browser() as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, page: Path) -> Tab:
    browser.open(page)
    return browser


def shown(tab: Tab) -> list[str]:
    cards = "[...document.querySelectorAll('.card:not([hidden]) h4')]"
    return [name[2:-4] for name in tab.value(f'{cards}.map(one => one.textContent)')]


def is_seen(tab: Tab, selector: str) -> bool:
    return tab.value(f"document.querySelector('{selector}').checkVisibility()")


def colors_of(tab: Tab, selector: str) -> list[tuple[int, ...]]:
    """Colours as seen in the four quarters of an element, well below its outline."""
    tab.value(
        f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})"
    )
    image = f"document.querySelector('{selector} img')"
    tab.wait(f'{image}.complete && {image}.naturalWidth && {image}.style.filter')
    # Drawn when the second frame after that begins, and the photograph under it.
    frame = 'await new Promise(requestAnimationFrame);'
    tab.value(f'(async () => {{ {3 * frame} }})()')
    box = SimpleNamespace(
        **tab.value(
            f"document.querySelector('{selector}').getBoundingClientRect().toJSON()"
        )
    )
    with Image.open(io.BytesIO(tab.screenshot())) as picture:
        rgb = picture.convert('RGB')
        return [
            rgb.getpixel((int(box.x + x * box.width), int(box.y + y * box.height)))
            for y in (0.3, 0.75)
            for x in (0.25, 0.75)
        ]


def expected(name: str, shares: list[float]) -> list[list[float]]:
    at = [round(255 * share) for share in shares]
    return (255 * matplotlib.colormaps[name](at)[:, :3]).tolist()


def test_colours_mean_what_the_legend_says(tab: Tab) -> None:
    """Of the third image, whose map ends at 1.2, on a scale that ends at 2."""
    third = '.card:nth-child(3) .mean .tile'
    tab.choose('opacity', '100')
    values = [0, 0.1, 0.2, 1.2]
    for how, shares, legend in (
        ('same', [v / 2 for v in values], ['0', '2']),
        ('each', [v / 1.2 for v in values], ['least', 'greatest']),
        # Each value is a quarter of the map.
        ('rank', [0.25, 0.5, 0.75, 1], ['0 %', '100 %']),
    ):
        tab.choose('colours', how)
        seen = colors_of(tab, third)
        wanted = expected('viridis', shares)
        # Greys are 256: half a step, and rounding.
        assert np.abs(np.array(seen) - wanted).max() < 3, how
        text = "document.querySelector('.legend .{}').textContent"
        assert [tab.value(text.format(end)) for end in ('low', 'high')] == legend


def test_the_photograph_is_grey_and_shines_through(tab: Tab) -> None:
    tab.choose('opacity', '0')
    (grey, *_) = colors_of(tab, '.card:nth-child(1) .mean .tile')
    luminance = 0.2126 * 200 + 0.7152 * 100 + 0.0722 * 50
    assert np.abs(np.array(grey) - luminance).max() < 3
    tab.choose('opacity', '50')
    (low, *_) = colors_of(tab, '.card:nth-child(1) .mean .tile')
    (color,) = expected('viridis', [0])
    assert np.abs(np.array(low) - (luminance + np.array(color)) / 2).max() < 3


def test_filters_and_order_and_an_empty_filter_that_resets(tab: Tab) -> None:
    assert shown(tab) == ['0000', '0001', '0002', '0003', '0004']
    tab.choose('verdict', 'wrong')
    assert shown(tab) == ['0001', '0003']
    tab.choose('sort', 'consistency')
    assert shown(tab) == ['0003', '0001']
    assert tab.value("document.querySelector('output').textContent") == '2 of 5 images'
    tab.choose('true', '0')
    tab.choose('predicted', '0')
    assert shown(tab) == [] and is_seen(tab, '.empty')
    tab.click('.empty button')
    assert shown(tab) == ['0000', '0001', '0002', '0003', '0004']
    assert not is_seen(tab, '.empty')
    tab.choose('name', '0004')
    assert shown(tab) == ['0004']
    tab.click('[type=reset]')
    assert len(shown(tab)) == 5


def test_what_looks_at_the_background_is_one_click_away(tab: Tab) -> None:
    said = tab.value("document.querySelector('header p:last-of-type').innerText")
    assert 'look at the background 3 (against chance below 1, lowest first)' in said
    tab.choose('sort', '-consistency')
    tab.click('[data-value=background]')
    assert shown(tab) == ['0000', '0001', '0002']
    assert tab.value("document.querySelector('[name=sort]').value") == 'preference'


def test_links_keep_the_filters_that_are_set_and_take_the_focus(tab: Tab) -> None:
    tab.choose('name', '00')
    tab.choose('sort', '-preference')
    tab.click('[data-value=right]')
    assert shown(tab) == ['0004', '0002', '0000']
    tab.click('[data-value=background]')
    assert shown(tab) == ['0000', '0002']  # right, and looks there: the lowest first
    tab.press('Tab')
    assert tab.value(OWN) == 'im0000.png'
    tab.click('.classes summary')
    tab.click('[data-field=true]')
    fields = (
        "['name', 'verdict', 'looks', 'true'].map(name => form.elements[name].value)"
    )
    assert tab.value(fields) == ['00', 'right', 'background', '0']
    tab.choose('verdict', 'wrong')
    tab.choose('predicted', '0')
    tab.click('.empty button')
    assert len(shown(tab)) == 5
    tab.press('Tab')
    assert tab.value(OWN) == 'im0000.png'


def test_what_was_chosen_begins_at_its_first_card(browser: Tab, page: Path) -> None:
    browser.open(page, 1200, 600)
    # At the top nothing moves: what is chosen with stays under the hand.
    browser.choose('sort', '-consistency')
    assert browser.value('scrollY') == 0
    for name, value in (('sort', 'consistency'), ('verdict', 'right'), ('name', 'im')):
        browser.value('scrollTo(0, document.body.scrollHeight)')
        assert browser.value(FIRST) < 0
        browser.choose(name, value)
        bar = browser.value(
            "document.querySelector('.legends').getBoundingClientRect().bottom"
        )
        assert bar <= browser.value(FIRST) < bar + 40, name
    browser.value('scrollTo(0, document.body.scrollHeight)')
    browser.click('[type=reset]')
    assert 0 < browser.value(FIRST) < 300


def test_samples_are_there_when_asked_for(tab: Tab) -> None:
    assert tab.value("document.querySelectorAll('.sample').length") == 0
    tab.click('[name=samples]')
    tab.wait("document.querySelector('.card:nth-child(1) .sample')?.checkVisibility()")
    first, sample = (
        colors_of(tab, f'.card:nth-child(1) .{name} .tile')
        for name in ('mean', 'sample')
    )
    assert sample == first
    tab.click('[name=samples]')
    assert not is_seen(tab, '.card:nth-child(1) .sample')


def test_a_click_enlarges_and_keys_leaf_and_close(tab: Tab) -> None:
    tab.click('.card:nth-child(2) .mean .tile')
    assert is_seen(tab, 'dialog')
    title = "document.querySelector('#enlarged').textContent"
    assert tab.value(title).startswith('im0001.png: mean')
    large = tab.value("document.querySelector('.stage .tile').offsetWidth")
    assert large > 2 * tab.value("document.querySelector('.card .tile').offsetWidth")
    tab.press('ArrowRight')
    assert tab.value(title).startswith('im0001.png: std')
    tab.press('ArrowRight')
    assert tab.value(title).startswith('im0001.png: image')
    tab.press('Escape')
    assert not is_seen(tab, 'dialog')
    assert tab.value(OWN) == 'im0001.png'
    tab.press('Enter')  # on the tile that was clicked
    assert is_seen(tab, 'dialog')
    tab.click('.close')
    assert not is_seen(tab, 'dialog')


def test_up_and_down_go_to_the_same_map_of_other_images(tab: Tab) -> None:
    tab.choose('verdict', 'right')
    tab.choose('size', '480')  # the last card is then far from the first
    tab.click('[name=samples]')
    tab.wait("document.querySelector('.card:nth-child(1) .sample')?.checkVisibility()")
    title = "document.querySelector('#enlarged').textContent"
    for css_class, caption in (('mean', 'mean'), ('sample', 'sample 1')):
        tab.click(f'.card:nth-child(1) .{css_class} .tile')
        before = tab.value('scrollY')
        for key, image in (('Up', 0), ('Down', 2), ('Down', 4), ('Down', 4), ('Up', 2)):
            tab.press(f'Arrow{key}')
            assert tab.value(title).startswith(f'im{image:04d}.png: {caption}, 0–'), key
        tab.value('new Promise(done => setTimeout(done, 300))')  # scrolling is smooth
        assert tab.value('scrollY') == before
        tab.press('Escape')


def test_colours_are_said_to_be_mixed_with_the_photograph(tab: Tab) -> None:
    how = "document.querySelector('.how').textContent"
    mixed = 'Below 100 % the photograph under it makes it lighter or darker.'
    same = 'A colour is the same value in every picture.'
    assert tab.value(how) == f'{same} {mixed}'
    tab.choose('opacity', '100')
    assert tab.value(how) == same
    tab.choose('opacity', '99')
    tab.choose('colours', 'rank')
    assert tab.value(how).endswith(mixed)


def test_samples_of_another_level_have_their_own_colours(
    browser: Tab, tmp_path: Path
) -> None:
    # Twice the mean's values. And what is predicted and not there is not green.
    case = make_case(tmp_path, 4)
    values = np.repeat(np.repeat([[0.0, 0.2], [0.4, 2.8]], 100, 0), 100, 1)
    sample = Tile('sample_1', values, apart=True).picture(tmp_path / 'im0004')
    case = replace(case, predicted=[0, 1], tiles=[case.tiles[0], sample])
    browser.open(write(tmp_path / 'index.html', [case], value_range=None))
    legend = '.legend[data-scale=samples]'
    assert not is_seen(browser, legend)
    browser.click('[name=samples]')
    assert is_seen(browser, legend)
    browser.choose('opacity', '100')
    wanted = expected('viridis', [0, 0.1 / 1.4, 0.2 / 1.4, 1])
    for name in ('mean', 'sample'):
        seen = colors_of(browser, f'.{name} .tile')
        assert np.abs(np.array(seen) - wanted).max() < 3, name
    color = "getComputedStyle(document.querySelector('{}')).color"
    places = ('body', '.verdict.right', '.verdict.right .rest')
    ink, right, rest = (browser.value(color.format(one)) for one in places)
    assert rest == ink != right


def test_numbers_are_explained_where_they_are_unfolded(tab: Tab) -> None:
    tab.click('.card:nth-child(2) .more summary')
    tab.wait("document.querySelector('.more dl')")
    text = tab.value("document.querySelector('.card:nth-child(2) .more dl').innerText")
    assert 'bits 11' in text and 'that the latent tells of image' in text
    assert 'against chance 0.6' in text and '1 has no preference' in text


def test_every_control_has_a_name_and_pictures_have_texts(tab: Tab) -> None:
    colors_of(tab, '.card:nth-child(1) .mean .tile')  # waits until it is drawn
    nodes = tab.call('Accessibility.getFullAXTree')['nodes']
    named = [
        (one.get('role', {}).get('value'), one.get('name', {}).get('value'))
        for one in nodes
    ]
    roles = {'button', 'combobox', 'checkbox', 'slider', 'searchbox'}
    assert roles <= {role for role, _ in named}
    assert [
        role for role, name in named if role in roles | {'image'} and not name
    ] == []
    assert any(role == 'button' and 'Mean map, from' in name for role, name in named)


@pytest.mark.parametrize('width', [400, 900, 1600])
def test_nothing_is_cut_off(browser: Tab, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.value('document.documentElement.scrollWidth') <= width
    tile = browser.value("document.querySelector('.card .tile').offsetWidth")
    assert tile >= 110
    assert is_seen(browser, '.how')
    inside = (
        'dialog.scrollWidth <= dialog.clientWidth &&'
        'dialog.scrollHeight <= dialog.clientHeight && dialog.offsetWidth < innerWidth'
    )
    for height in (500, 900):
        browser.open(page, width, height)
        browser.click('.card:nth-child(2) .mean .tile')
        assert browser.value(inside), height


@pytest.mark.slow
def test_two_thousand_images_open_within_three_seconds(
    browser: Tab, tmp_path: Path
) -> None:
    cases = [make_case(tmp_path, i) for i in range(2000)]
    path = write(tmp_path / 'index.html', cases)
    browser.open(path)
    loaded = browser.value("performance.getEntriesByType('navigation')[0].loadEventEnd")
    browser.value('new Promise(done => setTimeout(done, 300))')
    fetched = browser.value(
        '[...document.images].filter(one => one.naturalWidth > 0).length'
    )
    print(f'{path.stat().st_size:,} bytes open in {loaded:.0f} ms, {fetched} pictures')
    shutil.rmtree(tmp_path)
    assert loaded < 3000
    assert 6 <= fetched < 300  # of 6,000, and as many samples
    for key in ('consistency', ''):  # moving cards one by one took seconds each
        began = browser.value('performance.now()')
        browser.choose('sort', key)
        assert browser.value('performance.now()') - began < 3000
