"""Time and memory of the quantiser alone."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aib_mm.cli.benchmark_suite import (
    SuiteRow,
    median_row,
    peak_bytes,
    ratios,
    spread,
    timed,
)
from aib_mm.quantizer import VQAnchorQuantizer

LARGE, SMALL = (16, 1, 512, 512), (64, 1, 16, 16)
ANCHORS = (20, 50, 4096)


def quantizer_rows(rounds: int) -> Iterator[SuiteRow]:
    """Of a large and a small map, eager and compiled."""
    yield from _eager('quantiser, large map', LARGE, 30.0, rounds)
    yield from _eager('quantiser, small map', SMALL, 0.5, rounds)
    yield from _compiled(rounds)
    for count in ANCHORS:
        yield _memory(count)


def _eager(
    name: str, shape: tuple[int, ...], aim: float, rounds: int
) -> Iterator[SuiteRow]:
    scores, gradient = torch.rand(shape, requires_grad=True), torch.randn(shape)
    steps = [
        partial(_step, VQAnchorQuantizer(count), scores, gradient) for count in ANCHORS
    ]
    copy, *found = timed([_copy(scores), *steps], rounds)
    for count, seconds in zip(ANCHORS, found, strict=True):
        yield SuiteRow(
            f'{name}, Q = {count}',
            f'forward and backward of {_size(shape)} scores',
            aim,
            1000 * statistics.median(seconds),
            'ms',
            1000 * spread(seconds),
            statistics.median(ratios(seconds, copy)),
        )


def _compiled(rounds: int) -> Iterator[SuiteRow]:
    """With all results, and as a model trains that leaves the indices unused."""
    scores, gradient = torch.rand(LARGE, requires_grad=True), torch.randn(LARGE)
    names, steps = [], []
    for count in ANCHORS:
        quantizer = VQAnchorQuantizer(count)
        used: dict[str, Callable[[Tensor], Any]] = {
            '': quantizer,
            ', indices unused': partial(_without_indices, quantizer),
        }
        for name, called in used.items():
            compiled = torch.compile(called, dynamic=False)
            names.append(f'quantiser, compiled, Q = {count}{name}')
            steps.append(partial(_step, compiled, scores, gradient))
    copy, *found = timed([_copy(scores), *steps], rounds)
    what = f'forward and backward of {_size(LARGE)} scores by torch.compile'
    for name, seconds in zip(names, found, strict=True):
        yield median_row(name, what, 6.0, ratios(seconds, copy), 'copies')


def _without_indices(
    quantizer: VQAnchorQuantizer, scores: Tensor
) -> tuple[Tensor, ...]:
    return quantizer(scores)[:3]


def _memory(num_anchors: int) -> SuiteRow:
    scores, gradient = torch.rand(LARGE, requires_grad=True), torch.randn(LARGE)
    step = partial(_step, VQAnchorQuantizer(num_anchors), scores, gradient)
    return SuiteRow(
        f'quantiser, memory, Q = {num_anchors}',
        'peak of a step, results included, as a multiple of the map',
        5.0,
        peak_bytes(step) / scores.nbytes,
        'maps',
        0.0,
    )


def _step(quantizer: Callable[[Tensor], Any], scores: Tensor, gradient: Tensor) -> None:
    scores.grad = None
    values, vq_loss, commit_loss, *_ = quantizer(scores)
    torch.autograd.backward((values, vq_loss, commit_loss), (gradient, None, None))


def _copy(scores: Tensor) -> Callable[[], Tensor]:
    return partial(torch.clone, scores.detach())


def _size(shape: tuple[int, ...]) -> str:
    return '×'.join(map(str, shape))
