"""A loss that is no number stops training in its iteration, in every process."""

import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from ddp_parity import join
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader, Runner
from mmengine.structures import BaseDataElement
from tiny_runs import count_iterations, tiny_config, train
from torch import distributed
from torch import multiprocessing as mp

from aib_mm.cli.options import guarded
from aib_mm.cli.train import make_parser
from aib_mm.training.non_finite import (
    NonFiniteLossError,
    NonFiniteLossHook,
    image_names,
    non_finite_losses,
)

HOOK = [dict(type='NonFiniteLossHook')]


class Breaks(BaseModel):
    """One weight; the loss of the sample with ``factor`` is multiplied by it."""

    def __init__(self, factor: float = math.nan, at: int = 2) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.factor = factor
        self.at = at

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = '') -> dict:
        numbers = torch.stack(list(inputs))
        broken = (numbers == self.at).any()
        if broken and self.factor == 0:
            raise IndexError('Target 57 is out of bounds.')
        good = self.weight.sum() * 1.0
        bad = self.weight.sum() * (self.factor if broken else 1.0)
        return dict(loss_a=good, loss_b=[good, bad], acc=torch.tensor(math.nan))


def samples(count: int) -> list[dict]:
    return [
        dict(
            inputs=torch.tensor([float(index)]),
            data_samples=BaseDataElement(metainfo=dict(img_path=f'{index}.png')),
        )
        for index in range(count)
    ]


def runner(work_dir: Path, model: BaseModel, **settings: Any) -> Runner:
    return Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=1,
            dataset=samples(4),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=False, max_iters=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1),
            logger=dict(type='LoggerHook', interval=1),
        ),
        custom_hooks=HOOK,
        experiment_name=f'{work_dir.parent.name}_{work_dir.name}',
        **settings,
    )


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


@pytest.mark.parametrize('factor', [math.nan, math.inf, -math.inf])
def test_stops_in_that_iteration_before_the_weights(
    factor: float, tmp_path: Path
) -> None:
    model = Breaks(factor)
    with pytest.raises(NonFiniteLossError) as error:
        runner(tmp_path, model).train()
    assert f'loss_b[1] is {factor} in iteration 3, with 2.png' in str(error.value)
    assert 'loss_a' not in str(error.value) and 'acc' not in str(error.value)
    assert files(tmp_path) == ['iter_1.pth', 'iter_2.pth']
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_2.pth')
    saved = CheckpointLoader.load_checkpoint(str(tmp_path / 'iter_2.pth'))['state_dict']
    assert torch.equal(saved['weight'], model.weight), 'not stepped since'
    (log,) = tmp_path.glob('*/*.log')
    assert re.search('ERROR .*training stopped', log.read_text())


def test_without_the_hook_training_goes_on(tmp_path: Path) -> None:
    model = Breaks()
    run = runner(tmp_path, model)
    run._hooks = [hook for hook in run.hooks if not isinstance(hook, NonFiniteLossHook)]
    run.train()
    assert model.weight.isnan().all()


class Skipping(OptimWrapper):
    """As under loss scaling: a step with infinite gradients is left out."""

    def step(self, **kwargs: Any) -> None:
        gradients = [p.grad for group in self.param_groups for p in group['params']]
        if all(gradient.isfinite().all() for gradient in gradients):
            super().step(**kwargs)


class Explodes(Hook):
    """Makes the gradients of the third iteration infinite; the loss stays finite."""

    def before_train_iter(self, runner: Runner, **_: Any) -> None:
        if runner.iter == 2:
            weight = runner.model.weight
            handle = weight.register_hook(lambda grad: grad * math.inf)
            weight.register_post_accumulate_grad_hook(lambda _: handle.remove())


def test_infinite_gradients_alone_do_not_stop(tmp_path: Path) -> None:
    model = Breaks(factor=1.0)
    run = runner(tmp_path, model)
    run.optim_wrapper = Skipping(torch.optim.SGD(model.parameters(), 0.1))
    run.register_hook(Explodes())
    run.train()
    assert files(tmp_path) == [f'iter_{number}.pth' for number in range(1, 5)]


