"""``tools/visualize_attention.py``: what it writes, says and refuses."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from attention_files import write_images, write_model, write_weights
from cifar_files import TESTS, write_cifar10
from PIL import Image
from test_aib_classifiers import run
from test_page import Page

from aib_mm.cli.visualize_attention import main
from aib_mm.interpret.draw.writer import ResultWriter
from aib_mm.interpret.record.inputs import Item, load_batches

pytest.importorskip('mmpretrain')

OFFLINE = 'test_dataloader.dataset.download=False'


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Config and checkpoint of a classifier with four samples and anchors."""
    return write_model('mmpretrain', tmp_path_factory.mktemp('model'), samples=4)


@pytest.fixture(scope='module')
def written(model, tmp_path_factory) -> SimpleNamespace:
    """A folder with a broken image, finished."""
    folder = tmp_path_factory.mktemp('photos')
    write_images(
        folder, {'a.png': (32, 32), 'below/b.jpg': (40, 32), 'c.png': (32,) * 2}
    )
    (folder / 'broken.png').write_bytes(b'\x89PNG\r\n and no more')
    (folder / 'notes.txt').write_text('no image')
    out = tmp_path_factory.mktemp('out')
    code = main(
        [*model, str(folder), '--out', str(out), '--batch', '2', '--sheet', '2']
    )
    return SimpleNamespace(code=code, out=out, folder=folder)


def test_a_folder_with_a_broken_image_is_finished(written, model, capsys) -> None:
    assert written.code == 1
    results = json.loads((written.out / 'results.json').read_text())
    assert [row['name'] for row in results['images']] == [
        'a.png',
        'below/b.jpg',
        'c.png',
    ]
    assert [row['name'] for row in results['failures']] == ['broken.png']
    again = main([*model, str(written.folder), '--out', str(written.out)])
    said = capsys.readouterr()
    assert again == 1 and 'broken.png was left out: ' in said.err
    assert re.search(r'4 images in [\d.]+ s: model [\d.]+ s, drawing', said.out)
    assert '4 of 4 images' in said.out


