"""The page: what is on it, that nothing else is, and the numbers and colours of it."""

import base64
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from PIL import Image

from aib_mm.interpret.draw.cases import KINDS, MEASURES, Case, Tile, tile_ranges
from aib_mm.interpret.draw.page import Section, thirds, write_page
from aib_mm.interpret.draw.pictures import (
    SCALES,
    color_table,
    image_jpeg,
    image_uri,
    map_png,
    number,
    outline,
    outline_uri,
    range_ends,
    shrink,
)
from aib_mm.interpret.record.inputs import Failure
from aib_mm.utils.tables import Column, Table

CLASSES = ('cat', 'dog', '<i>&')
EVIL = '<script>alert("x")</script>'


def make_case(name='test/1', label=0, predicted=0, attention=True, **changes):
    rng = np.random.default_rng(len(name))
    mask = np.zeros((8, 8), bool)
    mask[2:4, 3:6] = True
    tiles = [
        Tile('mean', np.linspace(0.1, 0.9, 16).reshape(4, 4)).picture(),
        Tile('std', np.full((4, 4), 0.03)).picture(),
    ]
    case = Case(
        name=name,
        photo=image_uri(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)),
        shape=(8, 8),
        predicted=[predicted],
        true=[label],
        right=predicted == label,
        tiles=tiles if attention else (),
        outline=outline_uri(mask),
        scores=[(predicted, 0.8), ((predicted + 1) % 3, 0.1)],
        measures={'on the digit': '21 %'},
    )
    return dataclasses.replace(case, **changes)


def quantized(case):
    levels = np.array([0.25, 0.5])[np.arange(16) % 2].reshape(4, 4)
    tile = Tile('quantized', levels, '2 anchors', smooth=False).picture()
    return dataclasses.replace(case, tiles=[*case.tiles, tile])


def make_sections(change=lambda case: case, **kwargs):
    cases = [
        make_case('test/1', **kwargs),
        make_case('test/2', label=1, predicted=2, **kwargs),
        make_case('test/3', label=2, predicted=2, **kwargs),
    ]
    return [Section('VGG-aib', 'About it.', [*map(change, cases)], 1580, 420)]


def write(path, sections, **kwargs):
    settings = dict(
        title='Where it looks',
        lead='Digits on photographs.',
        table=Table([Column('model', ''), Column('error %', 'Of all.')], [['a', '2']]),
        notes=['One seed.'],
        sections=sections,
        classes=CLASSES,
        value_range=(0.0, 1.0),
    )
    write_page(path, **(settings | kwargs))
    return path.read_text(encoding='utf-8')


def write_folder(path, *cases, **kwargs):
    """As the page of a folder: one section, no table, colours of all maps."""
    settings = dict(table=None, notes=(), value_range=None)
    return write(path, [Section('', '', cases)], **(settings | kwargs))


class Page(HTMLParser):
    """Elements with their attributes; checks that they are nested properly."""

    VOID = frozenset({'br', 'img', 'input', 'meta'})

    def __init__(self, text):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def all(self, tag, css_class=None):
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and css_class in (None, *attrs.get('class', '').split())
        ]


def decode(uri):
    head, data = uri.split(',')
    assert head == 'data:image/png;base64'
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_every_case_is_a_card_with_its_pictures(tmp_path):
    page = Page(write(tmp_path / 'r.html', make_sections(quantized)))
    cards = page.all('article', 'card')
    assert [(card['data-verdict'], card['data-true']) for card in cards] == [
        ('right', '0'),
        ('right', '2'),
        ('wrong', '1'),
    ]
    pictures = page.all('img')
    assert len(pictures) == 3 * 4
    assert [decode(p['src']).size for p in pictures[:4]] == [(8, 8)] + [(4, 4)] * 3
    assert all(picture['loading'] == 'lazy' for picture in pictures)
    assert [p['alt'] for p in pictures[:4]] == [
        'Image test/1',
        'Mean map, from 0.1 to 0.9',
        'Standard deviation of the attention, from 0.03 to 0.03',
        'A sample of the attention, quantised, from 0.25 to 0.5',
    ]


