"""A trained classifier, what it predicts, and every kind of map of what it looks at."""

import importlib
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from torch import Tensor

from aib_mm.errors import UsageError
from aib_mm.features import AttentionModule
from aib_mm.hosts import HOST_PARTS
from aib_mm.interpret.measure.edits import generator_for
from aib_mm.interpret.record.baselines import center_map, occlusion_map, random_map
from aib_mm.interpret.record.levels import combine_levels
from aib_mm.interpret.record.source import ClassActivationSource, MapSource, read_source
from aib_mm.interpret.result import levels_of
from aib_mm.training.checkpoint_fit import check_fit, check_no_nan
from aib_mm.training.checkpoint_keys import compare_keys, read_state_dict
from aib_mm.utils.configs import hooks_of, model_settings, type_name
from aib_mm.utils.files import file_sha256
from aib_mm.utils.libraries import MissingLibraryError

SCOPE = 'mmpretrain'
OWN, OCCLUSION, CENTER, RANDOM = 'attention', 'occlusion', 'center', 'random'
#: Names of maps that no source gives.
BASELINES = (OCCLUSION, CENTER, RANDOM)


class Look(NamedTuple):
    """A batch as the network sees it, what it predicts, and one map of each image.

    Attributes:
        inputs: ``(B, C, H, W)``, normalised.
        labels: true classes ``(B,)``.
        predicted: classes ``(B,)``, on the inputs' device.
        maps: ``(B, h, w)``, on the CPU.
    """

    inputs: Tensor
    labels: Tensor
    predicted: Tensor
    maps: Tensor


