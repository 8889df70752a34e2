"""A trained classifier and where its maps come from: attention, or class activation."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from aib_mm.errors import UsageError
from aib_mm.experiments.maps.data import SCOPE
from aib_mm.features import AttentionModule
from aib_mm.interpret.record.class_activation import (
    METHODS,
    check_library,
    class_activation,
    default_layer,
)
from aib_mm.interpret.record.fields import combine_levels
from aib_mm.interpret.record.recording import record_attention
from aib_mm.training.checkpoint_fit import check_fit
from aib_mm.training.checkpoint_keys import compare_keys, read_state_dict
from aib_mm.utils.configs import type_name
from aib_mm.utils.libraries import MissingLibraryError


@dataclass(frozen=True)
class MapSettings:
    """How maps are read.

    Attributes:
        level: of the attention, see ``fields.combine_levels``; None for what the
            config's ``AttentionFieldsHook`` says, or else the mean.
        cam_method: for a model without attention, see ``class_activation``.
        cam_layer: its layer; None for ``default_layer``.
        device: for torch.
    """

    level: str | int | None = None
    cam_method: str = METHODS[0]
    cam_layer: str | None = None
    device: str = 'cpu'


class MapReader:
    """Class and map of every image, without sampling.

    The model predicts from the mean attention and the mean latent: a prediction that
    changes by itself would count as changed by an edit.

    Args:
        cfg: of a classifier of mmpretrain.
        checkpoint: of this config's model.
        settings: how maps are read.
        example: an item of the test set, to find a layer by.

    Raises:
        UsageError: another toolkit's config, a level or layer that the model does not
            have, no attention and no library for class activation.
        CheckpointError: an unusable checkpoint, or one that lacks weights.

    Attributes:
        name: what the maps are, in words.
        weights: of the checkpoint's content, or its address.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str,
        settings: MapSettings,
        example: Mapping[str, Any],
    ) -> None:
        self.settings = settings
        self.config = str(cfg.filename)
        self.model = trained_model(cfg, checkpoint).to(settings.device).eval()
        self.weights = content_of(checkpoint)
        self.attends = any(isinstance(m, AttentionModule) for m in self.model.modules())
        example = pseudo_collate([example])
        if self.attends:
            self.level = level_of(cfg) if settings.level is None else settings.level
            self.name = f'attention, level {self.level}'
        else:
            try:
                check_library()
            except MissingLibraryError as error:
                raise UsageError(f'{self.config} has no attention; {error}') from error
            self.layer = cam_layer(self.model, example, settings.cam_layer, self.config)
            self.name = f'{settings.cam_method} of {self.layer}'
        try:
            self(example)
        except ValueError as error:
            raise UsageError(f'{self.config}: {error}') from error

    def __call__(self, batch: dict[str, list]) -> tuple[Tensor, Tensor]:
        """Classes ``(B,)`` and maps ``(B, h, w)``, on the CPU.

        Args:
            batch: items of the data set, collated into lists.
        """
        data = self.model.data_preprocessor(batch, False)
        if self.attends:
            scores, maps = attention_maps(self.model, data, self.level)
        else:
            layer = self.model.get_submodule(self.layer)
            scores, maps = class_activation(
                self.model, layer, data['inputs'], self.settings.cam_method
            )
        return scores.argmax(dim=1).cpu(), maps.float().cpu()


@torch.no_grad()
def attention_maps(
    model: nn.Module, data: Mapping[str, Any], level: str | int
) -> tuple[Tensor, Tensor]:
    """Scores ``(B, K)`` and attention ``(B, h, w)`` of a preprocessed batch."""
    with record_attention(model) as record:
        samples = model(**data, mode='predict')
    levels = [maps for passes in record.values() for each in passes for maps in each]
    mean, _ = combine_levels(levels, level)
    return torch.stack([s.pred_score for s in samples]), mean.squeeze(1)


def cam_layer(
    model: nn.Module, example: dict[str, list], wanted: str | None, config: str
) -> str:
    """The layer that class activation maps are taken at.

    Args:
        model: a classifier of mmpretrain.
        example: a batch of one item.
        wanted: its name; None for ``default_layer``.
        config: of the model, for messages.

    Raises:
        UsageError: there is no such layer.
    """
    names = [name for name, _ in model.named_modules() if name]
    if wanted is None:
        inputs = model.data_preprocessor(example, False)['inputs']
        try:
            return default_layer(model, inputs)
        except ValueError as error:
            raise UsageError(f'{config}: {error}, with --cam-layer') from error
    if wanted not in names:
        raise UsageError(
            f'--cam-layer {wanted}: the model of {config} has no such layer; it has '
            f'{", ".join(names)}'
        )
    return wanted


def trained_model(cfg: Config, checkpoint: str) -> nn.Module:
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
    # As the Runner does.
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor', {}))
    with DefaultScope.overwrite_default_scope(SCOPE):
        model = MODELS.build(cfg.model)
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
    """What changes with the weights of a file; of an address the address."""
    file = Path(checkpoint).expanduser()
    if not file.is_file():
        return checkpoint
    return hashlib.sha256(file.read_bytes()).hexdigest()


def level_of(cfg: Config) -> str | int:
    """As the config's ``AttentionFieldsHook`` has it."""
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook) == 'AttentionFieldsHook' and 'level' in hook:
            return hook['level']
    return 'mean'