def test_weights_are_looked_at_before_they_are_saved(tmp_path: Path) -> None:
    run = runner(tmp_path, Breaks(factor=1.0))
    run.register_hook(Explodes())
    with pytest.raises(NonFiniteLossError, match=r'1 of 1 weights, weight .*tion 3, '):
        run.train()
    assert files(tmp_path) == ['iter_1.pth', 'iter_2.pth']


def test_images_of_a_failing_forward_pass_are_logged(tmp_path: Path) -> None:
    with pytest.raises(IndexError, match='out of bounds'):
        runner(tmp_path, Breaks(factor=0)).train()
    (log,) = tmp_path.glob('*/*.log')
    assert 'the forward pass of iteration 3 failed with 2.png' in log.read_text()


def test_hook_lets_go_of_the_model(tmp_path: Path) -> None:
    run = runner(tmp_path, Breaks(factor=1.0))
    run.train()
    assert not run.model._forward_hooks


def test_components_that_count() -> None:
    nan, one = torch.tensor(math.nan), torch.ones(())
    losses = dict(loss_kl=one, loss_cls=[one, nan], acc=nan, aux_loss=nan)
    assert non_finite_losses(losses) == ['loss_cls[1] is nan', 'aux_loss is nan']
    assert non_finite_losses(dict(loss=torch.tensor([1.0, math.inf]))) == [
        'loss is inf'
    ]


def test_names_of_images() -> None:
    with_path = BaseDataElement(metainfo=dict(img_path='a.png'))
    with_number = BaseDataElement(metainfo=dict(sample_idx=7))
    assert image_names([with_path, with_number]) == ['a.png', 'sample 7']
    assert image_names(None) == ['a batch without data samples']
    inputs = torch.zeros(2, 3, 2, 2)
    inputs[1, 0, 0, 0] = math.nan
    assert image_names([with_path, with_number], inputs) == [
        'a.png',
        'sample 7 (pixels that are not finite)',
    ]


@HOOKS.register_module(force=True)
class PutNaN(Hook):
    """Spoils a weight between two steps, so that the next loss is NaN."""

    def before_train_iter(self, runner: Runner, **_: Any) -> None:
        if runner.iter == 1:
            list(runner.model.parameters())[-1].data.fill_(math.nan)


@pytest.mark.parametrize(
    ('task', 'named'),
    [
        ('classification', 'sample '),
        pytest.param('detection', 'train2017/', marks=pytest.mark.slow),
        pytest.param('segmentation', 'ADE_train_', marks=pytest.mark.slow),
    ],
)
def test_each_host(task: str, named: str, tmp_path: Path) -> None:
    cfg = count_iterations(tiny_config(task, tmp_path), 3, interval=1)
    cfg.default_hooks.spoil = dict(type='PutNaN')
    with pytest.raises(NonFiniteLossError, match=f'is nan in iteration 2.*{named}'):
        train(cfg, tmp_path / 'run', HOOK)
    assert files(tmp_path / 'run') == ['iter_1.pth']


def test_the_program_stops_with_an_error(capsys: pytest.CaptureFixture) -> None:
    def fails(args: Any) -> None:
        raise NonFiniteLossError('training stopped: loss_cls is nan')

    assert guarded(make_parser(), fails, ['config.py']) == 1
    assert capsys.readouterr().err == (
        'train.py: error: training stopped: loss_cls is nan\n'
    )


def _train_on_two(rank: int, folder: Path) -> None:
    """The second process alone meets the sample that breaks."""
    os.environ['LOCAL_RANK'] = str(rank)
    store = distributed.FileStore(str(folder / 'store'), 2)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    run = runner(
        folder / 'run',
        Breaks(at=3),
        launcher='pytorch',
        cfg=dict(
            model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)
        ),
    )
    try:
        run.train()
    except NonFiniteLossError as error:
        (folder / f'{rank}.txt').write_text(str(error))


@pytest.mark.slow
def test_one_process_stops_all(tmp_path: Path) -> None:
    join(mp.spawn(_train_on_two, (tmp_path,), nprocs=2, join=False), seconds=120)
    texts = [(tmp_path / f'{rank}.txt').read_text() for rank in range(2)]
    assert texts[0] == texts[1]
    assert 'process 1: loss_b[1] is nan in iteration 2, with 3.png' in texts[0]
    assert files(tmp_path / 'run') == ['iter_1.pth']
