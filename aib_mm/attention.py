"""The attention module ``p(a|x)`` as a neck (paper, 3.2, 3.3.1 and Fig. 4).

::

    x ──┬────────────────────────────────────────────┐
        ├─ g_mu ──── mean ─┐                         │
        └─ g_sigma ─ std ──┴─ a = mean + std · eps ──┴─ modulate ─ x_att
                                     (→ nearest anchor)
"""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS
from torch import Tensor, nn

from aib_mm import gaussian
from aib_mm.errors import check_count, check_number, choose, is_number
from aib_mm.features import (
    AttendedFeatures,
    AttentionMaps,
    AttentionModule,
    AveragedFeatures,
    Source,
)
from aib_mm.modulation import MODULES, REPLACE, Modulator, build_modulation
from aib_mm.registry import build_part
from aib_mm.utils.wrappers import unwrapped

#: Modulations of ``replace``, one per level, where nobody says how many levels come.
MAX_LEVELS = 8
STD_SOURCES = ('input', 'mean')

Features = Sequence[Tensor]


class AttentionBranch(BaseModule):
    """Mean and std of the attention at every position of one feature map.

    ``mean = sigmoid(conv3×3(mean_branch(x)))``, ``std = softplus(conv(·) - shift)``.

    Args:
        in_channels: C of the features.
        std_kernel_size: kernel size of g_sigma's conv, odd. Paper: 3 for recognition,
            1 for detection and segmentation.
        std_source: what g_sigma sees: ``'input'``, the features, as the paper prints;
            ``'mean'``, the map of means, as the authors' released code.
        std_shift: shift of ``gaussian.softplus_std``; 0 is the paper's softplus.
        mean_branch: config of a module run on the features before the 3×3 conv of g_mu
            (paper: block 3 of WRN-28-10). It has ``out_channels``, or keeps C.
        initial_score: the mean starts here where the conv's response is zero.

    Raises:
        ValueError: an unknown choice or an impossible number; in the forward pass, a
            ``mean_branch`` that changes the size of the maps.
    """

    def __init__(
        self,
        in_channels: int,
        std_kernel_size: int,
        std_source: str,
        std_shift: float,
        mean_branch: dict | None,
        initial_score: float,
    ) -> None:
        super().__init__()
        check_count('std_kernel_size', std_kernel_size, 1)
        choose('std_source', std_source, STD_SOURCES)
        if std_kernel_size % 2 == 0:
            raise ValueError(f'std_kernel_size must be odd, got {std_kernel_size}')
        check_number('std_shift', std_shift)
        if not is_number(initial_score) or not 0 < initial_score < 1:
            raise ValueError(f'initial_score must be in (0, 1), got {initial_score!r}')
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
        self.std_shift = std_shift
        self.initial_logit = math.log(initial_score / (1 - initial_score))
        self._set_initial_score()

    def init_weights(self) -> None:
        """Initialise as configured, then the score's bias, which that may reset."""
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
            if h.shape[-2:] != x.shape[-2:]:
                raise ValueError(
                    f'mean_branch {type(self.mean_branch).__name__} makes maps of '
                    f'{tuple(h.shape[-2:])} from features of {tuple(x.shape[-2:])}: '
                    'leave out its pooling and strides (pool_last=False, '
                    'first_stride=1), so that every position keeps its score'
                )
        mean = gaussian.at_least_float32(self.mean_conv(h)).sigmoid()
        raw_std = self.std_conv(x if self.std_source == 'input' else mean.to(x.dtype))
        return mean, gaussian.softplus_std(raw_std, self.std_shift)


