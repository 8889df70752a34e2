"""An inferencer by a host's config, and how its results show themselves."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from attention_files import write_images, write_model
from matplotlib.figure import Figure
from mmengine.registry import DefaultScope

from aib_mm.apis import AttentionInferencer


def test_a_hosts_config_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    from mmpretrain.registry import MODELS

    from aib_mm.diagnosis.check import check_config
    from aib_mm.diagnosis.configs import read_config
    from aib_mm.errors import UsageError

    name = 'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(read_config(name).model)
    checkpoint = tmp_path / 'random.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    image = write_images(tmp_path, {'a.png': (48, 48)})
    inferencer = AttentionInferencer(
        name, checkpoint, source='features:backbone.layer1'
    )
    (result,) = inferencer(image)
    # The test pipeline crops: the image is what the network saw.
    assert result.frame == 'img_shape' and result.image.shape == (224, 224, 3)
    assert result.attention_mean.shape == (224, 224)
    with pytest.raises(FileNotFoundError, match=r"mmpretrain has no config 'a/b\.py'"):
        AttentionInferencer('mmpretrain::a/b.py', checkpoint)
    with pytest.raises(FileNotFoundError, match=r"of 'mmtext'; installed are mm"):
        AttentionInferencer('mmtext::a/b.py', checkpoint)
    with pytest.raises(UsageError, match=r'has no config'):
        read_config('mmpretrain::a/b.py')
    assert check_config(name).module is not None
    assert 'has no config' in check_config('mmpretrain::a/b.py').problem


def labels_are_apart(figure: Figure) -> bool:
    """Whether no label of a tick reaches into the next one of its colour bar."""
    figure.draw_without_rendering()
    for axis in figure.axes:
        boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
        for box, following in pairwise(boxes if axis.axison else ()):
            if box.x1 > following.x0:
                return False
    return True


def test_a_result_shows_itself(tmp_path: Path) -> None:
    pytest.importorskip('mmpretrain')
    files = write_model('mmpretrain', tmp_path, samples=2)
    image = write_images(tmp_path, {'<b>.png': (32, 32)})
    (own,) = AttentionInferencer(*files)(image)
    (other,) = AttentionInferencer(*files, source='features:backbone.layer1')(image)
    assert repr(own).startswith("AttentionResult('<b>.png', 32×32, predicted=[")
    assert len(repr(own)) < 200
    assert [axis.get_title() for axis in own.plot().axes[:3]] == [
        '<b>.png',
        'attention',
        'std',
    ]
    drawn = own.plot().axes[1].images[1]
    assert np.array_equal(drawn.get_array(), own.attention_mean)
    title = 'mean over the channels of backbone.layer1'
    assert [axis.get_title() for axis in other.plot().axes[:2]] == ['<b>.png', title]
    assert labels_are_apart(own.plot())
    html = own._repr_html_()
    assert 'data:image/png;base64,' in html
    assert '<b>' not in html and '&lt;b&gt;.png' in html
