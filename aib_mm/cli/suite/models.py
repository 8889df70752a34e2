"""Time and memory of whole models beside the vanilla ones, weights and images random.

Models are of full size unless a row says otherwise; all of a group are in one process.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from aib_mm.cli.benchmark_model import TRAIN, Job, Subject
from aib_mm.cli.benchmark_suite import (
    RATIO,
    SuiteRow,
    median_row,
    peak_bytes,
    ratios,
    timed,
)
from aib_mm.cli.grid_rows import read_rows
from aib_mm.demo.models import config_path
from aib_mm.inference import prepare_by_name

VGG = ('mmpretrain/vgg16_cifar10.py', (32, 32))
VGG_AIB = ('mmpretrain/vgg16_aib_cifar10.py', (32, 32))
VGG_QT = ('mmpretrain/vgg16_aib_qt_cifar10.py', (32, 32))
WRN = ('mmpretrain/wrn28-10_cifar10.py', (32, 32))
WRN_AIB = ('mmpretrain/wrn28-10_aib_cifar10.py', (32, 32))
FASTER = ('mmdet/faster_rcnn_r50_digitscenes.py', (256, 256))
FASTER_QT = ('mmdet/faster_rcnn_r50_aib_qt_digitscenes.py', (256, 256))
UPERNET = ('mmseg/upernet_beit.py', (256, 256))
UPERNET_QT = ('mmseg/upernet_beit_aib_qt.py', (256, 256))

TEST_BATCHES = (1, 32)
TRAIN_BATCHES = (32, 128)
WRN_BATCH = 2

#: Compiled, a row would take minutes before it begins.
INFERENCE = (('fold', 'channels-last'), ('fold', 'channels-last', 'bf16'))

#: Random weights propose what they will; so both models have equally many boxes.
EQUAL_BOXES = (
    'model.train_cfg.rpn_proposal.max_per_img=600',
    'model.test_cfg.rpn.max_per_img=100',
)
#: BEiT's position embeddings are bound to the size of the image.
SMALL_IMAGES = (
    'model.data_preprocessor.size=(256,256)',
    'model.backbone.img_size=(256,256)',
    'model.test_cfg.mode=whole',
)

Model = tuple[str, tuple[int, int]]


def classifier_rows(rounds: int) -> Iterator[SuiteRow]:
    """VGG and WRN."""
    for batch in TEST_BATCHES:
        yield from _vgg_test(batch, rounds)
    for batch in TRAIN_BATCHES:
        names = [('VGG-aib', VGG_AIB, 1.03), ('VGG-aib-qt', VGG_QT, 1.05)]
        yield from _training('VGG', VGG, names, batch, rounds)
    yield from _wrn(rounds)


def detector_rows(rounds: int) -> Iterator[SuiteRow]:
    """Faster R-CNN R50."""
    models = [('Faster R-CNN-aib-qt', FASTER_QT, 1.05)]
    name = 'Faster R-CNN'
    yield from _training(name, FASTER, models, 1, rounds, EQUAL_BOXES)
    yield _one_pass(*models[0][:2], FASTER, rounds, EQUAL_BOXES)


def segmentor_rows(rounds: int) -> Iterator[SuiteRow]:
    """UperNet-BEiT."""
    models = [('UperNet-BEiT-aib-qt', UPERNET_QT, 1.05)]
    name = 'UperNet-BEiT'
    yield from _training(name, UPERNET, models, 2, rounds, SMALL_IMAGES)
    yield _one_pass(*models[0][:2], UPERNET, rounds, SMALL_IMAGES)


def memory_rows(rounds: int) -> Iterator[SuiteRow]:
    """Of a test with the samples one at a time; nothing is random in it."""
    chunked: list[tuple[str, Model, int, Sequence[str]]] = [
        ('VGG-aib-qt', VGG_QT, 32, ()),
        ('Faster R-CNN-aib-qt', FASTER_QT, 1, EQUAL_BOXES),
        ('UperNet-BEiT-aib-qt', UPERNET_QT, 1, SMALL_IMAGES),
    ]
    for name, model, batch, options in chunked:
        one_by_one = [*options, 'model.neck.sample_chunk=1']
        subject = _subject(model, batch, one_by_one)
        one, four = (
            peak_bytes(subject.step(f'test, L_a = {count}')) for count in (1, 4)
        )
        yield SuiteRow(
            f'{name}, memory of four samples',
            f'peak of a test with sample_chunk=1, beside one sample; {_about(subject)}',
            1.2,
            four / one,
            RATIO,
            0.0,
        )


def _vgg_test(batch: int, rounds: int) -> Iterator[SuiteRow]:
    vanilla, aib = _subject(VGG, batch), _subject(VGG_AIB, batch)
    prepared = [_prepared(VGG_AIB, batch, options) for options in INFERENCE]
    steps = [_test(vanilla), _test(aib), _bound(aib), *map(_test, prepared)]
    base, found, bound, *others = timed(steps, rounds)
    name = f'VGG-aib, 4×4 test, batch {batch}'
    about = 'beside backbone and attention branch once, encoder on four samples'
    yield median_row(f'{name}: bound', about, 1.05, ratios(found, bound))
    yield median_row(name, 'beside VGG', None, ratios(found, base))
    for options, times in zip(INFERENCE, others, strict=True):
        row = f'{name}: {", ".join(options)}'
        yield median_row(row, 'prepared, beside VGG as it is', 1.6, ratios(times, base))


def _bound(subject: Subject) -> Callable[[], Any]:
    """What four samples cannot do without, as calls of the model's own modules."""
    model = subject.model.eval()
    images = model.data_preprocessor(subject.data)['inputs']
    with torch.no_grad():
        samples = model.backbone(images)[-1].repeat(model.neck.test_samples, 1, 1, 1)

    @torch.no_grad()
    def step() -> None:
        model.neck.branches[0](model.backbone(images)[-1])
        model.head.encoder(samples, 1)

    return step


