"""What a module with attention hands on: tensors, and the attention behind them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from mmengine.model import BaseModule
from torch import Tensor

from aib_mm.modulation import Modulator
from aib_mm.quantizer import VQAnchorQuantizer

Maps = tuple[Tensor, ...]
AnyWithAttention = TypeVar('AnyWithAttention', bound='WithAttention')


class AttentionMaps(NamedTuple):
    """The attention of one level.

    ``mean`` and ``std`` are ``(B, 1, H, W)``, ``mean`` is not negative: in [0, 1] where
    a sigmoid makes it, on the method's own scale where a softmax over positions or a
    class activation map does. ``samples`` are the maps that modulated the features,
    ``(L_a, B, 1, H, W)``: quantised in a qt model, and then ``indices`` says which
    anchor each position took. ``nats`` ``(B, 1, H, W)`` is what each position lets
    through, all its channels together, where the neck reports it.
    """

    mean: Tensor
    std: Tensor
    samples: Tensor
    indices: Tensor | None = None
    nats: Tensor | None = None

    @classmethod
    def certain(cls, attention: Tensor) -> 'AttentionMaps':
        """Maps of a method whose attention is not random: one sample, without std."""
        return cls(attention, torch.zeros_like(attention), attention.unsqueeze(0))

    @property
    def is_certain(self) -> bool:
        """Whether nothing in them is random: one sample, and a std of 0."""
        alone = len(self.samples) == 1 and self.indices is None
        return alone and not bool(self.std.any())


class WithAttention(tuple[Tensor, ...]):
    """Tensors, as an ordinary tuple, with the attention behind them.

    It can be copied and pickled. Rebuilt from its tensors alone, as hosts do that mask
    or move features, it is a tuple without attention.

    Args:
        tensors: the tuple's elements.
        attention: attention maps per level.
    """

    attention: tuple[AttentionMaps, ...]

    def __new__(
        cls: type[AnyWithAttention],
        tensors: Iterable[Tensor] = (),
        attention: Iterable[AttentionMaps] = (),
    ) -> AnyWithAttention:
        self = super().__new__(cls, tensors)
        self.attention = tuple(attention)
        return self


class AttentionModule(BaseModule):
    """A module whose forward pass returns ``WithAttention``.

    By this class whatever looks at attention (recording, fields of the data samples,
    monitoring) finds that of every method, wherever in the model it is.

    Attributes:
        feature_parts: names of the children that the features go through; the others
            make the map.
    """

    feature_parts: ClassVar[tuple[str, ...]] = ()

    def forward(self, *args: Any, **kwargs: Any) -> WithAttention:
        """Compute, and hand on the maps."""
        raise NotImplementedError


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


@dataclass(frozen=True)
class Source:
    """What the features under a map are computed from.

    Attributes:
        feats: features per level, ``(B, C, H, W)``, before noise and modulation.
        maps: sampled maps per level, ``(L_a, B, 1, H, W)``.
        noise_samples: L_z of the noise on the features; 0 without.
        modulator: function from features and maps to what heads see.
        quantizer: rounds the mean map too, in a qt model.
    """

    feats: Sequence[Tensor]
    maps: Sequence[Tensor]
    noise_samples: int
    modulator: Modulator
    quantizer: VQAnchorQuantizer | None = None

    @property
    def norms_count(self) -> bool:
        """Whether batch norms of a ``post_neck`` count all that they are shown."""
        modulator = self.modulator
        return modulator.post_neck is not None and modulator.modulations[0].training


class NeckLosses:
    """Unweighted losses of a neck, which are taken once, by whoever comes first.

    An object of its own: a tensor's hook that held the features would hold itself, and
    with it the memory of a whole iteration.
    """

    def __init__(self, losses: Mapping[str, Tensor]) -> None:
        self.values = dict(losses)
        self.taken = False
        self.price: tuple[float, ...] | None = None

    def take(self) -> dict[str, Tensor]:
        """The losses the first time, then nothing."""
        taken, self.taken = self.taken, True
        return {} if taken else dict(self.values)

    def settle_price(self, price: tuple[float, ...]) -> tuple[float, ...]:
        """The price of whoever comes first, which is the one that is paid."""
        self.price = price if self.price is None else self.price
        return self.price

    def require_taken(self, grad: Tensor) -> None:
        """Stop a backward pass before which nobody has taken the losses.

        Raises:
            RuntimeError: names the remedy.
        """
        if not self.taken:
            raise RuntimeError(
                'the quantisation losses of AIBAttention were not taken by any head, '
                "so its anchors would never learn: add dict(type='AIBLossHook') to "
                'custom_hooks, or use a head of aib_mm'
            )


class AttendedFeatures(WithAttention):
    """Feature maps with the attention they went through; what ``AIBAttention`` gives.

    As a tuple it is what any head expects: one map ``(B, C, H, W)`` per level, under
    the one sample or, with several, under the mean of the sampled attention maps; in
    training behind a ``post_neck``, the mean of what it makes of the samples.

    Args:
        maps: the tuple's elements.
        attention: attention maps per level.
        losses: unweighted scalars.
        source: what samples are computed from; None where ``maps`` are all there is.
        num_samples: L, which is L_a, times the noise's L_z if there is noise.
        samples: features per level ``(L·B, C, H, W)``, where they are known already.
        expected: features under the mean attention, where they are known already.
        noisy: whether the neck puts noise on the features.
        sample_chunk: how many attention maps ``draw`` takes at a time; None is all.

    Attributes:
        attention: ``AttentionMaps`` per level.
        num_samples: number of samples, L.
        noisy: whether the neck puts noise on the features before the modulation.
    """

    num_samples: int
    noisy: bool
    _losses: NeckLosses
    _source: Source | None
    _samples: Maps | None
    _expected: Maps | None
    _guarded: bool
    _sample_chunk: int | None

    def __new__(
        cls,
        maps: Iterable[Tensor] = (),
        attention: Iterable[AttentionMaps] = (),
        losses: Mapping[str, Tensor] | None = None,
        source: Source | None = None,
        num_samples: int = 1,
        samples: Maps | None = None,
        expected: Maps | None = None,
        noisy: bool = False,
        sample_chunk: int | None = None,
    ) -> 'AttendedFeatures':
        self = super().__new__(cls, maps, attention)
        self.num_samples = num_samples
        self.noisy = noisy
        self._losses = NeckLosses(losses or {})
        self._source = source
        one = num_samples == 1 and not issubclass(cls, AveragedFeatures)
        self._samples = tuple(self) if one else samples
        self._expected = expected
        self._guarded = False
        self._sample_chunk = sample_chunk
        return self

    def draw(self, chunk: int | None = None) -> Iterator[Samples]:
        """Features under each sample, a few at a time, so that memory does not grow.

        A chunk is computed when it is asked for, and not kept: iterate with ``map``,
        whose function lets go of one chunk before the next is computed. Once
        ``samples`` has been read they are there, and come in one.

        Args:
            chunk: attention maps at a time; by default what the neck says, and where it
                says nothing, all.
        """
        chunk = chunk or self._sample_chunk
        if chunk is None or self._samples is not None or self._source is None:
            yield Samples(self.samples, self.num_samples)
            return
        source, count = self._source, len(self._source.maps[0])
        # The noise on the features is drawn once: all maps modulate the same L_z draws.
        feats = source.modulator.with_noise(source.feats, source.noise_samples)
        for start in range(0, count, chunk):
            maps = [level[start : start + chunk] for level in source.maps]
            drawn = len(maps[0]) * max(source.noise_samples, 1)
            yield Samples(source.modulator(feats, maps), drawn)

    @property
    def samples(self) -> Maps:
        """Features under each sample per level, ``(L·B, C, H, W)``, sample-major.

        Several samples are computed when first asked for: a head that does not use
        them does not pay for them.

        Raises:
            ValueError: the features were rebuilt from their average alone.
        """
        if self._samples is None:
            if self._source is None:
                raise ValueError(
                    'these features are the average over several samples of the '
                    'attention, rebuilt without them, as MultiTaskHead of mmpretrain '
                    'does, which picks the images of a task: set train_samples=1 in '
                    "neck=dict(type='AIBAttention'), or give the task a head of the "
                    "host's, which learns from the average"
                )
            with self._same_grad_mode():
                (drawn,) = self.draw(len(self._source.maps[0]))
            self._samples = tuple(drawn.maps)
            self._guard(self._samples)
        return self._samples

    @property
    def expected(self) -> ExpectedFeatures:
        """Features under the mean attention per level, ``(B, C, H, W)``, noiseless.

        Computed when asked for. A head's ``mode='tensor'`` reads it, so that counting
        operations and exporting see one pass (a ``post_neck`` one more, unless
        ``test_samples`` is 0), whose result is not random. In training behind a
        ``post_neck`` it is the tuple itself: batch norms there count once.
        """
        source = self._source
        if self._expected is None and source is not None and not source.norms_count:
            means = [maps.mean for maps in self.attention]
            with self._same_grad_mode():
                if source.quantizer is not None:
                    means = [source.quantizer(mean).values for mean in means]
                feats = source.modulator.with_noise(source.feats, 0)
                self._expected = source.modulator.expected(feats, means)
        return ExpectedFeatures(self if self._expected is None else self._expected)

    @property
    def shares_noise(self) -> bool:
        """Whether there are several samples, under noise of the modulation's own."""
        source = self._source
        random = source is not None and source.modulator.modulations[0].is_random
        return random and self.num_samples > 1

    @property
    def losses(self) -> dict[str, Tensor]:
        """Unweighted scalars, to look at: reading them changes nothing.

        With a quantiser ``vq_loss`` and ``commit_loss``; where the map is priced
        ``map_nats``.
        """
        return dict(self._losses.values)

    def take_losses(self) -> dict[str, Tensor]:
        """``losses``, for whoever adds them to the task's; once, then ``{}``.

        However many heads and latents read the features, each term counts once per
        sample (paper, Eq. 18).
        """
        return self._losses.take()

    def settle_price(self, price: tuple[float, ...]) -> tuple[float, ...]:
        """The price of the first head that asks: the one that is paid."""
        return self._losses.settle_price(price)

    def require_taken(self) -> None:
        """Make a backward pass fail that reaches these features with losses untaken.

        Raises:
            RuntimeError: in that backward pass, which is the first one in training.
        """
        self._guarded = True
        self._guard(self)
        if self.num_samples > 1:
            self._guard(self._samples or ())

    def _guard(self, maps: Iterable[Tensor]) -> None:
        if torch.compiler.is_compiling():  # which cannot trace a hook that raises
            return
        for features in maps:
            if self._guarded and features.requires_grad:
                features.register_hook(self._losses.require_taken)

    def _same_grad_mode(self) -> Any:
        """What is computed later has a graph only if the maps have one."""
        return torch.set_grad_enabled(any(x.requires_grad for x in self))

    def __copy__(self) -> 'AttendedFeatures':
        copied = type(self)(self)
        vars(copied).update(vars(self))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and deep copies hold what was computed, not what computes it."""
        if self._source is None:
            return type(self), (tuple(self),), vars(self)
        computed = dict(_samples=self.samples, _expected=tuple(self.expected))
        return type(self), (tuple(self),), {**vars(self), **computed, '_source': None}


class AveragedFeatures(AttendedFeatures):
    """Attended features of several samples in training: the tuple is their average.

    A host that rebuilds the tuple keeps its class, by which a head that learns from the
    samples knows that they are lost, and refuses.
    """


def all_samples(feats: Sequence[Tensor]) -> Samples:
    """Every sample at once, or the only one of plain features."""
    if isinstance(feats, AttendedFeatures):
        return Samples(feats.samples, feats.num_samples)
    return Samples(feats, 1)


def sample_chunks(
    feats: Sequence[Tensor], size: int | None = None
) -> Iterator[Samples]:
    """The samples, chunk by chunk; plain features are one chunk.

    Args:
        feats: what the neck gave.
        size: attention maps at a time, see ``AttendedFeatures.draw``.
    """
    if isinstance(feats, AttendedFeatures):
        return feats.draw(size)
    return iter([Samples(feats, 1)])


def expected_features(feats: Sequence[Tensor]) -> Sequence[Tensor]:
    """What a head computes ``mode='tensor'`` from; plain features as they are."""
    return feats.expected if isinstance(feats, AttendedFeatures) else feats


def take_losses(feats: Sequence[Tensor]) -> dict[str, Tensor]:
    """The losses of the neck behind the features, once; ``{}`` for plain ones."""
    return feats.take_losses() if isinstance(feats, AttendedFeatures) else {}
