"""The tutorials and the gallery: their commands are taken, their configs build."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from aib_mm.diagnosis.check import check_config

DOCS = Path(__file__).parents[1] / 'docs'
TASKS = {'classification': 'mmpretrain', 'detection': 'mmdet', 'segmentation': 'mmseg'}
PAGES = [f'tutorial_{task}' for task in TASKS] + ['gallery']


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / f'{page}.md').read_text(encoding='utf-8')
    return re.findall(rf'```{language}\n(.*?)```', text, flags=re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """Calls of the tools, without the program."""
    lines = '\n'.join(blocks(page, 'shell')).replace('\\\n', ' ').splitlines()
    calls = [shlex.split(line, comments=True) for line in lines if 'tools/' in line]
    return [call[1:] for call in calls if call and call[0] == 'python']


@pytest.mark.parametrize('page', PAGES)
def test_commands_are_taken(page: str, repo: Path) -> None:
    assert len(commands(page)) >= 3
    for tool, *arguments in commands(page):
        assert (repo / tool).is_file()
        cli = importlib.import_module(f'aib_mm.cli.{Path(tool).stem}')
        make_parser = getattr(cli, 'make_parser', None) or cli._parser
        make_parser().parse_args(arguments)  # exits with 2 if it cannot
        for word in arguments:
            if word.startswith('configs/') and '$' not in word:
                assert (repo / word).is_file(), f'{page}: {word}'


@pytest.mark.parametrize('task', TASKS)
def test_the_config_of_ones_own_builds(task: str, tmp_path: Path) -> None:
    pytest.importorskip(TASKS[task])
    (block,) = blocks(f'tutorial_{task}', 'python')
    path = tmp_path / 'own.py'
    path.write_text(block)
    result = check_config(path)
    assert not result.error, result.error
    hooks = Config.fromfile(path).custom_hooks
    assert dict(type='AIBMonitorHook') in hooks


def test_the_gallery_is_drawn_by_its_program(tmp_path: Path, monkeypatch) -> None:
    from PIL import Image

    for name in ('photos/test/0/a.png', 'x/seed0/test__0__a.png/overlay_mean.png'):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new('RGB', (32, 32), 'red').save(tmp_path / name)
    for name in ('photos/test/1/b.png', 'x/seed0/test__1__b.png/overlay_mean.png'):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new('RGB', (32, 32), 'blue').save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MPLBACKEND', 'agg')
    monkeypatch.setattr(sys, 'argv', ['compare.py', 'photos', 'out.png', 'x/seed0'])
    (program,) = blocks('gallery', 'python')
    exec(compile(program, 'compare.py', 'exec'), {})
    with Image.open('out.png') as picture:
        colors = {color for _, color in picture.convert('RGB').getcolors(10**6)}
    assert {(255, 0, 0), (0, 0, 255)} <= colors