def test_a_card_says_what_was_predicted_how_surely_and_what_was_measured(tmp_path):
    text = write(tmp_path / 'r.html', make_sections(quantized))
    first, second = re.findall('<article.*?</article>', text, re.DOTALL)[::2]
    assert '✓ predicted <b>cat</b>, is <b>cat</b>' in first
    assert '✗ predicted <b>&lt;i&gt;&amp;</b>, is <b>dog</b>' in second
    assert re.findall(r'<th scope="row">(\w+)', first) == ['cat', 'dog']
    assert re.findall(r'<td>([\d.]+)</td>', first) == ['0.80', '0.10']
    assert re.findall(r'width: ([\d.]+)%', first) == ['80.0', '10.0']
    assert first.count('<tr class="true">') == 1 and '<tr class="true">' not in second
    assert re.search(r'on the digit\s*<b>21 %</b>', first)
    assert 'quantised<br>0.25–0.5<br><span>2 anchors</span>' in first


def test_what_was_predicted_and_is_not_there_is_no_success(tmp_path):
    found = dataclasses.replace(make_case(), true=[0, 1], predicted=[0, 2, 9])
    text = write_folder(tmp_path / 'r.html', found)
    (said,) = re.findall(r'<p class="verdict right">\s*(.*?)\s*</p>', text, re.S)
    good, rest = said.split('<span class="rest">')
    assert good == '✓ 1 of 2 classes found'
    assert ' '.join(re.sub('</?(b|span)>', '', rest).split()) == (
        '; missed dog; also predicted, and not there: &lt;i&gt;&amp;, 9'
    )


def test_counts_are_of_all_images(tmp_path):
    text = write(tmp_path / 'r.html', make_sections())
    assert 'Predicted right <small>2 of 1,580</small>' in text
    assert 'Predicted wrong <small>1 of 420</small>' in text


def test_only_what_a_model_has_is_shown(tmp_path):
    plain = write(tmp_path / 'r.html', make_sections())
    assert 'quantised' not in plain and 'no attention' not in plain
    vanilla = write(tmp_path / 'r.html', make_sections(attention=False))
    assert vanilla.count('no attention') == 1
    page = Page(vanilla)
    assert len(page.all('article', 'card')) == len(page.all('img')) == 3
    assert page.all('div', 'legend') == []  # no legend of what is not shown


def test_no_cases_are_said(tmp_path):
    sections = [Section('m', '', [make_case()], num_right=1, num_wrong=0)]
    text = write(tmp_path / 'r.html', sections)
    assert re.search(r'Predicted wrong <small>0 of 0</small></h3>\s*<p[^>]*>None', text)


def test_page_refers_to_nothing_outside(tmp_path):
    sections = make_sections(quantized)
    sections = [dataclasses.replace(sections[0], shared=sections[0].cases)]
    text = write(tmp_path / 'r.html', sections)
    page = Page(text)
    for _, attributes in page.elements:
        for name in ('src', 'href', 'data', 'action', 'srcset'):
            value = attributes.get(name, '#')
            assert value.startswith(('data:image/png;base64,', '#')), value
    assert page.all('link') == []
    bare = re.sub(r'base64,[\w+/=]+', '', text)
    assert '//' not in bare and '@import' not in bare
    assert set(re.findall(r"url\('(.{11})", bare)) == {'data:image/'}


def test_everything_is_escaped(tmp_path):
    cases = [
        make_case(EVIL, label=2, measures={EVIL: EVIL, 'quality': 0.5}),
        dataclasses.replace(make_case(EVIL), true=[1, 7], predicted=[1, 7]),
    ]
    cases[0].tiles.append(Tile('quantized', np.zeros((2, 2)), EVIL).picture())
    text = write(
        tmp_path / 'r.html',
        [Section(EVIL, EVIL, cases, 1, 1, shared=cases)],
        title=EVIL,
        lead=EVIL,
        notes=[EVIL],
        table=Table([Column(EVIL, EVIL)], [[EVIL]]),
        failures=[Failure(EVIL, EVIL)],
    )
    assert 'alert(' in text
    assert '<script>alert' not in text
    assert '<i>&' not in text and '&lt;i&gt;&amp;' in text
    page = Page(text)
    assert len(page.all('script')) == 2
    right, wrong = page.all('article')
    assert json.loads(wrong['data-measures']) == {EVIL: EVIL, 'quality': 0.5}
    assert (right['data-predicted'], right['data-true']) == ('1 7', '1 7')
    assert '<option value="7">7</option>' in text  # a class without a name


