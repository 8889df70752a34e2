"""The HTML report: what is on the page, and that nothing else is."""

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from PIL import Image

from aib_mm.interpret.draw.report import (
    Case,
    ModelCases,
    image_uri,
    map_uri,
    outline,
    top_scores,
    write_report,
)
from aib_mm.utils.tables import Column, Table

CLASSES = ('cat', 'dog', '<i>&')
EVIL = '<script>alert("x")</script>'


def make_case(name='test/1', label=0, predicted=0, attention=True, quantized=False):
    rng = np.random.default_rng(len(name))
    scores = np.full(3, 0.1)
    scores[predicted] = 0.8
    mask = np.zeros((8, 8), bool)
    mask[2:4, 3:6] = True
    case = Case(
        name=name,
        image=rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
        label=label,
        scores=scores,
        mask=mask,
        measures={'on the digit': '21 %'},
    )
    if attention:
        case = dataclasses.replace(
            case,
            attention_mean=np.linspace(0.1, 0.9, 16).reshape(4, 4),
            attention_std=np.full((4, 4), 0.03),
        )
    if quantized:
        levels = np.array([0.25, 0.5])[np.arange(16) % 2].reshape(4, 4)
        case = dataclasses.replace(case, quantized=levels, anchors_used=2)
    return case


def make_models(**kwargs):
    cases = [
        make_case('test/1', **kwargs),
        make_case('test/2', label=1, predicted=2, **kwargs),
        make_case('test/3', label=2, predicted=2, **kwargs),
    ]
    return [ModelCases('VGG-aib', 'About it.', cases, num_right=1580, num_wrong=420)]


def write(path, models, **kwargs):
    settings = dict(
        title='Where it looks',
        introduction='Digits on photographs.',
        table=Table([Column('model', ''), Column('error %', 'Of all.')], [['a', '2']]),
        notes=['One seed.'],
        models=models,
        classes=CLASSES,
    )
    write_report(path, **(settings | kwargs))
    return path.read_text(encoding='utf-8')


class Page(HTMLParser):
    """Elements with their attributes; checks that they are nested properly."""

    VOID = frozenset({'meta', 'img', 'input'})

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


def test_every_case_is_a_row_with_its_pictures(tmp_path):
    page = Page(write(tmp_path / 'r.html', make_models(quantized=True)))
    rows = page.all('tr', 'case')
    assert [(row['data-verdict'], row['data-label']) for row in rows] == [
        ('right', '0'),
        ('right', '2'),
        ('wrong', '1'),
    ]
    pictures = page.all('img')
    assert len(pictures) == 3 * 4
    assert [decode(p['src']).size for p in pictures[:4]] == [(8, 8)] + [(4, 4)] * 3
    assert [p['alt'] for p in pictures[:4]] == [
        'Image test/1, a cat',
        'Mean of the attention, from 0.1 to 0.9',
        'Standard deviation of the attention, from 0.03 to 0.03',
        'A sample of the attention, quantised, from 0.25 to 0.5',
    ]


def test_counts_are_of_all_images(tmp_path):
    text = write(tmp_path / 'r.html', make_models())
    assert 'Predicted right <small>2 of 1,580</small>' in text
    assert 'Predicted wrong <small>1 of 420</small>' in text


def test_model_without_quantiser_or_attention_says_so(tmp_path):
    plain = write(tmp_path / 'r.html', make_models())
    assert plain.count('not quantised') == 3
    assert 'no attention' not in plain
    vanilla = write(tmp_path / 'r.html', make_models(attention=False))
    assert vanilla.count('no attention') == 1
    assert len(Page(vanilla).all('li', 'case')) == len(Page(vanilla).all('img')) == 3
    assert 'not quantised' not in vanilla
    assert 'attention std</span>' not in vanilla  # no legend of what is not shown


def test_no_cases_are_said(tmp_path):
    models = [ModelCases('m', '', [make_case()], num_right=1, num_wrong=0)]
    text = write(tmp_path / 'r.html', models)
    assert re.search(r'Predicted wrong <small>0 of 0</small></h3>\s*<p[^>]*>None', text)


def test_page_refers_to_nothing_outside(tmp_path):
    text = write(tmp_path / 'r.html', make_models(quantized=True))
    page = Page(text)
    for _, attributes in page.elements:
        for name in ('src', 'href', 'data', 'action', 'srcset'):
            value = attributes.get(name, '#')
            assert value.startswith(('data:image/png;base64,', '#')), value
    assert page.all('link') == []
    assert '//' not in re.sub(r'base64,[\w+/=]+', '', text)
    assert 'url(' not in text and '@import' not in text
    assert set(re.findall(r'"#([\w-]+)"', text)) <= {
        a['id'] for _, a in page.elements if 'id' in a
    }


