"""Training in channels-last order."""

from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aib_mm.training.memory_format import ChannelsLastHook


class Convs(BaseModel):
    """Two convolutions and a mean; remembers how its last map lay in memory."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)
        )

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> dict[str, Tensor]:
        maps = self.layers(inputs)
        self.is_channels_last = maps.is_contiguous(memory_format=torch.channels_last)
        return dict(loss=maps.square().mean())


def trained(work_dir: Path, hooks: list) -> Runner:
    inputs = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    runner = Runner(
        model=Convs(),
        work_dir=str(work_dir),
        train_dataloader=DataLoader([dict(inputs=x) for x in inputs], batch_size=2),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.01)),
        custom_hooks=hooks,
        experiment_name=f'channels_last_{len(hooks)}',
    )
    runner.train()
    return runner


def test_maps_lie_so_and_the_training_is_the_same(tmp_path: Path) -> None:
    plain = trained(tmp_path / 'plain', [])
    channels_last = trained(tmp_path / 'last', [dict(type='ChannelsLastHook')])
    assert not plain.model.is_channels_last and channels_last.model.is_channels_last
    wanted = plain.model.state_dict()
    for name, value in channels_last.model.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5)


def test_a_checkpoint_loads_into_either(tmp_path: Path) -> None:
    runner = trained(tmp_path, [ChannelsLastHook()])
    saved = torch.load(tmp_path / 'epoch_3.pth', weights_only=False)
    other = Convs()
    other.load_state_dict(saved['state_dict'])
    for name, value in runner.model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    assert not other.layers[0].weight.is_contiguous(memory_format=torch.channels_last)