def test_tables_have_scopes_and_controls_have_labels(tmp_path):
    sections = make_sections(quantized)
    shared = [dataclasses.replace(sections[0], shared=sections[0].cases)]
    page = Page(write(tmp_path / 'r.html', shared))
    assert all(head.get('scope') in ('row', 'col') for head in page.all('th'))
    assert all(picture['alt'] for picture in page.all('img'))
    assert page.all('html') == [{'lang': 'en'}]


def test_the_same_images_stand_under_every_model(tmp_path):
    (first,) = make_sections()
    (second,) = make_sections(attention=False)
    shared = [
        dataclasses.replace(section, title=title, shared=section.cases)
        for title, section in (('first', first), ('second', second))
    ]
    text = write(tmp_path / 'r.html', shared)
    head, *rows = re.findall('<tr>.*?</tr>', text.partition('class="shared"')[2], re.S)
    assert re.findall(r'is <b>(\w+|&.*?)</b>', head) == ['cat', 'dog', '&lt;i&gt;&amp;']
    assert [row.count('Mean map') for row in rows[:2]] == [3, 0]
    assert [row.count('no attention') for row in rows[:2]] == [0, 3]
    assert [rows[0].count(sign) for sign in '✓✗'] == [2, 1]
    assert rows[1].count('<small>0.80</small>') == 3


def test_what_can_be_filtered_and_shown_is_there_to_choose(tmp_path):
    def controls(*args):
        page = Page(write_folder(tmp_path / 'r.html', *args))
        return [
            {one['name'] for one in page.all(tag) if one.get('name') != 'viewport'}
            for tag in ('select', 'input')
        ]

    known = [make_case(measures=dict(consistency=v, preference=v)) for v in (1, 2, 3)]
    alike = make_case(measures=dict(consistency=0.5, preference=0.5))
    bare = dataclasses.replace(
        make_case(attention=False), true=None, right=None, outline=''
    )
    samples = [Tile(name, np.eye(2)).picture() for name in ('mean', 'sample_1')]
    unknown = dataclasses.replace(bare, tiles=samples)
    everything = {'verdict', 'looks', 'true', 'predicted', 'third', 'sort', 'colours'}
    sliders = {'name', 'opacity', 'size'}
    assert controls(*known) == [everything, {'outline', *sliders}]
    assert controls(*[alike] * 3) == [everything - {'third'}, {'outline', *sliders}]
    assert controls(unknown) == [{'predicted', 'colours'}, {'samples', *sliders}]
    assert controls(bare) == [{'predicted'}, {'name'}]


def test_numbers_that_are_none_do_not_stop_the_script(tmp_path):
    text = write_folder(tmp_path / 'r.html', make_case(measures=dict(quality=math.nan)))
    assert 'data-measures="{&#34;quality&#34;: null}"' in text


def test_numbers_are_explained_where_they_stand(tmp_path):
    text = write_folder(tmp_path / 'r.html', make_case(measures=dict(quality=0.1234)))
    assert re.search(r'quality\s*<b>0.123</b>', text)
    assert f'quality">{MEASURES["quality"].meaning}</dd>' in text
    assert MEASURES['total_bits'].meaning not in text
    assert '<option value="-quality">quality, highest first</option>' in text
    text = write(tmp_path / 'r.html', make_sections())
    assert '<dt>error %</dt><dd>Of all.</dd>' in text and '<dt>model</dt>' not in text


def test_colours_are_those_of_all_images(tmp_path):
    low = make_case(tiles=[Tile('mean', np.full((1, 1), -2.0)).picture()])
    others = dict(sample_1=0.5, std=3.0, bits=1.0)
    tiles = [Tile(name, np.full((1, 1), v)).picture() for name, v in others.items()]
    text = write_folder(tmp_path / 'p.html', low, make_case(tiles=tiles))
    page = Page(text)
    legends = [
        (one['data-scale'], one['data-low'], one['data-high'])
        for one in page.all('div', 'legend')
    ]
    assert legends == [
        ('attention', '-2', '0.5'),
        ('std', '0', '3'),
        ('bits', '0', '1'),
    ]
    (section,) = page.all('section')
    ends = dict(attention=[-2.0, 0.5], std=[0.0, 3.0], bits=[0.0, 1.0])
    assert json.loads(section['data-ends']) == ends


