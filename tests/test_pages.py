"""README and docs: every block is run, commands are taken, configs build."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from pages import RUN, SHOWN, follow, pages_below, read_blocks
from PIL import Image

HOW_TO = ['README.md', *pages_below('Start', 'How to')]
EVIDENCE = pages_below('Evidence')


@pytest.mark.parametrize('page', HOW_TO)
def test_every_block_is_run_or_says_why_not(page: str, repo: Path) -> None:
    for block in read_blocks(page):
        first = f'{page}: {block.text.splitlines()[0]}'
        assert block.language in (*RUN, *SHOWN), first
        if block.mark == 'run by':
            file, _, test = block.note.partition('::')
            assert f'def {test}(' in (repo / file).read_text(), first
            assert Path(page).name in (repo / file).read_text(), first
        elif block.mark == 'not run':
            assert len(block.note.split()) >= 3, first
        elif block.language in RUN:
            assert page in FOLLOWED, f'{first}: is not run, and does not say why'


@pytest.mark.parametrize('page', [*HOW_TO, *EVIDENCE])
def test_commands_are_taken(page: str, repo: Path) -> None:
    blocks = [block for block in read_blocks(page) if block.language in RUN[:2]]
    for command in [line for block in blocks for line in block.commands]:
        words = shlex.split(command, comments=True)
        if words[0] != 'python' or not words[1].startswith('tools/'):
            continue
        assert (repo / words[1]).is_file(), f'{page}: {command}'
        cli = importlib.import_module(f'aib_mm.cli.{Path(words[1]).stem}')
        make_parser = getattr(cli, 'make_parser', None) or cli._parser
        if not {'--help'} & set(words):
            make_parser().parse_args(words[2:])  # exits with 2 if it cannot
        for word in words[2:]:
            if word.startswith('configs/') and not set('${*') & set(word):
                assert (repo / word).is_file(), f'{page}: {word}'


# --- the pages, followed from top to bottom ----------------------------------------


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_random(config: Path, path: Path) -> None:
    """Checkpoint of a classifier with random weights."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    cfg = Config.fromfile(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), path)


def photographs(folder: Path) -> None:
    """Two classes of four images each, for training and for testing."""
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in ('cat', 'dog'):
            for number in range(4):
                path = folder / 'data/mine' / split / name / f'{number}.jpg'
                write_image(path, rng.integers(0, 256, (80, 96, 3), dtype=np.uint8))


def few_photographs(folder: Path) -> None:
    """The other page's config, and a random network in the place of the published."""
    photographs(folder)
    config = read_blocks('docs/own_images.md')[1]
    (folder / config.file_name).write_text(config.text)
    base = folder / 'published.py'
    base.write_text(config.text.partition('custom_imports')[0])
    save_random(base, folder / 'published.pth')


def coco_file(folder: Path) -> None:
    """Four images a split with a cat and a dog, and an empty one."""
    from mmengine import dump

    rng = np.random.default_rng(0)
    names = dict(enumerate(('cat', 'dog'), 1))
    for split in ('train', 'val'):
        images, boxes = [], []
        for i in range(1, 5):
            name = f'{split}_{i}.jpg'
            pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
            write_image(folder / 'data/mine/images' / name, pixels)
            images.append(dict(id=i, file_name=name, width=96, height=80))
            for kind in names if i < 4 else ():
                box = dict(bbox=[8 * kind, 8, 40, 40], area=1600, iscrowd=0)
                boxes.append(dict(box, id=len(boxes) + 1, image_id=i, category_id=kind))
        kinds = [dict(id=i, name=name) for i, name in names.items()]
        content = dict(images=images, annotations=boxes, categories=kinds)
        dump(content, folder / f'data/mine/{split}.json')


def masks(folder: Path) -> None:
    """Four images a split; every third of a mask is of another class."""
    rng = np.random.default_rng(0)
    mask = np.repeat(np.arange(3, dtype=np.uint8), 32) * np.ones((80, 1), np.uint8)
    for split in ('train', 'val'):
        for i in range(4):
            pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
            write_image(folder / f'data/mine/images/{split}/{i}.png', pixels)
            write_image(folder / f'data/mine/masks/{split}/{i}.png', mask)


def export_user(folder: Path) -> None:
    """What README's training would leave, with random weights."""
    pytest.importorskip('onnxruntime')
    name = 'vgg16-narrow_aib_qt_digitscenes'
    config = Path(__file__).parents[1] / f'configs/mmpretrain/{name}.py'
    save_random(config, folder / f'work_dirs/{name}/epoch_6.pth')


def nothing(folder: Path) -> None:
    """The page makes what it needs."""


