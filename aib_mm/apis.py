"""Predict images with a model of any host and see what it looks at.

``AttentionInferencer(config, checkpoint)(images)``; the command line around it is
``tools/visualize_attention.py``.
"""

import copy
import importlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import groupby
from numbers import Integral
from pathlib import Path
from typing import Any, NoReturn

import matplotlib
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.infer import BaseInferencer
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, VISUALIZERS, DefaultScope
from mmengine.visualization import Visualizer
from torch import nn

from aib_mm import register
from aib_mm.errors import DataError, InferenceError, check_count, choose, is_number
from aib_mm.hosts import HOST_PARTS, config_path
from aib_mm.interpret.draw.writer import ResultWriter
from aib_mm.interpret.record.information import (
    LatentRows,
    information_of_images,
    record_latents,
)
from aib_mm.interpret.record.inputs import (
    Failure,
    ImageInput,
    Item,
    Loaded,
    dataset_items,
    exchanges_channels,
    failure_of,
    image_items,
    load_batches,
    network_input,
)
from aib_mm.interpret.record.recording import AttentionRecord
from aib_mm.interpret.record.source import read_source
from aib_mm.interpret.record.windows import slide_windows
from aib_mm.interpret.result import AttentionResult, Pixels, levels_of, of_image
from aib_mm.training.checkpoint import check_checkpoint
from aib_mm.training.checkpoint_fit import check_fit, check_no_nan
from aib_mm.training.checkpoint_keys import compare_keys
from aib_mm.utils.configs import innermost_dataset, model_settings, type_name
from aib_mm.utils.shipped import shipped_model
from aib_mm.utils.wrappers import input_channels

_LOADER = 'LoadImageFromFile'
_IF_FILE = 'LoadImageIfFile'  # of sets that hold arrays


