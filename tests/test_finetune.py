"""A trained network gets a priced map: it starts as what it was."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

pytest.importorskip('mmpretrain')

from mmpretrain.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs/mmpretrain'
FINETUNE = 'vgg16-narrow_aib_priced-finetune_digitscenes'


def built(name: str, body: dict | None = None) -> nn.Module:
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    if body is not None:
        cfg.model.head.encoder.body.init_cfg = body
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('has_latent', [True, False])
def test_the_trained_layers_are_kept(has_latent: bool, tmp_path: Path) -> None:
    """Without a latent the encoder's layers are the backbone's last blocks."""
    torch.manual_seed(0)
    trained = built(f'vgg16-narrow{"_aib" * has_latent}_digitscenes')
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    path = str(tmp_path / 'trained.pth')
    torch.save(dict(state_dict=trained.state_dict()), path)
    body = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    tuned = built(FINETUNE, None if has_latent else body)
    tuned.init_weights()
    load_checkpoint(tuned, path, map_location='cpu')
    trained.eval()
    tuned.eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        features = tuned.backbone(images)
        before = trained.backbone(images)
        if has_latent:
            before = trained.head.encoder.body(before[-1])
        after = tuned.head.encoder.body(features[-1])
        torch.testing.assert_close(after, before)
        score = tuned.neck(features).attention[0].mean
    # Nearly all passes, unless the trained score's own bias was loaded.
    assert score.mean() == pytest.approx(0.5 if has_latent else 0.95, abs=0.03)
