"""The attention module ``p(a|x)`` as a neck (paper, 3.2, 3.3.1 and Fig. 4).

x ──┬────────────────────────────────────────────┐
    ├─ g_mu ──── mean ─┐                         │
    └─ g_sigma ─ std ──┴─ a = mean + std · eps ──┴─ modulate ─ x_att
                                 (→ nearest anchor)
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseModule, ModuleList, is_model_wrapper
from mmengine.registry import MODELS
from torch import Tensor, nn

from aib_mm import gaussian
from aib_mm.errors import check_count, choose
from aib_mm.modulation import build_modulation
from aib_mm.registry import build_part

STD_SOURCES = ('input', 'mean')

Features = Sequence[Tensor]


class AttentionMaps(NamedTuple):
    """The attention of one level.

    ``mean`` and ``std`` are ``(B, 1, H, W)``, ``mean`` in [0, 1]. ``samples`` are the
    maps that modulated the features, ``(L_a, B, 1, H, W)``: quantised in a qt model,
    and then ``indices`` says which anchor each position took.
    """

    mean: Tensor
    std: Tensor
    samples: Tensor
    indices: Tensor | None


class _Receipt:
    """Whether the losses were taken.

    An object of its own: a tensor's hook that held the features would hold itself, and
    with it the memory of a whole iteration.
    """

    given = False


class AttendedFeatures(tuple[Tensor, ...]):
    """Feature maps with the attention they went through; what ``AIBAttention`` gives.

    As a tuple it is what any head expects: one map ``(B, C, H, W)`` per level, under
    the one sample or, with several, under the mean of the sampled attention maps.

    Attributes:
        samples: per level ``(L·B, C, H, W)``, sample-major: the features under each
            attention sample. ``L = L_a``, times the noise's L_z if there is noise.
        attention: per level ``AttentionMaps``.
        noisy: whether noise was put on the features before the modulation.
    """

    samples: tuple[Tensor, ...]
    attention: tuple[AttentionMaps, ...]
    noisy: bool
    _losses: dict[str, Tensor]
    _expected: Callable[[], tuple[Tensor, ...]]
    _receipt: '_Receipt'

    def __new__(
        cls,
        maps: Iterable[Tensor],
        samples: Iterable[Tensor],
        attention: Iterable[AttentionMaps],
        losses: Mapping[str, Tensor],
        expected: Callable[[], tuple[Tensor, ...]],
        noisy: bool = False,
    ) -> 'AttendedFeatures':
        self = super().__new__(cls, maps)
        self.samples = tuple(samples)
        self.attention = tuple(attention)
        self.noisy = noisy
        self._losses = dict(losses)
        self._expected = expected
        self._receipt = _Receipt()
        return self

    @property
    def num_samples(self) -> int:
        """L: how many samples ``samples`` holds."""
        return len(self.samples[0]) // len(self[0])

    @property
    def expected(self) -> tuple[Tensor, ...]:
        """Per level ``(B, C, H, W)``: the features under the mean attention, noiseless.

        Computed when asked for. A head's ``mode='tensor'`` reads it, so that counting
        operations and exporting see one pass without randomness.
        """
        return self._expected()

    @property
    def losses(self) -> dict[str, Tensor]:
        """``vq_loss`` and ``commit_loss``, unweighted scalars; empty if not quantised.

        Reading it takes the responsibility: whoever reads adds them to the loss.
        """
        self._receipt.given = True
        return dict(self._losses)

    def require_taken(self) -> None:
        """Let a backward pass that reaches these features with the losses unread fail.

        Raises:
            RuntimeError: in that backward pass, which is the first one in training.
        """

        receipt = self._receipt

        def check(grad: Tensor) -> None:
            if not receipt.given:
                raise RuntimeError(
                    'the quantisation losses of AIBAttention were not taken by any '
                    'head, so its anchors would never learn: add '
                    "dict(type='AIBLossHook') to custom_hooks, or use a head of aib_mm"
                )

        for features in {*self, *self.samples}:
            if features.requires_grad:
                features.register_hook(check)


class AttentionBranch(BaseModule):
    """Mean and std of the attention at every position of one feature map.

    ``mean = sigmoid(conv3×3(mean_branch(x)))`` and ``std = softplus(conv(·) - 5)``.

    Args:
        in_channels: C of the features.
        std_kernel_size: of the conv of g_sigma, odd. Paper: 3 for recognition, 1 for
            detection and segmentation.
        std_source: what g_sigma sees: ``'input'``, the features, as the paper prints;
            ``'mean'``, the map of means, as the authors' released code.
        mean_branch: config of a module run on the features before the 3×3 conv of g_mu
            (paper: block 3 of WRN-28-10). It has ``out_channels``, or keeps C.
        initial_score: the mean starts here where the conv's response is zero.
    """

    def __init__(
        self,
        in_channels: int,
        std_kernel_size: int,
        std_source: str,
        mean_branch: dict | None,
        initial_score: float,
    ) -> None:
        super().__init__()
        self.mean_branch = build_part(mean_branch)
        mean_channels = getattr(self.mean_branch, 'out_channels', in_channels)
        self.mean_conv = nn.Conv2d(mean_channels, 1, 3, padding=1)
        self.std_conv = nn.Conv2d(
            in_channels if std_source == 'input' else 1,
            1,
            std_kernel_size,
            padding=std_kernel_size // 2,
        )
        self.std_source = std_source
        self.initial_logit = math.log(initial_score / (1 - initial_score))
        self._set_initial_score()

    def init_weights(self) -> None:
        """As configured, then the score's bias, which an initialiser may have reset."""
        super().init_weights()
        self._set_initial_score()

    def _set_initial_score(self) -> None:
        assert self.mean_conv.bias is not None
        nn.init.constant_(self.mean_conv.bias, self.initial_logit)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, H, W)`` to mean and std, each ``(B, 1, H, W)`` in float32."""
        h = x
        if self.mean_branch is not None:
            h = self.mean_branch(x)
            h = h[-1] if isinstance(h, tuple | list) else h
        logits = self.mean_conv(h)
        mean = (logits if logits.dtype == torch.float64 else logits.float()).sigmoid()
        raw_std = self.std_conv(x if self.std_source == 'input' else mean)
        return mean, gaussian.softplus_std(raw_std)


@MODELS.register_module()
class AIBAttention(BaseModule):
    """Information-bottleneck spatial attention, as the neck of any OpenMMLab model.

    Every level gets an attention map ``a ~ N(mean, std²)``, rounded to anchors if there
    is a quantiser, and the level's features are modulated by it. The maps are samples
    of a Gaussian around a sigmoid and are not clipped: they can leave [0, 1].

    Args:
        in_channels: C of the features, one for all levels or one per level. With a
            ``pre_neck`` these are the channels it puts out.
        std_kernel_size: see ``AttentionBranch``.
        std_source: see ``AttentionBranch``.
        modulation: ``'scale'``, ``'residual'``, ``'bias'`` or ``'concat'`` (3.3.1).
        quantizer: config of ``VQAnchorQuantizer``; makes it a qt model.
        noise: config of ``AdditiveNoise`` or ``PropagatedNoise``, for the encoders that
            draw L_z at their input; the head's encoder is then a ``NoiseEncoder``.
        mean_branch: see ``AttentionBranch``.
        initial_score: in (0, 1). Small for a warm start from a vanilla model, and for a
            more selective map.
        shared: one branch for all levels (they have equal channels) or one per level.
        pre_neck: config of a neck that runs before the attention (FPN).
        post_neck: config of a neck that runs on every sample (Feature2Pyramid).
        train_samples: L_a in training.
        test_samples: L_a at test; 0 is the mean attention, one pass, no randomness.

    Raises:
        ValueError: an unknown choice or impossible number, named with its place.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        std_kernel_size: int = 1,
        std_source: str = 'input',
        modulation: str = 'residual',
        quantizer: dict | None = None,
        noise: dict | None = None,
        mean_branch: dict | None = None,
        initial_score: float = 0.5,
        shared: bool = True,
        pre_neck: dict | None = None,
        post_neck: dict | None = None,
        train_samples: int = 1,
        test_samples: int = 4,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = _level_channels(in_channels, shared)
        check_count('train_samples', train_samples, 0)
        check_count('test_samples', test_samples, 0)
        check_count('std_kernel_size', std_kernel_size, 1)
        choose('std_source', std_source, STD_SOURCES)
        if std_kernel_size % 2 == 0:
            raise ValueError(f'std_kernel_size must be odd, got {std_kernel_size}')
        if not 0 < initial_score < 1:
            raise ValueError(f'initial_score must be in (0, 1), got {initial_score!r}')
        self.train_samples = train_samples
        self.test_samples = test_samples
        self.noise = build_part(noise)
        self.pre_neck = build_part(pre_neck)
        self.post_neck = build_part(post_neck)
        self.quantizer = build_part(quantizer)
        branches, modulations = [], []
        for channels in self.in_channels[:1] if shared else self.in_channels:
            branches.append(
                AttentionBranch(
                    channels, std_kernel_size, std_source, mean_branch, initial_score
                )
            )
            if self.noise is not None:
                channels = self.noise.out_channels(channels)
            modulations.append(build_modulation(modulation, channels))
        self.branches = ModuleList(branches)
        self.modulations = ModuleList(modulations)

    def forward(self, feats: Features | Tensor) -> AttendedFeatures:
        """Attend to each level.

        Args:
            feats: per level ``(B, C, H, W)``; a single tensor is one level.

        Raises:
            ValueError: levels or channels other than ``in_channels`` says.
        """
        if self.pre_neck is not None:
            feats = self.pre_neck(feats)
        feats = (feats,) if isinstance(feats, Tensor) else tuple(feats)
        self._check(feats)
        levels = [self._attend(i, x) for i, x in enumerate(feats)]
        attention = [maps for maps, _ in levels]
        samples = self._modulate(feats, [maps.samples for maps in attention])
        if len(attention[0].samples) == 1 and self._noise_samples < 2:
            summary = samples
        else:
            means = [maps.samples.mean(dim=0) for maps in attention]
            summary = self._modulate(feats, means, noise_samples=0)
        attended = AttendedFeatures(
            maps=summary,
            samples=samples,
            attention=attention,
            losses=_mean_losses([losses for _, losses in levels]),
            expected=lambda: self._expected(feats, attention),
            noisy=self.noise is not None,
        )
        if self.training and self.quantizer is not None:
            attended.require_taken()
        return attended

    @property
    def _noise_samples(self) -> int:
        return 0 if self.noise is None else self.noise.num_samples

    def _attend(self, level: int, x: Tensor) -> tuple[AttentionMaps, dict[str, Tensor]]:
        mean, std = self.branches[level % len(self.branches)](x)
        count = self.train_samples if self.training else self.test_samples
        samples = gaussian.sample(mean, std, count)
        if self.quantizer is None:
            return AttentionMaps(mean, std, samples, None), {}
        quantized = self.quantizer(samples)
        losses = {
            'vq_loss': quantized.vq_loss,
            'commit_loss': quantized.commit_loss,
        }
        return AttentionMaps(mean, std, quantized.values, quantized.indices), losses

    def _modulate(
        self,
        feats: Features,
        attention: Sequence[Tensor],
        noise_samples: int | None = None,
    ) -> tuple[Tensor, ...]:
        """Features under ``(L_a, B, 1, H, W)`` or ``(B, 1, H, W)`` maps, per level.

        Returns ``(L_a·L_z·B, C, H, W)``, sample-major.
        """
        outs = []
        for level, (x, a) in enumerate(zip(feats, attention, strict=True)):
            a = a.unsqueeze(0) if a.dim() == 4 else a
            if self.noise is not None:
                count = self._noise_samples if noise_samples is None else noise_samples
                x = self.noise(x, count)
                a = a.unsqueeze(1)
                a = a.expand(-1, x.shape[0], -1, -1, -1, -1)
            out = self.modulations[level % len(self.modulations)](x, a)
            outs.append(out.flatten(0, -4))
        return tuple(outs if self.post_neck is None else self.post_neck(tuple(outs)))

    def _expected(
        self, feats: Features, attention: Sequence[AttentionMaps]
    ) -> tuple[Tensor, ...]:
        means = [maps.mean for maps in attention]
        if self.quantizer is not None:
            means = [self.quantizer(mean).values for mean in means]
        return self._modulate(feats, means, noise_samples=0)

    def _check(self, feats: Features) -> None:
        channels = [x.shape[1] for x in feats]
        wanted = self.in_channels
        if len(wanted) == 1:
            wanted = wanted * len(feats)
        if channels != wanted:
            raise ValueError(
                f'AIBAttention(in_channels={self.in_channels}) got features with '
                f'channels {channels}: set in_channels to those of the '
                f'{"backbone" if self.pre_neck is None else "pre_neck"}'
            )