class AttentionInferencer(BaseInferencer):
    """A model of mmpretrain, mmdet or mmseg that shows what it looks at.

    The model, its test pipeline and its visualizer are the config's; the default scope
    is left as it was::

        inferencer = AttentionInferencer('config.py', 'epoch_6.pth')
        for result in inferencer('photos/', out_dir='looked_at'):
            print(result.name, result.outcome.predicted, result.uncertainty)

    Args:
        config: path, ``'mmpretrain::FOLDER/FILE.py'`` (mmdet and mmseg likewise) or
            ``Config``, of any model with attention; with another source, of any model.
            Without a ``checkpoint`` the name of a model that comes trained with the
            package, such as ``'vgg16-narrow_aib_priced_digitscenes'``.
        checkpoint: file or address of its weights.
        device: device that the model runs on.
        level: choice of the attention shown, as ``combine_levels`` takes it.
        min_score: least score of boxes that count as found and are drawn.
        source: what the maps are: ``'attention'``; ``'bits'``, what each position lets
            through (``modulation='replace'``); ``'features:MODULE'``, the mean over the
            channels of what a module returns; ``'gate:MODULE'``, a map of one channel;
            ``'gradcam'`` or ``'gradcam:MODULE'``, Grad-CAM of the prediction (the
            predicted class, all boxes found, all pixels).

    Attributes:
        classes: names of the classes; empty if neither checkpoint nor data set knows.
        is_bgr: whether the test pipeline hands the network's images over as BGR.
        channels: numbers of channels that an array may have.
        model_seconds: time that the model took in the last call.

    Raises:
        CheckpointError: it cannot be read, or lacks weights of the model.
        FileNotFoundError: a host's config that is not there.
        MissingLibraryError: Grad-CAM's library is not installed.
        ValueError: another source, a model without attention or without this module,
            a config of no known host, or no trained model of this name.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str = 'cpu',
        *,
        level: str | int = 'mean',
        min_score: float = 0.3,
        source: str = 'attention',
    ) -> None:
        self.source = read_source(source)
        if level != 'mean':
            check_count("level, if it is not 'mean',", level, -1)
        self.level = level
        if not is_number(min_score) or not 0 <= min_score <= 1:
            raise ValueError(f'min_score must be in [0, 1], got {min_score!r}')
        self.min_score = min_score
        if str(device).startswith('cuda') and not torch.cuda.is_available():
            raise ValueError(f"device={device!r}, but torch finds no GPU: take 'cpu'")
        self.model_seconds = 0.0
        if checkpoint is None:
            if isinstance(config, Config):
                raise ValueError('a Config needs a checkpoint, the path of its weights')
            config, checkpoint = shipped_model(str(config))
        if isinstance(config, str | Path):
            config = Config.fromfile(config_path(config))
        cfg = copy.deepcopy(config)
        register(cfg)
        scope = cfg.get('default_scope')
        choose('default_scope of the config', scope, HOST_PARTS)
        check_checkpoint(checkpoint)
        cfg.model = model_settings(cfg)
        self._checkpoint = str(checkpoint)
        self._host = importlib.import_module(f'{HOST_PARTS[scope]}.predictions')
        with DefaultScope.overwrite_default_scope(scope):
            super().__init__(cfg, self._checkpoint, device, scope, show_progress=False)
        meta = self.visualizer.dataset_meta or {}
        self.classes: tuple[str, ...] = tuple(meta.get('classes') or ())

    def __call__(
        self,
        images: ImageInput | Sequence[ImageInput],
        out_dir: str | Path | None = None,
        *,
        batch_size: int = 1,
        seed: int | None = None,
    ) -> list[AttentionResult]:
        """Look at images.

        Args:
            images: files, folders, arrays ``(H, W, C)`` uint8 with the model's channels
                (BGR, as the hosts' inferencers want them; of one channel also ``(H,
                W)``), or a sequence of these.
            out_dir: also write pictures, arrays and a page there, as ``ResultWriter``
                does.
            batch_size: images of one size that the model gets at once.
            seed: start of the samples; None goes on with torch's generator.

        Returns:
            Results, one for each image, in order.

        Raises:
            DataError: an image that cannot be used, named; ``stream`` goes on.
            InferenceError: one that prediction and attention cannot be laid on.

        An image whose pictures cannot be written is named in a warning.
        """
        results = []
        with self.writer(out_dir) if out_dir else nullcontext() as writer:
            for result in self.stream(self.items(images), batch_size, seed):
                if isinstance(result, Failure):
                    _raise(result)
                if writer is not None:
                    writer.add(result)
                results.append(result)
        for failure in writer.failures if writer is not None else ():
            warnings.warn(f'{failure.name}: {failure.reason}', stacklevel=2)
        return results

    def items(self, images: ImageInput | Sequence[ImageInput]) -> list[Item]:
        """What ``stream`` takes, from what a call takes."""
        return image_items(images, self.pipeline, self._array_pipeline, self.channels)

    def split_items(self, split: str) -> list[Item]:
        """What ``stream`` takes: the images of ``'train'``, ``'val'`` or ``'test'``.

        They go through the test pipeline, annotations included.

        Raises:
            ValueError: another split, or one that the config does not have.
        """
        choose('split', split, ('train', 'val', 'test'))
        loader = self.cfg.get(f'{split}_dataloader')
        if loader is None:
            raise ValueError(
                f'{self.cfg.filename or "the config"} has no {split}_dataloader: add '
                'one, or take another split'
            )
        dataset = innermost_dataset(loader.dataset)
        dataset.pipeline = innermost_dataset(self.cfg.test_dataloader.dataset).pipeline
        dataset.test_mode = True
        with DefaultScope.overwrite_default_scope(self.scope):
            return dataset_items(DATASETS.build(dataset), dataset.get('data_root'))

    def stream(
        self, items: Iterable[Item], batch_size: int = 1, seed: int | None = None
    ) -> Iterator[AttentionResult | Failure]:
        """Yield results one by one, in order, without keeping them; loading runs ahead.

        Args:
            items: what ``items`` or ``split_items`` gave.
            batch_size, seed: what ``__call__`` takes.

        Yields:
            A ``Failure`` for an image that cannot be used.

        Raises:
            InferenceError: a source without a map, or of no prediction.
        """
        check_count('batch_size', batch_size, 1)
        if seed is not None:
            if not isinstance(seed, Integral):
                raise ValueError(f'seed must be an integer, got {seed!r}')
            torch.manual_seed(int(seed))
        self.model_seconds = 0.0
        for batch in self.preprocess(items, batch_size):
            yield from self.forward(batch)

    def writer(self, out_dir: str | Path, **options: Any) -> ResultWriter:
        """A writer of results to a folder; ``options`` are its arguments."""
        return ResultWriter(out_dir, self.draw, self.classes, **options)

    def draw(self, result: AttentionResult) -> Pixels:
        """The prediction as the host's visualizer draws it, RGB."""
        return self._host.draw(
            self.visualizer, result.image, result.prediction, self.min_score
        )

    def preprocess(
        self, inputs: Iterable[Item], batch_size: int = 1, **kwargs: Any
    ) -> Iterator[list[Loaded | Failure]]:
        """Batches as ``load_batches`` gives them."""
        return load_batches(inputs, batch_size)

    def forward(
        self, inputs: Sequence[Loaded | Failure], **kwargs: Any
    ) -> Iterator[AttentionResult | Failure]:
        """Predict what was loaded; images of different sizes apart.

        In one batch they would be padded, and a prediction would depend on the
        neighbours.
        """
        for _, run in groupby(inputs, _shape):
            tried = list(run)
            yield from (one for one in tried if isinstance(one, Failure))
            batch = [one for one in tried if isinstance(one, Loaded)]
            if batch:
                yield from self._tried(batch)

    def visualize(
        self, inputs: Any, preds: Sequence[AttentionResult], **kwargs: Any
    ) -> list[Pixels]:
        """Each prediction as the host's visualizer draws it."""
        return [self.draw(result) for result in preds]

    def postprocess(
        self, preds: list, visualization: Any, *args: Any, **kwargs: Any
    ) -> list[AttentionResult]:
        """Return the results: nothing is left to do."""
        return preds

    def _tried(self, batch: list[Loaded]) -> list[AttentionResult | Failure]:
        """Predictions; where a batch fails, each image by itself."""
        try:
            return list(self._predict(batch))
        except InferenceError:
            raise
        except Exception as error:  # whatever a model makes of an image
            if len(batch) == 1:
                return [failure_of(batch[0].name, error)]
            return [done for one in batch for done in self._tried([one])]

    def _predict(self, batch: list[Loaded]) -> Iterator[AttentionResult | Failure]:
        data = self.collate_fn(
            [dict(inputs=one.inputs, data_samples=one.data_sample) for one in batch]
        )
        device = next(self.model.parameters()).device
        # Generators and queues are those of the present GPU, which may be another one.
        with torch.cuda.device(device) if device.type == 'cuda' else nullcontext():
            size, predictions, record, rows = self._look(data)
        windows = slide_windows(self.model, size)
        levels, level = levels_of(self.source, record, self.level, windows, len(batch))
        information = information_of_images(rows, len(batch), windows)
        for i, one in enumerate(batch):
            prediction = predictions[i]
            told = information[i]
            outcome = self._host.read(prediction, self.min_score, self.model)
            for field in self._host.HEAVY_FIELDS:
                prediction.pop(field, None)
            try:
                frame, image = self._frame(one, prediction.metainfo)
            except InferenceError as error:
                yield failure_of(one.name, error)
                continue
            yield AttentionResult(
                one.name,
                image,
                prediction.cpu(),
                outcome,
                tuple(of_image(maps, i) for maps in levels),
                None if told is None else told.cpu(),
                level,
                frame,
                str(self.source),
                self.source.words,
            )

    def _look(
        self, data: dict[str, Any]
    ) -> tuple[tuple[int, int], Any, AttentionRecord, list[LatentRows]]:
        """Size of a batch's input, its predictions, its attention and its latents."""
        begin = time.perf_counter()
        rows: list[LatentRows] = []
        with DefaultScope.overwrite_default_scope(self.scope):
            with torch.no_grad():
                data = self.model.data_preprocessor(data, False)

            def predict() -> Any:
                regions = self._host.roi_extractors(self.model)
                with record_latents(self.model, regions) as found, torch.no_grad():
                    predictions = self.model(**data, mode='predict')
                rows.extend(found)
                return predictions

            scores = partial(self._host.scores, min_score=self.min_score)
            predictions, record = self.source.look(self.model, data, predict, scores)
        if next(self.model.parameters()).is_cuda:
            torch.cuda.synchronize()
        self.model_seconds += time.perf_counter() - begin
        return tuple(data['inputs'].shape[-2:]), predictions, record, rows

    def _frame(self, loaded: Loaded, meta: Mapping[str, Any]) -> tuple[str, Pixels]:
        """Frame of the image that the maps are laid on, and its pixels."""
        original, shown = tuple(meta['ori_shape'][:2]), tuple(meta['img_shape'][:2])
        told = meta.get('scale_factor')
        image = loaded.image
        if image is not None and image.shape[:2] != original:
            image = None
        if image is not None and (told or self._host.NEEDS_WHOLE_IMAGE):
            scale = told or (1, 1)
            whole = (original[0] * scale[1], original[1] * scale[0])
            if all(round(a) <= b for a, b in zip(whole, shown, strict=True)):
                return 'ori_shape', image
        if self._host.NEEDS_WHOLE_IMAGE:
            raise InferenceError(
                'the test pipeline crops, or changes the size without saying how, so '
                'that prediction and attention cannot be laid on the image; resize only'
            )
        seen = network_input(loaded.inputs, meta, self.is_bgr)
        # With no scale told a step may have enlarged a part (EfficientNetCenterCrop).
        if image is not None and not told and np.array_equal(seen, image):
            return 'ori_shape', image
        return 'img_shape', seen

    def _init_model(
        self, cfg: Config | ConfigDict, weights: str | None, device: str = 'cpu'
    ) -> nn.Module:
        """The model in eval mode; SyncBN, which only several processes need, is BN."""
        return revert_sync_batchnorm(super()._init_model(cfg, weights, device))

    def _load_weights_to_model(
        self, model: nn.Module, checkpoint: dict | None, cfg: Config | ConfigDict | None
    ) -> None:
        """Load the weights, all of them, of a model that has what is looked at."""
        assert checkpoint is not None
        self.source.modules(model)
        state_dict = checkpoint.get('state_dict', checkpoint)
        check_no_nan(model, state_dict, self._checkpoint)
        check_fit(
            compare_keys(model, state_dict),
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
        self.channels: tuple[int, ...] = (count,)
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
        visualizer.dataset_meta = _class_meta(
            self._known_meta, innermost_dataset(cfg.test_dataloader.dataset)
        )
        return visualizer


def _raise(failure: Failure) -> NoReturn:
    """Raise what is wrong with an image, where nothing else goes on without it."""
    if isinstance(failure.error, InferenceError):
        raise InferenceError(f'{failure.name}: {failure.reason}') from failure.error
    raise DataError(f'{failure.name} cannot be used: {failure.reason}') from (
        failure.error
    )


def _shape(one: Loaded | Failure) -> tuple[int, ...]:
    return () if isinstance(one, Failure) else tuple(one.inputs.shape)


def _class_meta(meta: Mapping[str, Any], dataset: ConfigDict) -> dict[str, Any]:
    """Names and colours of the classes, from whoever knows them; a colour for each.

    Args:
        meta: what the checkpoint says, which has the last word; keys in any case.
        dataset: config of the data set.
    """
    kind = dataset.type
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    registered = getattr(kind, 'METAINFO', {})
    known = {key.lower(): value for key, value in meta.items()}
    meta = {**registered, **(dataset.get('metainfo') or {}), **known}
    classes = meta.get('classes') or ()
    palette = meta.get('palette')
    known_colors = list(palette) if isinstance(palette, list | tuple) else []
    if len(known_colors) < len(classes):
        more = np.arange(len(known_colors), len(classes)) % 20
        colors = np.round(255 * matplotlib.colormaps['tab20'](more)[:, :3])
        meta['palette'] = [*known_colors, *colors.astype(int).tolist()]
    return meta


def _exchange_channels(results: dict[str, Any]) -> dict[str, Any]:
    """A step of a pipeline: RGB from BGR, where there are three channels or more."""
    image = results['img']
    if image.ndim == 2 or image.shape[2] < 3:
        return results
    order = [2, 1, 0, *range(3, image.shape[2])]
    return dict(results, img=np.ascontiguousarray(image[..., order]))