def test_a_model_of_the_package_needs_its_name_alone(tmp_path: Path, capsys) -> None:
    name = 'vgg16-narrow_aib_priced_digitscenes'
    (photo,) = write_images(tmp_path, {'a.png': (32, 48)})
    assert main([name, str(photo), '--out', str(tmp_path / 'out')]) == 0
    found = json.loads((tmp_path / 'out/results.json').read_text())['images']
    assert [row['name'] for row in found] == ['a.png']
    assert main([name[:-1], str(photo), '--out', str(tmp_path / 'out')]) == 2
    assert f"does not exist; did you mean '{name}'?" in capsys.readouterr().err
    assert main(['vgg.py', '--split', 'test', '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert 'give a checkpoint of vgg.py; without one go' in error and name in error


def test_every_image_has_its_pictures_and_arrays(written) -> None:
    folder = written.out / 'below__b.jpg'
    names = {path.name for path in folder.iterdir()}
    assert names == {
        'arrays.npz',
        'prediction.png',
        *(f'{name}.png' for name in ('mean', 'std', 'quantized')),
        *(f'overlay_{name}.png' for name in ('mean', 'std', 'quantized')),
        *(f'sample_{i}.png' for i in (1, 2, 3, 4)),
        'image.jpg',
        *(f'grey_{name}.png' for name in ('mean', 'std', 'quantized')),
        *(f'grey_sample_{i}.png' for i in (1, 2, 3, 4)),
    }
    for name in names - {'arrays.npz', 'prediction.png'}:
        with Image.open(folder / name) as picture:
            assert picture.size == (32, 40)
    with Image.open(folder / 'prediction.png') as picture:
        assert picture.size == (256, 320)
    arrays = np.load(folder / 'arrays.npz')
    assert arrays['mean'].shape == arrays['std'].shape == (40, 32)
    assert arrays['samples'].shape == (4, 40, 32)
    assert arrays['level0_mean'].shape == (5, 4)
    assert arrays['level0_samples'].shape == arrays['level0_indices'].shape == (4, 5, 4)
    assert len(np.unique(arrays['level0_samples'])) <= 5
    assert arrays['positions'] == 1 and arrays['total_bits'] == arrays['bits'] > 0
    with Image.open(written.out / 'sheet.png') as sheet:
        assert sheet.width > 800 and sheet.height > 500


def test_numbers_are_the_same_everywhere(written) -> None:
    results = json.loads((written.out / 'results.json').read_text())
    for row in results['images']:
        arrays = np.load(written.out / row['folder'] / 'arrays.npz')
        for name in ('consistency', 'attention_std', 'total_bits'):
            assert row[name] == pytest.approx(float(arrays[name]))
        assert row['right'] is row['quality'] is row['true'] is None
        assert 0 <= row['predicted'][0] < 10
        assert row['bits_per_position'] == row['total_bits']


def test_the_page_needs_the_files_beside_it_alone(written) -> None:
    text = (written.out / 'index.html').read_text(encoding='utf-8')
    page = Page(text)
    cards = page.all('article', 'card')
    assert len(cards) == 3
    assert 'broken.png' in text and '1 could not be used' in text
    for _, attributes in page.elements:
        assert not {'href', 'data', 'action', 'srcset'} & set(attributes)
    assert page.all('link') == []
    assert '//' not in text and '@import' not in text
    sources = [picture['src'] for picture in page.all('img')]
    behind = re.findall(r"--photo: url\('(.*?)'\)", text)
    assert set(behind) == {source for source in sources if 'image.jpg' in source}
    for source in sources:
        assert (written.out / unquote(source)).is_file()
    # Image, mean, std, quantised map, and four samples; a class needs no drawing.
    assert len(sources) == 3 * (4 + 4) and not any('predict' in one for one in sources)
    assert all(picture['alt'] for picture in page.all('img'))
    measures = json.loads(cards[0]['data-measures'])
    assert {'consistency', 'attention_std', 'total_bits'} <= set(measures)
    selects = {select['name'] for select in page.all('select')}
    # There is no truth, and no third of consistencies that are all 1.
    assert selects == {'predicted', 'sort', 'colours'}


def test_of_a_split_the_truth_is_known(model, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.chdir(tmp_path)
    write_cifar10('data')
    options = ['--split', 'test', '--limit', '12', '--out', 'out', '--page-images', '5']
    assert main([*model, *options]) == 0
    results = json.loads(Path('out/results.json').read_text())
    assert results['classes'][3] == 'cat'
    taken = [i * 20 // 12 for i in range(12)]  # spread evenly
    assert [row['name'] for row in results['images']] == [f'{i:05d}' for i in taken]
    assert [row['true'] for row in results['images']] == [[i % 10] for i in taken]
    for row in results['images']:
        assert row['right'] == (row['predicted'] == row['true'])
        assert row['right'] == (row['quality'] == 1.0)
    text = Path('out/index.html').read_text(encoding='utf-8')
    page = Page(text)
    verdicts = [row['right'] for row in results['images'][:5]]
    assert [card['data-verdict'] == 'right' for card in page.all('article')] == verdicts
    assert [card['data-true'] for card in page.all('article')] == [*'01356']
    assert 'the first 5 of them' in text and 'airplane' in text
    assert {s['name'] for s in page.all('select')} >= {'true', 'predicted'}
    assert 'Right: the predicted class is the true one' in text


def test_pictures_compare_with_a_range(model, tmp_path: Path) -> None:
    image = write_images(tmp_path, {'a.png': (32, 32)})
    for name, options in (('own', []), ('fixed', ['--range', '0', '100'])):
        assert main([*model, *image, '--out', str(tmp_path / name), *options]) == 0
    own, fixed = (
        np.asarray(Image.open(tmp_path / name / 'a.png' / 'mean.png'))
        for name in ('own', 'fixed')
    )
    assert len(np.unique(own.reshape(-1, 3), axis=0)) > 10
    assert len(np.unique(fixed.reshape(-1, 3), axis=0)) <= 4


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (['--split', 'test', 'IMAGE'], 'give either images or folders, or --split'),
        ([], 'give either images or folders, or --split'),
        (['lost/'], 'image or folder lost does not exist'),
        (['EMPTY'], 'holds no images'),
        (['IMAGE', '--device', 'gpu'], '--device gpu cannot be used here'),
        (
            ['--split', 'test', '--cfg-options', OFFLINE],
            'test_dataloader.dataset: UncheckedCIFAR10 of data',
        ),
        (['IMAGE', '--range', '1', '1'], '--range LOW must be less than HIGH'),
        (['IMAGE', '--level', '7'], 'level must be less than 1'),
        (['IMAGE', '--cfg-options', 'default_scope=mmyolo'], 'default_scope of config'),
        (['IMAGE', '--cfg-options', 'model.neck.modulation=sum'], "got 'sum'"),
    ],
)
def test_mistakes_are_one_line(
    change, message, model, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)  # without data
    places = {'IMAGE': write_images(tmp_path, {'a.png': (32, 32)})[0]}
    (tmp_path / 'empty').mkdir()
    places['EMPTY'] = str(tmp_path / 'empty')
    argv = [places.get(word, word) for word in change]
    assert main([*model, *argv, '--out', str(tmp_path / 'out')]) == 2
    said = capsys.readouterr().err
    assert message in said and 'Traceback' not in said
    assert not (tmp_path / 'out').exists()


def test_a_file_as_folder_is_refused_before_the_model_works(
    model, tmp_path, capsys
) -> None:
    image = write_images(tmp_path, {'a.png': (32, 32)})
    assert main([*model, *image, '--out', f'{image[0]}/below']) == 2
    assert f'{image[0]} is no folder' in capsys.readouterr().err


def test_models_that_do_not_fit_are_one_line(model, tmp_path, capsys) -> None:
    image = write_images(tmp_path, {'a.png': (32, 32)})
    vanilla = tmp_path / 'vanilla.py'
    vanilla.write_text(f'_base_ = [{str(TESTS / "tiny_classifier.py")!r}]')
    weights = write_weights(vanilla)
    out = ['--out', str(tmp_path / 'out')]
    for argv, message in (
        ([model[0], weights], 'is not of this ImageClassifier'),
        ([str(vanilla), weights], 'holds no AIBAttention'),
        ([model[0], str(tmp_path / 'none.pth')], 'none.pth does not exist'),
        ([str(tmp_path / 'none.py'), weights], 'none.py does not exist'),
    ):
        assert main([*argv, *image, *out]) == 2
        assert message in capsys.readouterr().err


def test_a_writer_that_fails_says_so(tmp_path: Path) -> None:
    def draw(result: Any) -> Any:
        raise OSError('no space left')

    with ResultWriter(tmp_path, draw, ()) as writer:
        writer.add(SimpleNamespace(name='a'))
    (failure,) = writer.failures
    assert failure.name == 'a' and 'OSError: no space left' in failure.reason
    # What holds for the whole folder is raised.
    (tmp_path / 'file').write_text('no folder')
    with pytest.raises(OSError), ResultWriter(tmp_path / 'file', draw, ()):
        pass


def test_loading_runs_ahead_but_not_far() -> None:
    loaded: list[int] = []
    items = [Item(str(i), lambda i=i: loaded.append(i)) for i in range(100)]
    batches = load_batches(items, 2)
    next(batches)
    batches.close()
    assert 2 <= len(loaded) <= 6


def test_folders_are_flat_and_of_one_image_each(model, tmp_path) -> None:
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    write_images(photos, {'a/b.png': (32, 32), 'a__b.png': (32, 32)})
    assert main([*model, str(photos), '--out', str(out)]) == 0
    results = json.loads((out / 'results.json').read_text())
    folders = {row['name']: row['folder'] for row in results['images']}
    assert folders == {'a/b.png': 'a__b.png', 'a__b.png': 'a__b.png (2)'}
    for folder in folders.values():
        assert (out / folder / 'arrays.npz').is_file()


@pytest.mark.slow
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_the_command_serves_the_other_hosts(scope, tmp_path, repo) -> None:
    pytest.importorskip(scope)
    config, checkpoint = write_model(scope, tmp_path, samples=2)
    made = [repo / 'tools/digit_scenes.py', '--parts', 'scenes']
    counts = ['--scenes-train', '2', '--scenes-val', '2', '--workers', '1']
    run(sys.executable, *made, *counts, cwd=tmp_path)
    tool = repo / 'tools/visualize_attention.py'
    options = ['--split', 'test', '--out', 'out', '--batch', '2']
    run(sys.executable, tool, config, checkpoint, *options, cwd=tmp_path)
    rows = json.loads((tmp_path / 'out/results.json').read_text())['images']
    assert len(rows) == 2 and all(0 <= row['quality'] <= 1 for row in rows)
    assert all(row['true'] and row['positions'] > 1 for row in rows)
    assert len(Page((tmp_path / 'out/index.html').read_text()).all('article')) == 2
    own = tmp_path / 'hooked.py'
    hooks = [dict(type='AttentionVisualizationHook', images=1)]
    own.write_text(f'_base_ = [{config!r}]\ncustom_hooks = {hooks}\n')
    options = ['--work-dir', 'work', '--cfg-options', 'test_dataloader.num_workers=0']
    persistent = 'test_dataloader.persistent_workers=False'
    tool = repo / 'tools/test.py'
    run(sys.executable, tool, own, checkpoint, *options, persistent, cwd=tmp_path)
    assert len(list(tmp_path.rglob('vis_image/attention_00000*_0.png'))) == 1