NO_WORKERS = [
    f'{name}_dataloader.{option}'
    for name in ('train', 'val', 'test')
    for option in ('num_workers=0', 'persistent_workers=False')
]
SMALL_BOXES = [
    'train_dataloader.dataset.pipeline.2.scale=(128,96)',
    'val_dataloader.dataset.pipeline.1.scale=(128,96)',
    'test_dataloader.dataset.pipeline.1.scale=(128,96)',
    'model.backbone.init_cfg=None',  # nothing is downloaded
    'train_cfg.max_epochs=2',
    *NO_WORKERS,
]
SMALL_MASKS = [
    'model.data_preprocessor.size=(64,64)',
    'train_dataloader.dataset.pipeline.2.scale=(256,64)',
    'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
    'val_dataloader.dataset.pipeline.1.scale=(256,64)',
    'test_dataloader.dataset.pipeline.1.scale=(256,64)',
    'train_cfg.max_iters=4',
    'train_cfg.val_interval=4',
    'default_hooks.checkpoint.interval=4',
    'train_dataloader.batch_size=2',
    'model.pretrained=None',
    'model.backbone.init_cfg=None',
    *NO_WORKERS,
]
#: What has to be there before a page is followed, and the options that keep it short.
FOLLOWED = {
    'README.md': (nothing, []),
    'docs/tutorial_classification.md': (nothing, []),
    'docs/tutorial_detection.md': (nothing, []),
    'docs/tutorial_segmentation.md': (nothing, []),
    'docs/digitscenes.md': (nothing, []),
    'docs/own_images.md': (photographs, NO_WORKERS),
    'docs/own_coco.md': (coco_file, SMALL_BOXES),
    'docs/own_masks.md': (masks, SMALL_MASKS),
    'docs/small_data.md': (few_photographs, [*NO_WORKERS, 'load_from=published.pth']),
    'docs/classification.md': (nothing, []),
    'docs/segmentation.md': (nothing, []),
    'docs/deployment.md': (export_user, []),
    'docs/scale.md': (nothing, []),
    'docs/tools.md': (nothing, []),
}
HOSTS = dict(detection='mmdet', coco='mmdet', segmentation='mmseg', masks='mmseg')


def host_of(page: str) -> str:
    """Toolkit that a page needs."""
    return HOSTS.get(re.split(r'[_.]', page)[-2], 'mmpretrain')


@pytest.mark.slow
@pytest.mark.parametrize('page', FOLLOWED)
def test_a_page_can_be_followed(page: str, tmp_path: Path) -> None:
    pytest.importorskip(host_of(page))
    prepare, options = FOLLOWED[page]
    prepare(tmp_path)
    assert follow(page, tmp_path, options)


OWN = [page for page in HOW_TO if page.startswith('docs/own_')]


@pytest.mark.parametrize('page', OWN)
def test_the_config_of_ones_own_builds(page: str, tmp_path: Path) -> None:
    from mmengine.config import Config

    from aib_mm.diagnosis.check import check_config

    pytest.importorskip(host_of(page))
    (block,) = [block for block in read_blocks(page) if block.file_name]
    path = tmp_path / block.file_name
    path.write_text(block.text)
    result = check_config(path)
    assert not result.error, result.error
    hooks = Config.fromfile(path).custom_hooks
    assert dict(type='AIBMonitorHook') in hooks


@pytest.mark.parametrize(('name', 'number'), [('own_images', 20), ('own_masks', 20000)])
def test_the_length_of_a_training_is_one_number(
    name: str, number: int, tmp_path: Path
) -> None:
    """Changed at one place, the schedule ends with the training."""
    from mmengine.config import Config

    pytest.importorskip(host_of(f'docs/{name}.md'))
    (block,) = [block for block in read_blocks(f'docs/{name}.md') if block.file_name]
    text, changed = re.subn(rf'\b{number}\b', '70', block.text)
    assert changed == 1
    path = tmp_path / block.file_name
    path.write_text(text)
    cfg = Config.fromfile(path)
    loop = cfg.train_cfg
    ends = np.atleast_1d(cfg.param_scheduler)
    assert loop.get('max_epochs', loop.get('max_iters')) == 70
    assert [each.get('total_steps', each.get('end')) for each in ends] == [70]


def test_the_gallery_is_drawn_by_its_program(tmp_path: Path, monkeypatch) -> None:
    for number, colour in enumerate(((255, 0, 0), (0, 0, 255))):
        pixels = np.full((32, 32, 3), colour, np.uint8)
        photo = f'{number}/{number}.png'
        write_image(tmp_path / 'photos/test' / photo, pixels)
        case = f'test__{photo.replace("/", "__")}'
        write_image(tmp_path / 'x/seed0' / case / 'overlay_mean.png', pixels)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MPLBACKEND', 'agg')
    monkeypatch.setattr(sys, 'argv', ['compare.py', 'photos', 'out.png', 'x/seed0'])
    (program,) = [
        block.text
        for block in read_blocks('docs/gallery.md')
        if block.language == 'python'
    ]
    exec(compile(program, 'compare.py', 'exec'), {})
    with Image.open('out.png') as picture:
        colors = {color for _, color in picture.convert('RGB').getcolors(10**6)}
    assert {(255, 0, 0), (0, 0, 255)} <= colors
