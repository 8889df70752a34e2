"""Differences of the three toolkits on the command line: one table, ``TOOLKITS``.

Everything is done on the config, by registered names; no toolkit is imported.
"""

import logging
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from aib_mm.errors import UsageError, did_you_mean
from aib_mm.utils.configs import innermost_dataset, type_name

#: Metrics of what a single pass leaves, which can do without.
_OF_ONE_PASS = ('AttentionLocalization', 'LatentInformation', 'SamplesDrawn')


@dataclass(frozen=True)
class Drawing:
    """What ``--show``, ``--show-dir`` and the options that belong to them ask for.

    ``wait_time`` in seconds; ``interval`` in samples, None for the toolkit's own.
    """

    show: bool
    show_dir: str | None
    wait_time: float
    interval: int | None
    tta: bool


@dataclass(frozen=True)
class Toolkit:
    """One toolkit's conventions.

    Attributes:
        draw: switches the visualization hook (given as its config) on.
        tta_defaults: fills in ``tta_model`` and ``tta_pipeline`` where absent.
        dump: metric that writes predictions into a ``.pkl`` file; '' where the
            metric of the toolkit writes masks into a folder.
        loader_defaults: what a data loader gets where its config says nothing.
    """

    draw: Callable[[Config, ConfigDict, Drawing], None]
    tta_defaults: Callable[[Config], None]
    dump: str
    loader_defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def out_suffixes(self) -> tuple[str, ...]:
        """Allowed endings of a test's ``--out``; none for a folder."""
        return ('.pkl', '.pickle') if self.dump else ()

    def save_predictions(self, cfg: Config, out: str) -> None:
        """Make the test write its predictions to ``--out``.

        Raises:
            UsageError: the metric that would write them is not among the test's.
        """
        metrics = _metrics(cfg)
        if self.dump:
            metrics.append(ConfigDict(type=self.dump, out_file_path=out))
            return
        savers = [each for each in metrics if type_name(each) == 'IoUMetric']
        if not savers:
            raise UsageError(
                f'--out {out}: mmseg writes its masks through IoUMetric, which '
                f'test_evaluator of config {cfg.filename} does not have'
            )
        savers[0].update(output_dir=out, keep_results=True)


def toolkit_of(cfg: Config) -> Toolkit:
    """The toolkit that a config is written for, by its ``default_scope``.

    Raises:
        UsageError: ``default_scope`` is missing or names another toolkit.
    """
    scope = cfg.get('default_scope')
    if scope not in TOOLKITS:
        hint = did_you_mean(str(scope), TOOLKITS)
        raise UsageError(
            f'default_scope of config {cfg.filename} must be one of '
            f'{list(TOOLKITS)}, got {scope!r}; set it in the config or pass '
            f'--cfg-options default_scope=NAME' + (f'; {hint}' if hint else '')
        )
    return TOOLKITS[scope]


