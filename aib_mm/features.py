"""What a module with attention hands on: tensors, and the attention behind them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from mmengine.model import BaseModule
from torch import Tensor

Maps = tuple[Tensor, ...]
AnyWithAttention = TypeVar('AnyWithAttention', bound='WithAttention')


class AttentionMaps(NamedTuple):
    """The attention of one level.

    ``mean`` and ``std`` are ``(B, 1, H, W)``, ``mean`` is not negative: in [0, 1] where
    a sigmoid makes it, on the method's own scale where a softmax over positions or a
    class activation map does. ``samples`` are the maps that modulated the features,
    ``(L_a, B, 1, H, W)``: quantised in a qt model, and then ``indices`` says which
    anchor each position took.
    """

    mean: Tensor
    std: Tensor
    samples: Tensor
    indices: Tensor | None

    @classmethod
    def certain(cls, attention: Tensor) -> 'AttentionMaps':
        """Of a method whose attention is not random: its only sample, without std."""
        return cls(attention, torch.zeros_like(attention), attention.unsqueeze(0), None)


class WithAttention(tuple[Tensor, ...]):
    """Tensors, as an ordinary tuple, with the attention behind them.

    Args:
        tensors: the tuple's elements.
        attention: per level.
    """

    attention: tuple[AttentionMaps, ...]

    def __new__(
        cls: type[AnyWithAttention],
        tensors: Iterable[Tensor],
        attention: Iterable[AttentionMaps],
    ) -> AnyWithAttention:
        self = super().__new__(cls, tensors)
        self.attention = tuple(attention)
        return self


class AttentionModule(BaseModule):
    """A module whose forward pass returns ``WithAttention``.

    By this class whatever looks at attention (recording, fields of the data samples,
    monitoring) finds that of every method, wherever in the model it is.
    """

    def forward(self, *args: Any, **kwargs: Any) -> WithAttention:
        """Compute, and hand on the maps."""
        raise NotImplementedError


class _Receipt:
    """Whether the losses were taken.

    An object of its own: a tensor's hook that held the features would hold itself, and
    with it the memory of a whole iteration.
    """

    given = False

    def check(self, grad: Tensor) -> None:
        if not self.given:
            raise RuntimeError(
                'the quantisation losses of AIBAttention were not taken by any head, '
                "so its anchors would never learn: add dict(type='AIBLossHook') to "
                'custom_hooks, or use a head of aib_mm'
            )


class ExpectedFeatures(tuple[Tensor, ...]):
    """Feature maps that no noise has touched: a head draws nothing either.

    What ``mode='tensor'`` predicts from.
    """


class Samples(NamedTuple):
    """Feature maps under some samples of the attention, sample-major.

    ``maps`` are per level ``(num_samples·B, C, H, W)``.
    """

    maps: Sequence[Tensor]
    num_samples: int


class AttendedFeatures(WithAttention):
    """Feature maps with the attention they went through; what ``AIBAttention`` gives.

    As a tuple it is what any head expects: one map ``(B, C, H, W)`` per level, under
    the one sample or, with several, under the mean of the sampled attention maps.

    Args:
        maps: the tuple's elements.
        samples: computes the samples, as many attention maps at a time as it is told.
        expected: computes ``expected``.
        attention: per level.
        losses: unweighted.
        num_samples: L.
        noisy: see below.
        sample_chunk: how many attention maps ``chunks`` takes at a time; None is all.

    Attributes:
        attention: per level ``AttentionMaps``.
        num_samples: ``L = L_a``, times the noise's L_z if there is noise.
        noisy: whether the neck puts noise on the features before the modulation.
    """

    num_samples: int
    noisy: bool
    _samples: Maps | None
    _compute_samples: Callable[[int], Iterator[Samples]]
    _compute_expected: Callable[[], Maps]
    _losses: dict[str, Tensor]
    _receipt: _Receipt
    _guarded: bool
    _sample_chunk: int | None

    def __new__(
        cls,
        maps: Iterable[Tensor],
        samples: Callable[[int], Iterator[Samples]],
        expected: Callable[[], Maps],
        attention: Iterable[AttentionMaps],
        losses: Mapping[str, Tensor],
        num_samples: int,
        noisy: bool = False,
        sample_chunk: int | None = None,
    ) -> 'AttendedFeatures':
        self = super().__new__(cls, maps, attention)
        self.num_samples = num_samples
        self.noisy = noisy
        self._samples = tuple(self) if num_samples == 1 else None
        self._compute_samples = samples
        self._compute_expected = expected
        self._losses = dict(losses)
        self._receipt = _Receipt()
        self._guarded = False
        self._sample_chunk = sample_chunk
        return self

    @property
    def samples(self) -> Maps:
        """Per level ``(L·B, C, H, W)``, sample-major: the features under each sample.

        Several samples are computed when first asked for: a head that knows nothing of
        them does not pay for them.
        """
        if self._samples is None:
            (found,) = self._compute_samples(self.num_samples)
            self._samples = tuple(found.maps)
            self._guard(self._samples)
        return self._samples

    def chunks(self, size: int | None = None) -> Iterator[Samples]:
        """``samples``, a few at a time, so that memory does not grow with their number.

        A chunk is computed when it is asked for, and not kept: iterate with ``map``,
        whose function lets go of one chunk before the next is computed. Once
        ``samples`` has been read they are there, and come in one.

        Args:
            size: attention maps in a chunk; by default what the neck says.
        """
        size = size or self._sample_chunk
        if size is None or self._samples is not None:
            yield Samples(self.samples, self.num_samples)
        else:
            yield from self._compute_samples(size)

    @property
    def expected(self) -> ExpectedFeatures:
        """Per level ``(B, C, H, W)``: the features under the mean attention, noiseless.

        Computed when asked for. A head's ``mode='tensor'`` reads it, so that counting
        operations and exporting see one pass, whose result is not random.
        """
        return ExpectedFeatures(self._compute_expected())

    @property
    def losses(self) -> dict[str, Tensor]:
        """``vq_loss`` and ``commit_loss``, unweighted scalars; empty if not quantised.

        Reading it takes the responsibility: whoever reads adds them to the loss.
        """
        self._receipt.given = True
        return dict(self._losses)

    @property
    def losses_taken(self) -> bool:
        """Whether somebody has read ``losses``."""
        return self._receipt.given

    def require_taken(self) -> None:
        """Let a backward pass that reaches these features with the losses unread fail.

        Raises:
            RuntimeError: in that backward pass, which is the first one in training.
        """
        self._guarded = True
        self._guard(self)

    def _guard(self, maps: Iterable[Tensor]) -> None:
        for features in maps:
            if self._guarded and features.requires_grad:
                features.register_hook(self._receipt.check)


def all_samples(feats: Sequence[Tensor]) -> Samples:
    """What a head predicts from: every sample, or the only one of plain features."""
    if isinstance(feats, AttendedFeatures):
        return Samples(feats.samples, feats.num_samples)
    return Samples(feats, 1)


def sample_chunks(
    feats: Sequence[Tensor], size: int | None = None
) -> Iterator[Samples]:
    """What a head predicts from, chunk by chunk; plain features are one chunk.

    Args:
        feats: what the neck gave.
        size: see ``AttendedFeatures.chunks``.
    """
    if isinstance(feats, AttendedFeatures):
        return feats.chunks(size)
    return iter([Samples(feats, 1)])