class MapModel:
    """A trained classifier that does not sample, and the maps of its images.

    It predicts from the mean attention and the mean latent: a prediction that changes
    by itself would count as changed by an edit. Class activation and occlusion explain
    the class that it predicts; the other maps know no class.

    Args:
        cfg: config of a classifier of mmpretrain.
        checkpoint: path or address of the model's checkpoint.
        options: options of the program: ``device``, ``level`` and ``seed``.
        window: side of the occlusion in pixels; None for a quarter of the shorter side.

    Raises:
        UsageError: another toolkit's config, or a multi-label head.
        CheckpointError: an unusable checkpoint, or one that lacks weights.

    Attributes:
        attends: names of the classes that attend, for people; '' if there are none.
        weights: SHA-256 of the checkpoint's content, or its address.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str,
        options: Namespace,
        window: int | None = None,
    ) -> None:
        self.cfg = cfg
        self.checkpoint = checkpoint
        self.seed = options.seed
        self.window = window
        device = options.device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.model = trained_model(cfg, checkpoint).to(device).eval()
        # The classifiers' part alone imports mmpretrain.
        predictions = importlib.import_module(f'{HOST_PARTS[SCOPE]}.predictions')
        if predictions.has_several_labels(self.model):
            raise UsageError(
                f'{cfg.filename}: {type(self.model.head).__name__} gives an image '
                'several classes, but these tables follow the one that it predicts'
            )
        self.weights = content_of(checkpoint)
        kinds = [m for m in self.model.modules() if isinstance(m, AttentionModule)]
        self.attends = ' and '.join(dict.fromkeys(type(m).__name__ for m in kinds))
        self.level = level_of(cfg) if options.level is None else options.level
        self.sources: dict[str, MapSource] = {}

    def prepare(self, names: Sequence[str], example: Mapping[str, Any]) -> None:
        """Try every map on an image; class activation then knows its layer.

        Args:
            names: names of the maps that are wanted: ``BASELINES``, and sources as
                ``read_source`` takes them.
            example: an item of the test set.

        Raises:
            UsageError: another name, a level, a module or a window that the model does
                not have, a missing library.
        """
        batch = pseudo_collate([example])
        try:
            for name in names:
                if name not in BASELINES:
                    self.sources[name] = _read_source(name)
                self.look(name, batch, [0])
        except (ValueError, MissingLibraryError) as error:
            raise UsageError(f'{self.cfg.filename}: {error}') from error

    def look(self, name: str, batch: dict[str, list], indices: Sequence[int]) -> Look:
        """Predict a batch, and make the map ``name`` of each image.

        Args:
            name: name of the map, see ``prepare``.
            batch: items of the data set, collated into lists.
            indices: indices of the images in the data set.
        """
        inputs = self.model.data_preprocessor(batch, False)['inputs']
        source = self.sources.get(name)
        if isinstance(source, ClassActivationSource):
            scores, maps = source.activate(self.model, inputs)
        elif source is not None:
            with source.record(self.model) as record:
                scores = self.predict(inputs)
            found = levels_of(source, record, self.level, images=len(inputs))
            maps = combine_levels(*found)[0].squeeze(1)
        else:
            scores = self.predict(inputs)
            maps = self._made(name, inputs, scores.argmax(dim=1), indices)
        labels = [int(sample.gt_label) for sample in batch['data_samples']]
        predicted = scores.argmax(dim=1)
        return Look(inputs, torch.tensor(labels), predicted, maps.float().cpu())

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """Probabilities ``(B, K)`` from the mean attention and the mean latent."""
        return self.model(inputs).softmax(dim=1)

    def title(self, name: str) -> str:
        """What a table calls a map."""
        return f'{name} ({self.attends})' if name == OWN else name

    def words(self, name: str) -> str:
        """What the map of a source is, for people."""
        source = self.sources[name]
        if isinstance(source, ClassActivationSource):
            return source.words
        return f'{source.words}, level {self.level}'

    def identity(self, name: str) -> list[Any]:
        """What a map depends on beside the config and the images."""
        depends = {OCCLUSION: self.window, RANDOM: self.seed, CENTER: None}
        if name in depends:
            return [self.weights, name, depends[name]]
        return [self.weights, str(self.sources[name]), self.level]

    def _made(
        self, name: str, inputs: Tensor, predicted: Tensor, indices: Sequence[int]
    ) -> Tensor:
        """One of ``BASELINES``."""
        size = (inputs.shape[-2], inputs.shape[-1])
        if name == CENTER:
            return center_map(size).expand(len(inputs), -1, -1)
        if name == RANDOM:
            seeds = [generator_for(self.seed, RANDOM, i) for i in indices]
            return torch.stack([random_map(size, seed) for seed in seeds])
        window = self.window or max(min(size) // 4, 1)
        stride = max(window // 2, 1)
        return occlusion_map(self.predict, inputs, predicted, window, stride)


def _read_source(name: str) -> MapSource:
    try:
        return read_source(name)
    except ValueError as error:
        others = ', '.join(BASELINES)
        raise ValueError(f'{error}; maps are also {others}') from error


def trained_model(cfg: Config, checkpoint: str) -> BaseModel:
    """The config's model with the checkpoint's weights, all of them, not sampling.

    Raises:
        UsageError: another toolkit's config.
        CheckpointError: an unusable checkpoint, or one that lacks weights.
    """
    if cfg.get('default_scope') != SCOPE:
        raise UsageError(
            f'{cfg.filename} is no classifier: default_scope must be {SCOPE!r}, got '
            f'{cfg.get("default_scope")!r}'
        )
    state_dict = read_state_dict(checkpoint)
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(model_settings(cfg))
    check_no_nan(model, state_dict, checkpoint)
    check_fit(
        compare_keys(model, state_dict),
        model,
        checkpoint,
        allow_missing=False,
        remedy=f'{cfg.filename} is not the config that it was trained with; python -m '
        'aib_mm compare CONFIG CHECKPOINT lists the keys',
    )
    load_checkpoint(model, checkpoint, map_location='cpu', logger='silent')
    for module in model.modules():
        if hasattr(module, 'test_samples'):
            module.test_samples = 0
    return model


def content_of(checkpoint: str) -> str:
    """What changes with the weights of a file; for an address, the address."""
    file = Path(checkpoint).expanduser()
    return file_sha256(file) if file.is_file() else checkpoint


def level_of(cfg: Config) -> str | int:
    """Level of the attention that the config's ``AttentionFieldsHook`` takes."""
    for hook in hooks_of(cfg):
        if type_name(hook) == 'AttentionFieldsHook' and 'level' in hook:
            return hook['level']
    return 'mean'
