"""The shipped segmentors through real commands, on ADE20K files, and as in docs."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')

from ade_files import small_images, small_tokens, write_ade
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, MODELS, DefaultScope
from PIL import Image
from test_aib_classifiers import mim_name, run
from torch import nn

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mmseg'
QT = CONFIGS / 'upernet_beit_aib_qt.py'
SHORT = [
    'train_cfg.max_iters=4',
    'train_cfg.val_interval=4',
    'train_dataloader.batch_size=2',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.interval=4',
    'default_hooks.checkpoint.save_optimizer=False',
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with ``data/ade`` and nothing of the repository."""
    path = tmp_path_factory.mktemp('user')
    write_ade(path)
    return path


def test_ground_truth_fed_back_has_an_miou_of_100(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the data set, pipeline and evaluator of a shipped config."""
    monkeypatch.chdir(folder)
    cfg = Config.fromfile(QT)
    masks = folder / 'data/ade/ADEChallengeData2016/annotations/validation'
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    for item in dataset:
        sample = item['data_samples']
        truth = sample.gt_sem_seg.data
        raw = np.array(Image.open(masks / Path(sample.seg_map_path).name))
        expected = np.where(raw == 0, 255, raw.astype(int) - 1)
        assert np.array_equal(truth[0].numpy(), expected)
        metric.process(
            {}, [dict(pred_sem_seg=dict(data=truth), gt_sem_seg=dict(data=truth))]
        )
    results = metric.evaluate(size=len(dataset))
    assert results['mIoU'] == results['aAcc'] == 100


def test_accumulated_batches_make_the_papers_schedule() -> None:
    """Batch 16 on 4 GPUs and 160k updates, of which 1500 warm up."""
    cfg = Config.fromfile(QT)
    steps = cfg.optim_wrapper.accumulative_counts
    assert 4 * cfg.train_dataloader.batch_size * steps == 16
    assert cfg.train_cfg.max_iters == 160_000 * steps
    warm_up, decay = cfg.param_scheduler
    assert (warm_up.end, decay.begin) == (1500 * steps, 1500 * steps)
    assert decay.end == cfg.train_cfg.max_iters


def narrow_qt() -> nn.Module:
    cfg = Config.fromfile(CONFIGS / 'upernet_beit-narrow_aib_qt_digitscenes.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('full', [True, False], ids=['layer-wise', 'one-cycle'])
def test_anchors_do_not_decay_and_layers_learn_at_their_own_rate(full: bool) -> None:
    name = QT if full else CONFIGS / 'upernet_beit-narrow_aib_qt_digitscenes.py'
    settings = Config.fromfile(name).optim_wrapper
    model = narrow_qt()
    if full:
        settings.paramwise_cfg.num_layers = 4
    with DefaultScope.overwrite_default_scope('mmseg'):
        groups = build_optim_wrapper(model, settings).optimizer.param_groups

    def group(parameter: nn.Parameter) -> dict:
        return next(
            group for group in groups if any(p is parameter for p in group['params'])
        )

    assert group(model.neck.quantizer.anchors)['weight_decay'] == 0
    base = settings.optimizer
    for weight in (
        model.neck.branches[0].mean_conv.weight,
        model.decode_head.latent.mean.conv.weight,
        model.decode_head.latent.std.weight,
    ):
        assert group(weight)['weight_decay'] == base.weight_decay
        assert group(weight)['lr'] == pytest.approx(base.lr)
    if full:
        first = group(model.backbone.layers[0].attn.qkv.weight)
        assert first['lr'] == pytest.approx(base.lr * 0.9**4)


@pytest.mark.slow
def test_the_full_size_model_trains_and_is_tested(folder: Path, repo: Path) -> None:
    options = ['--cfg-options', *small_tokens()]
    train = [sys.executable, repo / 'tools/train.py', QT, '--work-dir', 'out']
    output = run(*train, *options, *SHORT, cwd=folder)
    for name in ('loss_kl', 'loss_vq', 'loss_cmt', 'kl_nats', 'mIoU'):
        assert name in output
    test = [sys.executable, repo / 'tools/test.py', QT, 'out/iter_4.pth']
    output = run(*test, '--out', 'masks', *options, cwd=folder)
    assert 'mIoU' in output
    written = sorted(path.name for path in (folder / 'masks').glob('*.png'))
    assert written == ['ADE_val_00000001.png', 'ADE_val_00000002.png']


@pytest.mark.slow
def test_augmented_test(folder: Path, repo: Path) -> None:
    """Six scales and their mirror images, as the host's configs say."""
    config = CONFIGS / 'segformer_mit-b0_aib.py'
    with DefaultScope.overwrite_default_scope('mmseg'):
        state = MODELS.build(Config.fromfile(config).model).state_dict()
    torch.save(dict(state_dict=state), folder / 'random.pth')
    test = [sys.executable, repo / 'tools/test.py', config, 'random.pth', '--tta']
    output = run(*test, '--cfg-options', *small_images(), cwd=folder)
    assert 'mIoU' in output


MIM = Path(sys.executable).with_name('mim')
ALONE = ['--gpus', '0', '--launcher', 'none']


@pytest.mark.slow
def test_mim_trains_and_tests_the_shipped_segmentor(folder: Path) -> None:
    options = ['--cfg-options', *small_tokens()]
    package = mim_name('mmseg')
    train = [MIM, 'train', package, QT, *ALONE, '--work-dir', 'mim']
    run(*train, *options, *SHORT, cwd=folder)
    test = [MIM, 'test', package, QT, '--checkpoint', 'mim/iter_4.pth', *ALONE]
    assert 'mIoU' in run(*test, *options, cwd=folder)


@pytest.mark.slow
def test_two_processes_train_a_segmentor_on_a_cpu(folder: Path, repo: Path) -> None:
    """SyncBN needs a GPU where there are several processes."""
    command = [repo / 'tools/dist_train.sh', QT, 2, '--work-dir', 'two']
    bn = [
        'model.neck.post_neck.norm_cfg.type=BN',
        'model.decode_head.norm_cfg.type=BN',
        'model.auxiliary_head.norm_cfg.type=BN',
    ]
    options = ['--cfg-options', *small_tokens(), *SHORT, *bn]
    run(*command, *options, cwd=folder)
    assert (folder / 'two' / 'iter_4.pth').is_file()


GUIDE = Path(__file__).parents[1] / 'docs' / 'segmentation.md'
BLOCKS = re.findall(r'```python\n(# my_.*?)```', GUIDE.read_text(), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize('block', BLOCKS, ids=lambda block: block.split()[1])
def test_configs_of_the_guide_train_and_test(block: str, folder: Path) -> None:
    """From a folder without the repository, with the installed package alone."""
    config = folder / block.split()[1]
    config.write_text(block)
    if 'load_from' in block:
        (folder / 'vanilla.py').write_text(block.partition('custom_imports')[0])
        with DefaultScope.overwrite_default_scope('mmseg'):
            vanilla = Config.fromfile(folder / 'vanilla.py').model
            state = MODELS.build(vanilla).state_dict()
        torch.save(dict(state_dict=state), folder / 'vanilla.pth')
        compare = [sys.executable, '-m', 'aib_mm', 'compare', config.name]
        run(*compare, 'vanilla.pth', cwd=folder)
    options = ['--cfg-options', *small_images()]
    package = mim_name('mmseg')
    train = [MIM, 'train', package, config.name, *ALONE, '--work-dir', config.stem]
    output = run(*train, *options, *SHORT, cwd=folder)
    assert 'mIoU' in output
    if 'load_from' in block:
        assert 'Load checkpoint from vanilla.pth' in output
        assert 'unexpected key' not in output
    checkpoint = f'{config.stem}/iter_4.pth'
    test = [MIM, 'test', package, config.name, '--checkpoint', checkpoint, *ALONE]
    assert 'mIoU' in run(*test, *options, cwd=folder)