def _training(
    name: str,
    vanilla: Model,
    models: Sequence[tuple[str, Model, float]],
    batch: int,
    rounds: int,
    options: Sequence[str] = (),
) -> Iterator[SuiteRow]:
    """Time and memory of a training step beside the vanilla one's."""
    subjects = [
        _subject(model, batch, options)
        for model in (vanilla, *(model for _, model, _ in models))
    ]
    steps = [subject.step(TRAIN) for subject in subjects]
    base, *found = timed(steps, rounds)
    held, *peaks = map(peak_bytes, steps)
    about = f'beside {name}, {_about(subjects[0])}'
    for (title, _, aim), times, peak in zip(models, found, peaks, strict=True):
        row = f'{title}, training step'
        yield median_row(f'{row}, batch {batch}', about, aim, ratios(times, base))
        yield SuiteRow(
            f'{row}, batch {batch}: memory', about, aim, peak / held, RATIO, 0.0
        )


def _one_pass(
    name: str, model: Model, vanilla: Model, rounds: int, options: Sequence[str]
) -> SuiteRow:
    subjects = [_subject(one, 1, options) for one in (vanilla, model)]
    base, found = timed([one.step('test, L_a = 0') for one in subjects], rounds)
    about = f'mean attention, mean latent, beside vanilla; {_about(subjects[0])}'
    return median_row(f'{name}, test without samples', about, 1.03, ratios(found, base))


def _wrn(rounds: int) -> Iterator[SuiteRow]:
    """The aims are the ratios of the multiply-accumulates, which are counted."""
    vanilla, aib = _subject(WRN, WRN_BATCH), _subject(WRN_AIB, WRN_BATCH)
    base, found = timed([vanilla.step(TRAIN), aib.step(TRAIN)], rounds)
    base_test, found_test = timed([_test(vanilla), _test(aib)], rounds)
    one, other = vanilla.count(), aib.count()
    about = f'{_about(vanilla)}; the aim is the ratio of multiply-accumulates'
    yield median_row(
        'WRN-28-10-aib, training step',
        about,
        other.one_sample / one.one_sample,
        ratios(found, base),
    )
    yield median_row(
        'WRN-28-10-aib, 4×4 test',
        about,
        other.test / one.test,
        ratios(found_test, base_test),
    )


def _test(subject: Subject) -> Callable[[], Any]:
    """A prediction with as many samples as the config has."""
    subject.model.eval()
    return torch.no_grad()(partial(subject.model.test_step, subject.data))


def _prepared(model: Model, batch: int, options: Sequence[str]) -> Subject:
    subject = _subject(model, batch)
    prepare_by_name(subject.model.eval(), options)
    return subject


def _subject(model: Model, batch: int, options: Sequence[str] = ()) -> Subject:
    name, size = model
    host, _, file = name.partition('/')
    (row,) = read_rows([str(config_path(file, host))])
    threads = torch.get_num_threads()
    with contextlib.redirect_stdout(io.StringIO()):  # hosts print every parameter
        return Subject(Job(row, tuple(options), size, batch, 'cpu', threads))


def _about(subject: Subject) -> str:
    height, width = subject.image['inputs'][0].shape[-2:]
    return f'{subject.batch} of {height}×{width}'