def test_std_scale_of_a_model_ends_at_its_own_largest(tmp_path):
    (first,) = make_sections()
    tiles = [Tile('std', np.full((4, 4), 0.25)).picture()]
    second = dataclasses.replace(first, cases=[make_case(tiles=tiles)])
    page = Page(write(tmp_path / 'r.html', [first, second]))
    legends = [one for one in page.all('div', 'legend') if one['data-scale'] == 'std']
    assert [(one['data-low'], one['data-high']) for one in legends] == [
        ('0', '0.03'),
        ('0', '0.25'),
    ]
    assert tile_ranges(first.tiles, (0.0, 1.0)) == {
        'attention': (0.0, 1.0),
        'std': (0.0, 0.03),
    }


def test_every_kind_of_map_has_a_scale():
    apart = Tile('sample_1', np.eye(2), apart=True).kind
    assert {kind.scale for kind in (*KINDS.values(), apart)} == set(SCALES)


def test_a_title_may_be_left_out_and_failures_are_named(tmp_path):
    text = write_folder(tmp_path / 'p.html', failures=[Failure('a.png', 'broken')])
    assert '1 could not be used' in text and '<b>a.png</b>: broken' in text
    assert '<h2>' not in text and Page(text).all('article') == []


def test_same_input_same_bytes(tmp_path):
    first = write(tmp_path / 'a.html', make_sections(quantized))
    second = write(tmp_path / 'b.html', make_sections(quantized))
    assert first == second


def test_image_survives():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    assert np.array_equal(np.asarray(decode(image_uri(image))), image)


def test_large_images_are_made_small():
    with Image.open(
        io.BytesIO(image_jpeg(np.zeros((60, 200, 3), np.uint8), 50))
    ) as one:
        assert one.format == 'JPEG' and one.size == (50, 15)


def test_a_map_is_grey_from_its_least_value_to_its_greatest():
    values = np.array([[-1.5, -1.0, 0.0], [1.0, 2.0, -0.5]])
    with Image.open(io.BytesIO(map_png(values))) as picture:
        assert picture.mode == 'L'
        grey = np.asarray(picture)
    expected = [round(255 * (v + 1.5) / 3.5) for v in values.flat]
    assert grey.flatten().tolist() == expected
    with Image.open(io.BytesIO(map_png(np.full((2, 2), 7.0)))) as picture:
        assert picture.getextrema() == (0, 0)


def test_the_page_knows_the_colours_and_the_spread_of_a_map(tmp_path):
    values = np.arange(400.0).reshape(20, 20)[::-1]
    tile = Tile('std', values).picture()
    assert tile.ends == (0.0, 399.0)
    assert tile.spread == [int(399 * k / 20) for k in range(21)]
    page = Page(write_folder(tmp_path / 'p.html', make_case(tiles=[tile])))
    (body,) = page.all('body')
    assert body['data-std'] == color_table('magma') and len(body['data-std']) == 6 * 256
    magma = matplotlib.colormaps['magma'](np.arange(256))[:, :3]
    digits = bytes.fromhex(body['data-std'])
    assert (
        np.abs(np.frombuffer(digits, np.uint8).reshape(-1, 3) - 255 * magma).max()
        <= 0.5
    )
    (image,) = (one for one in page.all('img') if 'data-spread' in one)
    assert image['data-scale'] == 'std'
    assert [float(v) for v in image['data-spread'].split()] == pytest.approx(
        tile.spread, 1e-3
    )


@pytest.mark.parametrize(
    ('pixels', 'edges'),
    [
        ([(0, 0)], {'M0 0h1', 'M0 1h1', 'M0 0v1', 'M1 0v1'}),
        (
            [(1, 1), (1, 2)],
            {'M1 1h1', 'M2 1h1', 'M1 2h1', 'M2 2h1', 'M1 1v1', 'M3 1v1'},
        ),
        ([], set()),
    ],
)
def test_outline_is_the_border_of_the_pixels(pixels, edges):
    mask = np.zeros((3, 3), bool)
    for pixel in pixels:
        mask[pixel] = True
    assert set(re.findall(r'M\d+ \d+[hv]1', outline(mask))) == edges