def attention_modules(model: nn.Module) -> dict[str, AIBAttention]:
    """The attention necks of a model by module name, its wrapper taken off.

    Raises:
        ValueError: there is none.
    """
    inner = unwrapped(model)
    found = {
        name: module
        for name, module in inner.named_modules()
        if isinstance(module, AIBAttention)
    }
    if not found:
        raise ValueError(
            f'{type(inner).__name__} holds no AIBAttention: add one as its neck'
        )
    return found


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where a Runner has wrapped it for several processes."""
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module)
    return inner


def _level_channels(in_channels: int | Sequence[int], shared: bool) -> list[int]:
    channels = [in_channels] if isinstance(in_channels, int) else list(in_channels)
    if not channels:
        raise ValueError('in_channels must name at least one level, got []')
    for value in channels:
        check_count('in_channels', value, 1)
    if shared and len(set(channels)) > 1:
        raise ValueError(
            f'one shared branch cannot serve levels of in_channels={channels}: '
            'set shared=False'
        )
    if isinstance(in_channels, int) and not shared:
        raise ValueError(
            f'shared=False needs in_channels per level, got in_channels={in_channels}'
        )
    return channels


def _mean_losses(levels: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average over levels, so that weights do not depend on how many there are."""
    return {
        name: torch.stack([losses[name] for losses in levels]).mean()
        for name in levels[0]
    }
