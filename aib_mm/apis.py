"""Predict images with a model of any host and see what it looks at.

``AttentionInferencer(config, checkpoint)(images)``; the command line around it is
``tools/visualize_attention.py``.
"""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, DefaultScope
from torch import nn

from aib_mm.errors import DataError, InferenceError, check_count, choose
from aib_mm.interpret.draw.writer import ResultWriter
from aib_mm.interpret.record.host_inferencer import HostInferencer
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
    failure_of,
    image_items,
    load_batches,
    network_input,
)
from aib_mm.interpret.record.source import read_source
from aib_mm.interpret.record.windows import slide_windows
from aib_mm.interpret.result import (
    AttentionResult,
    Pixels,
    levels_of,
    of_image,
)
from aib_mm.utils.configs import innermost_dataset

SPLITS = ('train', 'val', 'test')


class AttentionInferencer(HostInferencer):
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
        source: what the maps are: ``'attention'``; ``'features:MODULE'``, the mean over
            the channels of what a module returns; ``'gate:MODULE'``, a map of one
            channel; ``'gradcam'`` or ``'gradcam:MODULE'``, Grad-CAM of the prediction
            (the predicted class, all boxes found, all pixels).

    Attributes:
        classes: names of the classes; empty if neither checkpoint nor data set knows.
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
        self.min_score = min_score
        self.model_seconds = 0.0
        super().__init__(config, checkpoint, device)

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
        choose('split', split, SPLITS)
        loader = self.cfg.get(f'{split}_dataloader')
        if loader is None:
            raise ValueError(f'the config has no {split}_dataloader')
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
            torch.manual_seed(seed)
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
    ) -> Iterator[list[tuple[str, Loaded] | Failure]]:
        """Batches as ``load_batches`` gives them."""
        return load_batches(inputs, batch_size)

    def forward(
        self, inputs: Sequence[tuple[str, Loaded] | Failure], **kwargs: Any
    ) -> Iterator[AttentionResult | Failure]:
        """Predict what was loaded; images of different sizes apart.

        In one batch they would be padded, and a prediction would depend on the
        neighbours.
        """
        for _, run in groupby(inputs, _shape):
            batch = []
            for one in run:
                if isinstance(one, Failure):
                    yield one
                else:
                    batch.append(one)
            if batch:
                yield from self._tried(batch)

    def visualize(
        self, inputs: Any, preds: Sequence[AttentionResult], **kwargs: Any
    ) -> list[Pixels]:
        """Each prediction as the host's visualizer draws it."""
        return [self.draw(result) for result in preds]

    def postprocess(
        self,
        preds: list[AttentionResult],
        visualization: Any,
        return_datasample: bool = False,
        **kwargs: Any,
    ) -> list[AttentionResult]:
        """Return the results: nothing is left to do."""
        return preds

    def _tried(
        self, batch: list[tuple[str, Loaded]]
    ) -> Iterator[AttentionResult | Failure]:
        """Predictions; where a batch fails, each image by itself."""
        try:
            results = list(self._predict(batch))
        except InferenceError:
            raise
        except Exception as error:  # whatever a model makes of an image
            if len(batch) == 1:
                yield failure_of(batch[0][0], error)
                return
            results = [done for one in batch for done in self._tried([one])]
        yield from results

    def _predict(
        self, batch: list[tuple[str, Loaded]]
    ) -> Iterator[AttentionResult | Failure]:
        loaded = [one for _, one in batch]
        data = self.collate_fn(
            [dict(inputs=one.inputs, data_samples=one.data_sample) for one in loaded]
        )
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
        self._synchronize()
        self.model_seconds += time.perf_counter() - begin
        windows = slide_windows(self.model, tuple(data['inputs'].shape[-2:]))
        levels = levels_of(record, self.level, windows, len(batch))
        information = information_of_images(rows, len(batch), windows)
        for i, (name, one) in enumerate(batch):
            prediction = predictions[i]
            outcome = self._host.read(prediction, self.min_score, self.model)
            for field in self._host.HEAVY_FIELDS:
                prediction.pop(field, None)
            try:
                frame, image = self._frame(one, prediction.metainfo)
            except InferenceError as error:
                yield failure_of(name, error)
                continue
            yield AttentionResult(
                name,
                image,
                prediction.cpu(),
                outcome,
                tuple(of_image(maps, i) for maps in levels),
                information[i],
                self.level,
                frame,
                str(self.source),
                self.source.words,
            )

    def _frame(self, loaded: Loaded, meta: Mapping[str, Any]) -> tuple[str, Pixels]:
        """Frame of the image that the maps are laid on, and its pixels."""
        original = tuple(meta['ori_shape'][:2])
        if loaded.image is not None and loaded.image.shape[:2] == original:
            scale = meta.get('scale_factor') or (1, 1)
            whole = (original[0] * scale[1], original[1] * scale[0])
            shown = meta['img_shape'][:2]
            if all(round(a) <= b for a, b in zip(whole, shown, strict=True)):
                return 'ori_shape', loaded.image
        if self._host.NEEDS_WHOLE_IMAGE:
            raise InferenceError(
                'the test pipeline crops, or changes the size without saying how, so '
                'that prediction and attention cannot be laid on the image; resize only'
            )
        return 'img_shape', network_input(loaded.inputs, meta, self.is_bgr)

    def _synchronize(self) -> None:
        if next(self.model.parameters()).is_cuda:
            torch.cuda.synchronize()

    def _load_weights_to_model(
        self, model: nn.Module, checkpoint: dict | None, cfg: Config | ConfigDict | None
    ) -> None:
        """Load the weights of a model that has what is looked at."""
        self.source.modules(model)
        super()._load_weights_to_model(model, checkpoint, cfg)


def _raise(failure: Failure) -> NoReturn:
    """Raise what is wrong with an image, where nothing else goes on without it."""
    if isinstance(failure.error, InferenceError):
        raise InferenceError(f'{failure.name}: {failure.reason}') from failure.error
    raise DataError(f'{failure.name} cannot be used: {failure.reason}') from (
        failure.error
    )


def _shape(one: tuple[str, Loaded] | Failure) -> tuple[int, ...]:
    return () if isinstance(one, Failure) else tuple(one[1].inputs.shape)
