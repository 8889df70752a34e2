"""``add`` over the hosts' own configs: the table of ``docs/compatibility.md``.

The page is what these tests found. After a change write it anew, and look at what has
become different::

    AIB_MM_COMPATIBILITY=write python -m pytest tests/test_compatibility.py --runslow
"""

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from aib_mm import hosts

PAGE = Path(__file__).parents[1] / 'docs/compatibility.md'
WRITE = os.environ.get('AIB_MM_COMPATIBILITY') == 'write'
LIMIT = 6 * 2**20  # KiB of memory

#: Configs of each host, with what they stand for.
CONFIGS = {
    'mmpretrain': {
        'resnet/resnet18_8xb32_in1k.py': 'CNN',
        'densenet/densenet121_4xb256_in1k.py': 'CNN',
        'repvgg/repvgg-A0_8xb32_in1k.py': 'CNN',
        'hrnet/hrnet-w18_4xb32_in1k.py': 'CNN, levels fused by a neck',
        'convnext/convnext-tiny_32xb128_in1k.py': 'CNN',
        'vgg/vgg11_8xb32_in1k.py': 'CNN that classifies in the backbone',
        'inception_v3/inception-v3_8xb32_in1k.py': 'CNN with auxiliary scores',
        'mobilenet_v2/mobilenet-v2_8xb32_in1k.py': 'mobile',
        'mobilenet_v3/mobilenet-v3-small-050_8xb128_in1k.py': 'mobile',
        'efficientnet/efficientnet-b0_8xb32_in1k.py': 'mobile',
        'mobilevit/mobilevit-xxsmall_8xb128_in1k.py': 'mobile, with attention',
        'edgenext/edgenext-xxsmall_8xb256_in1k.py': 'mobile, with attention',
        'vision_transformer/vit-base-p16_32xb128-mae_in1k.py': 'transformer',
        'deit/deit-tiny_4xb256_in1k.py': 'transformer',
        'deit/deit-tiny-distilled_4xb256_in1k.py': 'transformer, two tokens',
        't2t_vit/t2t-vit-t-14_8xb64_in1k.py': 'transformer',
        'swin_transformer/swin-tiny_16xb64_in1k.py': 'transformer of windows',
        'poolformer/poolformer-s12_32xb128_in1k.py': 'transformer without attention',
        'conformer/conformer-tiny-p16_8xb128_in1k.py': 'CNN and transformer',
        'mlp_mixer/mlp-mixer-base-p16_64xb64_in1k.py': 'MLP',
    },
    'mmdet': {
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py': 'two-stage',
        'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py': 'two-stage, cascade',
        'mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py': 'two-stage, no neck',
        'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py': 'instance, transformer',
        'htc/htc_r50_fpn_1x_coco.py': 'instance, cascade',
        'solov2/solov2_r50_fpn_1x_coco.py': 'instance, one-stage',
        'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py': 'instance, queries',
        'pvt/retinanet_pvt-t_fpn_1x_coco.py': 'one-stage, transformer',
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py': 'one-stage, no anchors',
        'dyhead/atss_r50_fpn_dyhead_1x_coco.py': 'one-stage, two necks',
        'centernet/centernet_r18_8xb16-crop512-140e_coco.py': 'one-stage, points',
        'yolof/yolof_r50-c5_8xb8-1x_coco.py': 'one-stage, one level',
        'yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py': 'one-stage, mobile',
        'yolox/yolox_s_8xb8-300e_coco.py': 'one-stage, PAFPN',
        'rtmdet/rtmdet_tiny_8xb32-300e_coco.py': 'one-stage, PAFPN',
        'ssd/ssd300_coco.py': 'one-stage',
        'detr/detr_r50_8xb2-150e_coco.py': 'queries, one level',
        'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py': 'queries',
        'dino/dino-4scale_r50_8xb2-12e_coco.py': 'queries',
        'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py': 'queries, two-stage',
    },
    'mmseg': {
        'fcn/fcn_r50-d8_4xb4-160k_ade20k-512x512.py': 'FCN',
        'unet/unet-s5-d16_fcn_4xb4-40k_drive-64x64.py': 'FCN, U-Net',
        'hrnet/fcn_hr18s_4xb4-160k_ade20k-512x512.py': 'FCN, HRNet',
        'pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py': 'context',
        'deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py': 'context',
        'ocrnet/ocrnet_hr18s_4xb4-80k_ade20k-512x512.py': 'context, cascade',
        'upernet/upernet_r18_4xb4-80k_ade20k-512x512.py': 'context',
        'mobilenet_v3/mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024.py': (
            'mobile'
        ),
        'bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py': 'mobile',
        'fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py': 'mobile',
        'pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py': 'mobile, edges',
        'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py': 'transformer',
        'vit/vit_deit-s16_mln_upernet_8xb2-160k_ade20k-512x512.py': (
            'transformer, tokens'
        ),
        'twins/twins_svt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512.py': (
            'transformer, FPN'
        ),
        'segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512.py': (
            'transformer, class tokens in the head'
        ),
        'dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py': (
            'transformer, class token read'
        ),
        'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py': (
            'mask classification'
        ),
        'maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py': (
            'mask classification'
        ),
    },
}
HEADER = """\
# Compatibility

What [`python -m aib_mm add`](tools.md#attention-into-a-config) does with configs that
the hosts ship, without further options.
{summary}

A row works if the config that was written runs one training step and one prediction on
made images, and every parameter of the attention gets a gradient, unless the row names
`find_unused_parameters`. Pretrained weights are left out in this check alone. That a
model runs does not say that attention makes it better.

Upstream stack, CPU, one thread, beside other work on two cores; the seconds are those
of the whole command. The page is written by `tests/test_compatibility.py`:

```shell
AIB_MM_COMPATIBILITY=write python -m pytest tests/test_compatibility.py --runslow
```
"""
TABLE = """
## {host} {version}

| config | family | `add` | where the attention is, or why not | s |
|---|---|---|---|--:|
"""