def test_borders_of_classes_that_touch_are_drawn_once():
    labels = np.array([[0, 1], [0, 2]])
    edges = re.findall(r'M\d+ \d+[hv]1', outline(labels))
    across, down = (
        {'M1 0h1', 'M1 1h1', 'M1 2h1'},
        {'M1 0v1', 'M1 1v1', 'M2 0v1', 'M2 1v1'},
    )
    assert set(edges) == across | down and len(edges) == len(set(edges))


def test_outline_lies_over_the_whole_image():
    head, data = outline_uri(np.eye(3, 5, dtype=bool)).split(',')
    drawing = base64.b64decode(data).decode()
    assert head == 'data:image/svg+xml;base64' and 'viewBox="0 0 5 3"' in drawing
    assert outline(np.eye(3, 5, dtype=bool)) in drawing


def test_thirds_of_the_consistency(tmp_path):
    values = [0.9, 0.1, None, 0.5, 0.7, 0.2, 0.3]
    assert thirds(values) == [2, 0, None, 1, 2, 0, 1]
    # By rank, also of what the page prints alike; but 1 is never lowest and highest.
    assert thirds([0.5, 1 - 1e-9, 1.0, 1 - 6e-16, 1.0, 0.4]) == [0, 1, 2, 1, 2, 0]
    assert thirds([0.5, 1 - 1e-9, 1.0, 1 - 6e-16, 1.0]) == [None] * 5
    many = thirds(np.random.default_rng(0).uniform(0.98, 1, 150).tolist())
    assert [many.count(third) for third in range(3)] == [50, 50, 50]
    assert thirds([]) == [] and thirds([None]) == [None]
    assert thirds([0.3]) == [None] and thirds([0.3, 0.4]) == [None] * 2
    measured = [{} if value is None else dict(consistency=value) for value in values]
    cases = [make_case(measures=measures) for measures in measured]
    cards = Page(write_folder(tmp_path / 'p.html', *cases)).all('article')
    assert [card.get('data-third') for card in cards] == [*'20', None, *'1201']


def test_numbers_are_for_people(tmp_path):
    assert [number(v) for v in (164_712.3, 1647.4, 0.00012345, 1.0, 999.7)] == [
        '164,712',
        '1,647',
        '0.000123',
        '1',
        '1,000',
    ]
    assert range_ends(3.96e-24, 1.0) == ['0', '1']
    assert range_ends(0.0039, 0.729, 3) == ['0.0039', '0.729']
    assert range_ends(-2.0, 1e-3) == ['-2', '0']
    assert range_ends(19.4, 4970.3) == ['19', '4,970']
    assert range_ends(0.0, 0.0) == ['0', '0']
    noise = make_case(tiles=[Tile('std', np.array([[7e-23, 0.0004]])).picture()])
    text = write_folder(tmp_path / 'p.html', noise)
    assert 'std<br>0–0.0004<' in text
    assert 'alt="Standard deviation of the attention, from 0 to 0.0004"' in text


def test_maps_are_made_small():
    values = np.arange(512.0 * 1024, dtype=np.float32).reshape(512, 1024)
    small = shrink(values)
    assert small.shape == (128, 256)
    assert small[0, 0] == pytest.approx(values[:4, :4].mean())
    assert set(shrink(values, smooth=False).flat) <= set(values.flat)
    assert shrink(values[:3, :5]).shape == (3, 5)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: image_uri(np.zeros((8, 8, 3))), 'uint8, got .8, 8, 3. float64'),
        (lambda: image_uri(np.zeros((8, 8), np.uint8)), 'must be .H, W, 3'),
        (
            lambda: Tile('mean', np.zeros((1, 4, 4))),
            r'mean must be \(h, w\)',
        ),
        (lambda: Tile('other', np.zeros((4, 4))), r"one of \['mean', .* got 'other'"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_shared_images_must_be_the_same(tmp_path):
    sections = [
        Section('a', '', [], 1, 0, shared=[make_case('test/1')]),
        Section('b', '', [], 1, 0, shared=[make_case('test/2')]),
    ]
    with pytest.raises(ValueError, match=r"'b' are \['test/2'\], those of 'a'"):
        write(tmp_path / 'r.html', sections)