def test_everything_is_escaped(tmp_path):
    models = [
        ModelCases(
            EVIL,
            EVIL,
            [dataclasses.replace(make_case(EVIL), measures={EVIL: EVIL})],
            num_right=1,
            num_wrong=0,
            shared=[make_case(EVIL, label=2)],
        )
    ]
    text = write(
        tmp_path / 'r.html',
        models,
        title=EVIL,
        introduction=EVIL,
        notes=[EVIL],
        table=Table([Column(EVIL, EVIL)], [[EVIL]]),
    )
    assert 'alert(' in text
    assert '<script>alert' not in text
    assert '<i>&' not in text and '&lt;i&gt;&amp;' in text
    assert len(Page(text).all('script')) == 1


def test_tables_have_scopes_and_controls_have_labels(tmp_path):
    models = make_models(quantized=True)
    shared = [dataclasses.replace(models[0], shared=models[0].cases)]
    page = Page(write(tmp_path / 'r.html', shared))
    assert all(head.get('scope') in ('row', 'col') for head in page.all('th'))
    assert all(picture['alt'] for picture in page.all('img'))
    assert page.all('html') == [{'lang': 'en'}]


def test_same_input_same_bytes(tmp_path):
    first = write(tmp_path / 'a.html', make_models(quantized=True))
    second = write(tmp_path / 'b.html', make_models(quantized=True))
    assert first == second


def test_image_survives():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    assert np.array_equal(np.asarray(decode(image_uri(image))), image)


def test_map_is_coloured_by_the_whole_range_and_clipped():
    values = np.array([[-0.5, 0.0, 1.0], [2.0, 3.0, 0.5]])
    picture = np.asarray(decode(map_uri(values, 2.0, 'viridis')).convert('RGB'))
    colors = matplotlib.colormaps['viridis']
    expected = [0, 0, 128, 255, 255, 64]
    for pixel, index in zip(picture.reshape(-1, 3), expected, strict=True):
        assert pixel.tolist() == [round(255 * c) for c in colors(index)[:3]]


def test_map_without_range_is_the_lowest_colour():
    picture = decode(map_uri(np.zeros((2, 2)), 0.0, 'magma')).convert('RGB')
    assert len(picture.getcolors()) == 1


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


def test_top_scores_are_ordered():
    scores = np.array([0.1, 0.4, 0.05, 0.45])
    assert top_scores(scores) == [(3, 0.45), (1, 0.4), (0, 0.1)]


def test_std_scale_ends_at_the_largest_shown():
    models = make_models()
    case = dataclasses.replace(make_case(), attention_std=np.full((4, 4), 0.25))
    model = dataclasses.replace(models[0], cases=[*models[0].cases, case])
    assert model.largest_std == 0.25


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(image=np.zeros((8, 8, 3))), 'uint8, got .8, 8, 3. float64'),
        (dict(image=np.zeros((8, 8), np.uint8)), 'must be .H, W, 3'),
        (dict(label=3), 'label 3 .* 3 classes'),
        (dict(scores=np.ones(4)), r'scores of shape \(4,\)'),
        (dict(mask=np.zeros((4, 4), bool)), r'the mask .* got \(4, 4\)'),
        (dict(attention_mean=np.zeros((1, 4, 4))), r'attention_mean must be \(h, w\)'),
    ],
)
def test_case_that_does_not_fit_is_named(tmp_path, change, message):
    case = dataclasses.replace(make_case('test/9'), **change)
    models = [ModelCases('m', '', [case], num_right=1, num_wrong=0)]
    with pytest.raises(ValueError, match=f'test/9.*{message}'):
        write(tmp_path / 'r.html', models)


def test_model_has_attention_or_not(tmp_path):
    models = [ModelCases('m', '', [make_case(), make_case(attention=False)], 2, 0)]
    with pytest.raises(ValueError, match=r"'m': some have attention_mean"):
        write(tmp_path / 'r.html', models)


def test_shared_images_must_be_the_same(tmp_path):
    models = [
        ModelCases('a', '', [], 1, 0, shared=[make_case('test/1')]),
        ModelCases('b', '', [], 1, 0, shared=[make_case('test/2')]),
    ]
    with pytest.raises(ValueError, match=r"'b' are \['test/2'\], those of 'a'"):
        write(tmp_path / 'r.html', models)


def test_row_of_wrong_length_is_named():
    with pytest.raises(ValueError, match=r"row \['a'\] has 1 cells, .* 2 columns"):
        Table([Column('x', ''), Column('y', '')], [['a']])