class Row(NamedTuple):
    """A line of the table; ``seconds`` are not compared."""

    config: str
    family: str
    result: str
    detail: str
    seconds: str

    def line(self) -> str:
        return f'| `{self.config}` | {" | ".join(self[1:])} |\n'


def tried(host: str, config: str, out: Path) -> Row:
    """What ``add`` does with a config, in a process of its own."""
    command = [sys.executable, '-W', 'ignore', '-m', 'aib_mm', 'add']
    begin = time.monotonic()
    done = subprocess.run(
        [*command, f'{host}::{config}', '--out', str(out)],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    seconds = f'{time.monotonic() - begin:.0f}'
    family = CONFIGS[host][config]
    if done.returncode == 2:
        (error,) = re.findall(r'^add: error: \S+: (.*)', done.stderr, flags=re.M)
        return Row(config, family, 'no', error.partition('; ')[0], seconds)
    assert done.returncode == 0, done.stderr
    (place,) = re.findall(r': AIBAttention (.*)', done.stdout)
    text = out.read_text()
    backbone = re.findall(r'^    backbone=dict\((.*?)^    \)', text, flags=re.M | re.S)
    switches = re.findall(r'^ *(\w+=.*?),  #', ''.join(backbone), flags=re.M)
    switches += re.findall(r'^find_unused_parameters = True', text, flags=re.M)
    named = ', '.join(f'`{switch}`' for switch in switches)
    result = f'works with {named}' if named else 'works'
    return Row(config, family, result, place, seconds)


def read_page() -> dict[str, dict[str, Row]]:
    """The rows of the page, by host and config."""
    text = PAGE.read_text() if PAGE.exists() else ''
    found: dict[str, dict[str, Row]] = {host: {} for host in CONFIGS}
    for section in text.split('\n## ')[1:]:
        for line in section.splitlines():
            if line.startswith('| `'):
                row = Row(*line.strip('| ').replace('`', '', 2).split(' | '))
                found[section.split()[0]][row.config] = row
    return found


def write_page(found: dict[str, dict[str, Row]]) -> None:
    """The page with these rows, in the order of ``CONFIGS``."""
    rows = [row for each in found.values() for row in each.values()]
    works = sum(row.result == 'works' for row in rows)
    switched = sum(row.result.startswith('works with') for row in rows)
    summary = (
        f'Of {len(rows)}, {works} work, {switched} with a switch that `add` sets, and '
        f'{len(rows) - works - switched} do not.'
    )
    text = HEADER.format(summary=summary)
    versions = {check.requirement.module: check for check in hosts.check_versions()}
    for host, configs in CONFIGS.items():
        text += TABLE.format(host=host, version=versions[host].found)
        for config in configs:
            if config in found[host]:
                text += found[host][config].line()
    PAGE.write_text(text)


ROWS = [(host, config) for host, configs in CONFIGS.items() for config in configs]


@pytest.mark.slow
@pytest.mark.parametrize(('host', 'config'), ROWS)
def test_the_table_is_what_add_does(host: str, config: str, tmp_path: Path) -> None:
    pytest.importorskip(host)
    if any((check.distribution or '').startswith('onedl') for check in versions()):
        pytest.skip('the table is of the upstream stack')
    row = tried(host, config, tmp_path / 'mine.py')
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < LIMIT
    found = read_page()
    if WRITE:
        found[host][config] = row
        write_page(found)
        return
    assert row[:-1] == found[host][config][:-1]


@pytest.mark.slow
def test_the_manual_shows_what_is_written(repo: Path, tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    out = tmp_path / 'my_convnext.py'
    tried('mmpretrain', 'convnext/convnext-tiny_32xb128_in1k.py', out)
    assert out.read_text() in (repo / 'docs/tools.md').read_text()


def versions() -> list[hosts.VersionCheck]:
    return hosts.check_versions()


def test_the_page_has_every_row() -> None:
    """And each host has at least twelve, some of which are not done."""
    found = read_page()
    for host, configs in CONFIGS.items():
        assert list(found[host]) == list(configs)
        assert len(configs) >= 12
        results = {row.result.split()[0] for row in found[host].values()}
        assert results == {'works', 'no'}