def enable_drawing(cfg: Config, drawing: Drawing) -> None:
    """Switch the visualization hook of the config on.

    Raises:
        UsageError: the config has no such hook, or it cannot do what is asked.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UsageError(
            '--show and --show-dir need a visualization hook; add '
            "visualization=dict(type='VisualizationHook') (DetVisualizationHook, "
            f'SegVisualizationHook) to default_hooks of config {cfg.filename}'
        )
    toolkit_of(cfg).draw(cfg, hook, drawing)


def enable_tta(cfg: Config) -> None:
    """Wrap the model and swap the test pipeline for test-time augmentation.

    Raises:
        UsageError: the config, or its toolkit, does not say how.
    """
    dataset = _test_set(cfg)
    toolkit_of(cfg).tta_defaults(cfg)
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    dataset.pipeline = cfg.tta_pipeline
    # What is true of one view is neither handed on nor measured.
    hooks = list(cfg.get('custom_hooks') or [])
    cfg.custom_hooks = [*hooks, dict(type='MergedFieldsHook')]
    for metric in _metrics(cfg):
        if type_name(metric) in _OF_ONE_PASS:
            metric['optional'] = True


def _test_set(cfg: Config) -> ConfigDict:
    try:
        return innermost_dataset(cfg.test_dataloader.dataset)
    except ValueError as error:
        raise UsageError(f'--tta, config {cfg.filename}: {error}') from error


def _metrics(cfg: Config) -> list[ConfigDict]:
    """The metrics of the test, as a list that may be appended to."""
    evaluator = cfg.get('test_evaluator')
    if isinstance(evaluator, dict) and 'metrics' in evaluator:  # a typed Evaluator
        holder, key = evaluator, 'metrics'
    else:
        holder, key = cfg, 'test_evaluator'
    found = holder[key]
    holder[key] = list(found) if isinstance(found, list | tuple) else [found]
    return holder[key]


def _draw_mmpretrain(_: Config, hook: ConfigDict, drawing: Drawing) -> None:
    if drawing.tta:
        raise UsageError(
            '--tta: the hook of mmpretrain draws plain test batches only; leave --tta '
            'or --show and --show-dir out'
        )
    hook.update(
        enable=True,
        show=drawing.show,
        wait_time=drawing.wait_time,
        out_dir=drawing.show_dir,
        interval=drawing.interval or 1,
    )


def _draw_mmdet(_: Config, hook: ConfigDict, drawing: Drawing) -> None:
    if drawing.interval is not None:
        raise UsageError(
            f'--interval {drawing.interval}: the hook of mmdet draws every test image; '
            f'leave --interval out'
        )
    hook.draw = True
    if drawing.show:
        hook.update(show=True, wait_time=drawing.wait_time)
    if drawing.show_dir:
        hook.test_out_dir = drawing.show_dir


def _draw_mmseg(cfg: Config, hook: ConfigDict, drawing: Drawing) -> None:
    hook.draw = True
    if drawing.interval is not None:
        hook.interval = drawing.interval
    if drawing.show:
        hook.update(show=True, wait_time=drawing.wait_time)
    if drawing.show_dir:
        cfg.visualizer.save_dir = drawing.show_dir


def _flip_pipeline(cfg: Config, last: ConfigDict, plain_first: bool) -> list:
    """The test pipeline, its last step done for the image and its mirror image.

    Annotations are loaded after the flip, and are those of the image in both views.

    Args:
        cfg: config with a test pipeline.
        last: its last step.
        plain_first: whether the host's merged prediction is the first view's sample,
            else the last's: the one whose flip it describes.
    """
    flips = [dict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)]
    steps = deepcopy(list(_test_set(cfg).pipeline[:-1]))
    annotations = [step for step in steps if 'Annotation' in type_name(step)]
    transforms = [
        flips[::-1] if plain_first else flips,
        *([step] for step in annotations),
        [last],
    ]
    before = [step for step in steps if step not in annotations]
    return [*before, dict(type='TestTimeAug', transforms=transforms)]


def _tta_mmpretrain(cfg: Config) -> None:
    cfg.setdefault('tta_model', ConfigDict(type='mmpretrain.AverageClsScoreTTA'))
    last = _test_set(cfg).pipeline[-1]
    cfg.setdefault('tta_pipeline', _flip_pipeline(cfg, last, plain_first=True))
    # It draws plain test batches only.
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook and hook.get('enable'):
        text = f'--tta: {type_name(hook)} of mmpretrain cannot draw augmented batches '
        print_log(f'{text}and is switched off', logger='current', level=logging.WARNING)
        hook.enable = False


def _tta_mmdet(cfg: Config) -> None:
    nms = dict(type='nms', iou_threshold=0.5)
    tta_cfg = dict(nms=nms, max_per_img=100)
    cfg.setdefault('tta_model', ConfigDict(type='DetTTAModel', tta_cfg=tta_cfg))
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    pack = ConfigDict(type='PackDetInputs', meta_keys=(*keys, 'flip', 'flip_direction'))
    cfg.setdefault('tta_pipeline', _flip_pipeline(cfg, pack, plain_first=True))


def _tta_mmseg(cfg: Config) -> None:
    cfg.setdefault('tta_model', ConfigDict(type='SegTTAModel'))
    last = _test_set(cfg).pipeline[-1]
    cfg.setdefault('tta_pipeline', _flip_pipeline(cfg, last, plain_first=False))
    heads = cfg.model.get('decode_head') or {}
    heads = heads if isinstance(heads, list | tuple) else [heads]
    if type_name(cfg.tta_model) == 'SegTTAModel' and any(
        head.get('out_channels') == 1 for head in heads
    ):
        raise UsageError(
            '--tta: SegTTAModel takes the sigmoid of what is a probability already '
            f'where out_channels=1, as in config {cfg.filename}, so that every pixel '
            'would be of the class: leave --tta out, or name another tta_model'
        )


TOOLKITS: Mapping[str, Toolkit] = {
    'mmpretrain': Toolkit(
        _draw_mmpretrain,
        _tta_mmpretrain,
        dump='mmengine.DumpResults',
        loader_defaults=dict(
            pin_memory=True,
            persistent_workers=True,
            collate_fn=dict(type='default_collate'),
        ),
    ),
    'mmdet': Toolkit(_draw_mmdet, _tta_mmdet, dump='mmdet.DumpDetResults'),
    'mmseg': Toolkit(_draw_mmseg, _tta_mmseg, dump=''),
}