@MODELS.register_module()
class AIBAttention(AttentionModule):
    """Information-bottleneck spatial attention, as the neck of any OpenMMLab model.

    Every level gets an attention map ``a ~ N(mean, std²)``, rounded to anchors if there
    is a quantiser, and the level's features are modulated by it. The maps are samples
    of a Gaussian around a sigmoid and are not clipped: they can leave [0, 1].

    Args:
        in_channels: C of the features, one for all levels or one per level. With a
            ``pre_neck`` these are the channels it puts out.
        std_kernel_size: kernel size of g_sigma's conv, see ``AttentionBranch``.
        std_source: input of g_sigma, see ``AttentionBranch``.
        std_shift: shift of ``gaussian.softplus_std``, see ``AttentionBranch``.
        modulation: ``'scale'``, ``'residual'``, ``'bias'`` or ``'concat'`` (3.3.1); or
            ``'replace'``, ours, which reports the nats that its map lets through.
        quantizer: config of ``VQAnchorQuantizer``; makes it a qt model. With
            ``'replace'`` let its ``value_range`` end at 0.999: higher scores count as
            that and learn nothing, nor do those that an anchor of 1 takes.
        noise: config of ``AdditiveNoise`` or ``PropagatedNoise``, for the encoders that
            draw L_z at their input; the head's encoder is then a ``NoiseEncoder``.
        prior_std: std of a score's prior ``N(0, prior_std²)``, from which the map's
            divergence is reported in nats; by default only ``'replace'`` reports any.
        mean_branch: config of a module before g_mu's conv, see ``AttentionBranch``.
            Without batch norm where several levels share it.
        initial_score: in (0, 1). For a warm start from a vanilla model small, with
            ``'replace'`` near 1: the features are then what they were.
        shared: one branch for all levels (they have equal channels) or one per level.
        map_level: the level whose map modulates all levels, which then have one size
            (-1 is the last); by default each level has its own map.
        pre_neck: config of a neck that runs before the attention (FPN).
        post_neck: config of a neck that runs on every sample (Feature2Pyramid), or of
            several, one after the other.
        train_samples: L_a in training.
        test_samples: L_a at test; 0 is the mean attention, one pass, no randomness, and
            so without noise too.
        sample_chunk: at test the heads of aib_mm go through the samples this many
            maps at a time, which bounds their memory and changes nothing else, but that
            ``'replace'`` draws its noise in another order; None is all at once.
            Training always has all at once.

    A checkpoint of the host's model without attention loads: its neck's weights
    become those of ``pre_neck`` or ``post_neck``.

    Raises:
        ValueError: an unknown choice or impossible number, named with its place.
    """

    vanilla_lacks = ('branches', 'modulations', 'quantizer')
    feature_parts = ('pre_neck', 'post_neck')

    def __init__(
        self,
        in_channels: int | Sequence[int],
        std_kernel_size: int = 1,
        std_source: str = 'input',
        std_shift: float = 5.0,
        modulation: str = 'residual',
        quantizer: dict | None = None,
        noise: dict | None = None,
        prior_std: float | None = None,
        mean_branch: dict | None = None,
        initial_score: float = 0.5,
        shared: bool = True,
        map_level: int | None = None,
        pre_neck: dict | None = None,
        post_neck: dict | list[dict] | None = None,
        train_samples: int = 1,
        test_samples: int = 4,
        sample_chunk: int | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = _level_channels(in_channels, shared)
        self.shared = shared
        self.map_level = map_level
        check_count('train_samples', train_samples, 1)
        check_count('test_samples', test_samples, 0)
        if sample_chunk is not None:
            check_count('sample_chunk', sample_chunk, 1)
        if map_level is not None and not isinstance(map_level, Integral):
            raise ValueError(f'map_level must be None or an index, got {map_level!r}')
        _check_nats(modulation, prior_std, noise)
        self.train_samples = train_samples
        self.test_samples = test_samples
        self.sample_chunk = sample_chunk
        self.prior_std = prior_std
        self.noise = build_part(noise)
        self.pre_neck = build_part(pre_neck)
        self.post_neck = build_part(post_neck)
        self.quantizer = build_part(quantizer)
        levels = self.in_channels[:1] if shared else self.in_channels
        self.branches = ModuleList(
            AttentionBranch(
                channels,
                std_kernel_size,
                std_source,
                std_shift,
                mean_branch,
                initial_score,
            )
            for channels in _mapped(levels, None if shared else map_level)
        )
        if modulation in MODULES and MODULES[modulation].per_level:
            levels = self._each_level(isinstance(in_channels, int))
        if self.noise is not None:
            levels = [self.noise.out_channels(channels) for channels in levels]
        self.modulations = ModuleList(
            build_modulation(modulation, channels) for channels in levels
        )

    def forward(self, feats: Features | Tensor) -> AttendedFeatures:
        """Attend to each level.

        Args:
            feats: features per level, ``(B, C, H, W)``; a single tensor is one level.

        Raises:
            ValueError: levels or channels other than ``in_channels`` says.
        """
        if self.pre_neck is not None:
            feats = self.pre_neck(feats)
        feats = (feats,) if isinstance(feats, Tensor) else tuple(feats)
        self._check(feats)
        if self.training:
            for x, modulation in zip(feats, self.modulations, strict=False):
                modulation.observe(x)
        mapped = _mapped(feats, self.map_level)
        found = [self._attend(i, x) for i, x in enumerate(mapped)]
        # Not in place: torch.compile cannot trace that.
        found = found * (len(feats) // len(found))
        levels = [self._priced(i, x, *found[i]) for i, x in enumerate(feats)]
        attention = [maps for maps, _ in levels]
        source = Source(
            feats=feats,
            maps=[maps.samples for maps in attention],
            noise_samples=self._noise_samples,
            modulator=Modulator(self.modulations, self.noise, self.post_neck),
            quantizer=self.quantizer,
        )
        num_samples = len(source.maps[0]) * max(source.noise_samples, 1)
        summary, samples = self._summarized(source, num_samples)
        averaged = self.training and num_samples > 1
        kind = AveragedFeatures if averaged else AttendedFeatures
        attended = kind(
            maps=summary,
            attention=attention,
            losses=_mean_losses([losses for _, losses in levels]),
            source=source,
            num_samples=num_samples,
            samples=samples,
            expected=summary if self._map_samples == 0 else None,
            noisy=self.noise is not None,
            sample_chunk=None if self.training else self.sample_chunk,
        )
        learns = any(parameter.requires_grad for parameter in self.parameters())
        if self.training and self.quantizer is not None and learns:
            attended.require_taken()
        return attended

    def _summarized(
        self, source: Source, num_samples: int
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
        """What foreign heads see, and all samples where they had to be computed."""
        modulator = source.modulator
        if num_samples == 1:
            feats = modulator.with_noise(source.feats, source.noise_samples)
            draws = self._map_samples > 0
            run = modulator if draws else modulator.expected
            return run(feats, source.maps), None
        if self.training and self.post_neck is not None:
            # Once: its batch norms count what the loss sees, and nothing else.
            feats = modulator.with_noise(source.feats, source.noise_samples)
            samples = modulator(feats, source.maps)
            split = (x.unflatten(0, (num_samples, -1)) for x in samples)
            return tuple(x.mean(dim=0) for x in split), samples
        feats = modulator.with_noise(source.feats, 0)
        means = [maps.mean(dim=0) for maps in source.maps]
        return modulator.expected(feats, means), None

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Find the weights of the neck that this one holds under their old names."""
        own = {name for name, _ in self.named_children()}
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name = key.removeprefix(prefix)
            part = name.partition('.')[0]
            for holder in ('pre_neck', 'post_neck'):
                neck = getattr(self, holder)
                if part not in own and neck is not None and hasattr(neck, part):
                    state_dict[f'{prefix}{holder}.{name}'] = state_dict.pop(key)
                    break
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @property
    def _map_samples(self) -> int:
        """L_a in the present mode."""
        return self.train_samples if self.training else self.test_samples

    @property
    def _noise_samples(self) -> int:
        """L_z of the noise in the present mode."""
        if self.noise is None or self._map_samples == 0:
            return 0
        return self.noise.num_samples

    def _each_level(self, is_open: bool) -> list[int]:
        """Channels of every level, as many as are known or, if open, can be."""
        if not is_open:
            return self.in_channels
        known = getattr(self.pre_neck, 'num_outs', MAX_LEVELS)
        return self.in_channels * (known if isinstance(known, int) else MAX_LEVELS)

    def _attend(self, level: int, x: Tensor) -> tuple[AttentionMaps, dict[str, Tensor]]:
        mean, std = self.branches[level % len(self.branches)](x)
        samples = gaussian.sample(mean, std, self._map_samples)
        if self.quantizer is None:
            return AttentionMaps(mean, std, samples), {}
        quantized = self.quantizer(samples)
        losses = {
            'vq_loss': quantized.vq_loss,
            'commit_loss': quantized.commit_loss,
        }
        return AttentionMaps(mean, std, quantized.values, quantized.indices), losses

    def _priced(
        self, level: int, x: Tensor, maps: AttentionMaps, losses: dict[str, Tensor]
    ) -> tuple[AttentionMaps, dict[str, Tensor]]:
        """Maps and losses with what each position lets through, if it is reported."""
        modulation = self.modulations[level % len(self.modulations)]
        nats = modulation.nats(x, maps.samples)
        channels = x.shape[1]
        if nats is not None:
            nats = nats.mean(dim=0)
        elif self.prior_std is not None:
            nats = gaussian.kl_elements(maps.mean, maps.std, self.prior_std)
            channels = 1  # of the map itself
        else:
            return maps, losses
        price = gaussian.mean_or_zero(nats)
        return maps._replace(nats=nats * channels), {**losses, 'map_nats': price}

    def _check_norms(self) -> None:
        for name, module in self.branches[0].named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
                raise ValueError(
                    f'{name} is a {type(module).__name__} that all levels share: it '
                    "would train with each level's statistics and be tested with a mix "
                    "of all levels'. Take another norm, norm_cfg=dict(type='GN', "
                    'num_groups=8), or shared=False'
                )

    def _check(self, feats: Features) -> None:
        if any(not isinstance(x, Tensor) or x.dim() != 4 for x in feats):
            found = [
                tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
                for x in feats
            ]
            raise ValueError(
                f'AIBAttention attends to maps (B, C, H, W), got features of {found}: '
                "let the backbone give maps (out_type='featmap' of a transformer, "
                'output_cls_token=False of one of mmseg, gap_before_final_norm=False '
                'of ConvNeXt), and pool behind the attention, in post_neck'
            )
        channels = [x.shape[1] for x in feats]
        wanted = self.in_channels
        if self.shared and len(wanted) == 1:
            wanted = wanted * max(len(feats), 1)
        if channels != wanted:
            raise ValueError(
                f'AIBAttention(in_channels={self.in_channels}) got features with '
                f'channels {channels}: set in_channels to those of the '
                f'{"backbone" if self.pre_neck is None else "pre_neck"}'
            )
        if self.training and self.shared and len(_mapped(feats, self.map_level)) > 1:
            self._check_norms()
        sizes = [tuple(x.shape[-2:]) for x in feats]
        if self.map_level is not None and len(set(sizes)) > 1:
            raise ValueError(
                f'the map of map_level={self.map_level} cannot modulate levels of the '
                f'sizes {sizes}: leave map_level out'
            )
        if self.modulations[0].per_level and len(feats) > len(self.modulations):
            raise ValueError(
                f'{type(self.modulations[0]).__name__} keeps statistics of '
                f'{len(self.modulations)} levels, got {len(feats)}: give in_channels '
                'one number per level'
            )


def attention_modules(model: nn.Module) -> dict[str, AttentionModule]:
    """The modules that attend in a model, by name, its wrapper taken off.

    ``AIBAttention``, or the attention of another method.

    Raises:
        ValueError: there is none.
    """
    inner = unwrapped(model)
    found = {
        name: module
        for name, module in inner.named_modules()
        if isinstance(module, AttentionModule)
    }
    if not found:
        raise ValueError(
            f'{type(inner).__name__} holds no AIBAttention or other AttentionModule: '
            'add one, such as AIBAttention as its neck'
        )
    return found


def _mapped(levels: Sequence[Any], map_level: int | None) -> Sequence[Any]:
    """The levels that a map is computed for."""
    if map_level is None:
        return levels
    if not -len(levels) <= map_level < len(levels):
        raise ValueError(f'map_level={map_level}, but there are {len(levels)} levels')
    return [levels[map_level]]


def _level_channels(in_channels: int | Sequence[int], shared: bool) -> list[int]:
    channels = list(in_channels) if isinstance(in_channels, Sequence) else [in_channels]
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


def _check_nats(modulation: str, prior_std: float | None, noise: dict | None) -> None:
    if modulation == REPLACE and noise is not None:
        raise ValueError(
            f"modulation='replace' puts noise on the features, and so does {noise!r}: "
            'set noise=None'
        )
    if prior_std is None:
        return
    if modulation == REPLACE:
        raise ValueError(
            f"modulation='replace' counts its own nats, without prior_std={prior_std}: "
            'leave prior_std out'
        )
    if not is_number(prior_std) or prior_std <= 0:
        raise ValueError(f'prior_std must be positive and finite, got {prior_std!r}')


def _mean_losses(levels: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average over levels, so that weights do not depend on how many there are."""
    return {
        name: torch.stack([losses[name] for losses in levels]).mean()
        for name in levels[0]
    }
