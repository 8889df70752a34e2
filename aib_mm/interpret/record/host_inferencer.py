"""A trained model of any host, its test pipeline and its visualizer, by its config."""

import copy
import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import VISUALIZERS, DefaultScope
from mmengine.visualization import Visualizer
from torch import nn

from aib_mm import register
from aib_mm.errors import choose
from aib_mm.hosts import HOST_PARTS, config_path
from aib_mm.interpret.record.host_config import class_meta
from aib_mm.interpret.record.inputs import exchanges_channels
from aib_mm.training.checkpoint import check_checkpoint
from aib_mm.training.checkpoint_fit import check_fit
from aib_mm.training.checkpoint_keys import compare_keys
from aib_mm.utils.configs import innermost_dataset, type_name
from aib_mm.utils.shipped import shipped_model
from aib_mm.utils.wrappers import input_channels

_LOADER = 'LoadImageFromFile'
_IF_FILE = 'LoadImageIfFile'  # of sets that hold arrays


class HostInferencer(BaseInferencer):
    """mmengine's inferencer, ready for mmpretrain, mmdet and mmseg.

    The default scope is left as it was.

    Args:
        config: path, ``'mmpretrain::FOLDER/FILE.py'`` or ``Config``; without a
            ``checkpoint`` the name of a model that comes trained with the package.
        checkpoint: file or address of its weights, all of them.
        device: device that the model runs on.

    Attributes:
        classes: names of the classes; empty if neither checkpoint nor data set knows.
        is_bgr: whether the test pipeline hands the network's images over as BGR.
        channels: numbers of channels that an array may have.

    Raises:
        CheckpointError: it cannot be read, or lacks weights of the model.
        ValueError: a config of no known host; no trained model of this name.
    """

    is_bgr: bool
    channels: tuple[int, ...]

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str = 'cpu',
    ) -> None:
        if checkpoint is None:
            config, checkpoint = shipped_model(str(config))
        if isinstance(config, str | Path):
            config = Config.fromfile(config_path(config))
        cfg = copy.deepcopy(config)
        register(cfg)
        scope = cfg.get('default_scope')
        choose('default_scope of the config', scope, HOST_PARTS)
        check_checkpoint(checkpoint)
        # As the Runner does it.
        if cfg.get('data_preprocessor') is not None:
            cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
        self._checkpoint = str(checkpoint)
        self._host = importlib.import_module(f'{HOST_PARTS[scope]}.predictions')
        with DefaultScope.overwrite_default_scope(scope):
            super().__init__(cfg, self._checkpoint, device, scope, show_progress=False)
        meta = self.visualizer.dataset_meta or {}
        self.classes: tuple[str, ...] = tuple(meta.get('classes') or ())

    def _init_model(
        self, cfg: Config | ConfigDict, weights: str | None, device: str = 'cpu'
    ) -> nn.Module:
        """The model in eval mode; SyncBN, which only several processes need, is BN."""
        return revert_sync_batchnorm(super()._init_model(cfg, weights, device))

    def _load_weights_to_model(
        self, model: nn.Module, checkpoint: dict | None, cfg: Config | ConfigDict | None
    ) -> None:
        """Load the weights, once it is sure that nothing stays random."""
        assert checkpoint is not None
        report = compare_keys(model, checkpoint.get('state_dict', checkpoint))
        check_fit(
            report,
            model,
            self._checkpoint,
            allow_missing=False,
            remedy='give the config that it was trained with',
        )
        super()._load_weights_to_model(model, checkpoint, cfg)
        self._known_meta = checkpoint.get('meta', {}).get('dataset_meta') or {}

    def _init_pipeline(self, cfg: Config | ConfigDict) -> Compose:
        """The test pipeline without annotations; another one for arrays."""
        steps = [
            step
            for step in innermost_dataset(cfg.test_dataloader.dataset).pipeline
            if 'Annotation' not in type_name(step) and type_name(step) != _IF_FILE
        ]
        loaders = [step for step in steps if type_name(step).startswith('Load')]
        rest = [step for step in steps if step not in loaders]
        converts = exchanges_channels(self.model.data_preprocessor)
        count = input_channels(self.model)
        self.channels = (count,)
        if loaders:
            kind = loaders[0].get('color_type', 'color')
            if type_name(loaders[0]) == _LOADER and kind.startswith('color'):
                # Its later steps may make the model's channels of three.
                self.channels = tuple(dict.fromkeys((count, 3)))
            self.is_bgr = True
            self._array_pipeline = Compose(rest)
            return Compose(steps)
        # A set such as CIFAR holds arrays, and its pipeline loads nothing. What is
        # loaded or given is BGR; the network expects the arrays' order.
        self.is_bgr = converts
        order = [] if converts else [_exchange_channels]
        self._array_pipeline = Compose([*order, *rest])
        kind = {1: 'grayscale', 3: 'color'}.get(count, 'unchanged')
        return Compose([dict(type=_LOADER, color_type=kind), *order, *rest])

    def _init_collate(self, cfg: Config | ConfigDict) -> Callable:
        """Lists, which the data preprocessor of every host takes."""
        return pseudo_collate

    def _init_visualizer(self, cfg: Config | ConfigDict) -> Visualizer:
        """The config's visualizer, without backends: it only draws."""
        given = cfg.get('visualizer') or dict(type='Visualizer')
        name = f'attention-{time.perf_counter_ns()}'
        visualizer = VISUALIZERS.build(dict(given, name=name, vis_backends=None))
        visualizer.dataset_meta = class_meta(
            self._known_meta, innermost_dataset(cfg.test_dataloader.dataset)
        )
        return visualizer


def _exchange_channels(results: dict[str, Any]) -> dict[str, Any]:
    """A step of a pipeline: RGB from BGR, where there are three channels or more."""
    image = results['img']
    if image.ndim == 2 or image.shape[2] < 3:
        return results
    order = [2, 1, 0, *range(3, image.shape[2])]
    return dict(results, img=np.ascontiguousarray(image[..., order]))
