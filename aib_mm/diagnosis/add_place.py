"""Where attention belongs in a host's model, and the settings that put it there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from mmengine.config import Config, ConfigDict

from aib_mm.diagnosis.add_look import Output
from aib_mm.errors import UsageError
from aib_mm.modulation import REPLACE, ReplaceModulation
from aib_mm.utils.config_text import Code, Noted
from aib_mm.utils.configs import type_name

_PRIOR_STD = 0.2  # what the map's divergence is reported from, where it has a price
_CONCAT = 'concat'
_NECK = '_base_.model.neck'


@dataclass(frozen=True)
class Wanted:
    """What a user asks for.

    Attributes:
        modulation: modulation of ``AIBAttention``; None is its default or, where there
            is a price, the one that counts what it prices by itself.
        quantizer: number of anchors; None is no quantiser.
        bottleneck: whether our head takes the place of the host's.
        price: price of a nat in the map; None is no price.
    """

    modulation: str | None = None
    quantizer: int | None = None
    bottleneck: bool = False
    price: float | None = None

    @property
    def how(self) -> str | None:
        """The modulation to write; None where the default is meant."""
        priced = self.price is not None and self.modulation is None
        return REPLACE if priced else self.modulation


@dataclass(frozen=True)
class Place:
    """The place of the attention among the parts of a model.

    Attributes:
        output: what the attention gets.
        before: number of necks that run before it, all behind the backbone.
        necks: number of necks in the model.
        switch: settings of the backbone that make it give maps.
    """

    output: Output
    before: int
    necks: int
    switch: Mapping[str, Any]

    @property
    def named(self) -> str:
        """The place in words, with what is attended to there."""
        channels = self.output.channels
        of = channels[0] if len(set(channels)) == 1 else channels
        levels = f'{len(channels)} levels of ' if len(channels) > 1 else ''
        return f'behind the {self.part}, {levels}{of} channels'

    @property
    def part(self) -> str:
        """The part that the attention is behind."""
        return 'neck' if self.before else 'backbone'

    @property
    def apart(self) -> bool:
        """Whether each level needs a branch of its own."""
        channels = self.output.channels
        return len(channels) > 1 and (not self.before or len(set(channels)) > 1)

    @property
    def unread(self) -> list[int]:
        """The levels that no head learns from."""
        return [level for level, read in enumerate(self.output.read) if not read]


def find_place(
    outputs: Sequence[Output], switch: Mapping[str, Any] | None = None
) -> Place:
    """The place behind the last part before which there are only maps.

    That is behind an FPN, and before a pooling. Tokens alone, levels of one size of
    which a neck makes several, are attended to before that neck (paper, 4.2.4).

    Args:
        outputs: outputs of the backbone, which are maps, and of the necks behind it.
        switch: settings of the backbone with which it gave these maps.
    """
    maps = [output.are_maps for output in outputs]
    before = [*maps, False].index(False) - 1
    first = outputs[0]
    are_tokens = len(first.shapes) > 1 and len(first.sizes) == 1
    if are_tokens and len(outputs[before].sizes) > 1:
        before = 0
    return Place(outputs[before], before, len(outputs) - 1, switch or {})


def candidates(
    place: Place, cfg: Config, facts: ModuleType, wanted: Wanted
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Places and the settings that give them, in the order in which to try them.

    Where no head reads some level, the backbone gives the others only, if it can.

    Args:
        place: place of the attention.
        cfg: the host's config.
        facts: the host's module ``placement``; one without ``keep_levels`` has no
            heads that name the levels that they read.
        wanted: what the attention should be.

    Raises:
        UsageError: what is wanted cannot be had in this model.
    """
    if place.unread and not place.necks and hasattr(facts, 'keep_levels'):
        shapes = place.output.shapes
        kept = [level for level in range(len(shapes)) if level not in place.unread]
        changes = facts.keep_levels(cfg.model, kept, len(shapes))
        if changes is not None:
            output = Output([shapes[level] for level in kept], [True] * len(kept))
            fewer = replace(place, output=output)
            yield fewer, _settings(fewer, cfg, facts, wanted, changes)
    settings = _settings(place, cfg, facts, wanted, {})
    if place.unread and place.apart:
        note = f'no head reads level {", ".join(map(str, place.unread))}'
        settings['find_unused_parameters'] = Noted(True, note)
    yield place, settings


def _settings(
    place: Place,
    cfg: Config,
    facts: ModuleType,
    wanted: Wanted,
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """Settings with the attention in its place.

    Args:
        changes: changes of the model that the place asks for.
    """
    changed: dict[str, Any] = {}
    if place.switch or 'backbone' in changes:
        changed['backbone'] = {**place.switch, **changes.get('backbone', {})}
    changed['neck'] = _neck(place, cfg.model, facts, wanted)
    changed.update({key: changes[key] for key in changes if key not in changed})
    settings: dict[str, Any] = dict(model=changed)
    price = _price(wanted)
    if wanted.bottleneck:
        width = place.output.channels[-1] * (2 if wanted.how == _CONCAT else 1)
        loss = dict(aib_loss=dict(type='AIBLoss', **price)) if price else {}
        for key, head in facts.latent_head(cfg.model, width, loss).items():
            changed[key] = {**head, **changed.get(key, {})}
    elif price or wanted.quantizer is not None:
        note = "the host's head takes no losses of a neck"
        hook = Noted(dict(type='AIBLossHook', **price), note)
        settings['default_hooks'] = dict(aib_loss=hook)
    return settings


def _price(wanted: Wanted) -> dict[str, Any]:
    """The price; not before something is learnt."""
    if wanted.price is None:
        return {}
    rise = dict(price_begin=0.25, price_end=Noted(0.5, 'shares of the training'))
    return dict(attention_price=wanted.price, **rise)


def _neck(
    place: Place, model: ConfigDict, facts: ModuleType, wanted: Wanted
) -> dict[str, Any]:
    """Settings of the neck, which holds those that the model has."""
    channels, several = place.output.channels, len(place.output.shapes) > 1
    neck: dict[str, Any] = {}
    held = _held(place, model, facts, wanted)
    if 'neck' in model:
        why = 'it is held by the attention now' if held else "our head's encoder pools"
        if model.neck is None:
            why = 'the base says neck=None'
        neck['_delete_'] = Noted(True, why)
    neck['type'] = 'AIBAttention'
    # Noise of a level's own statistics needs to know how many levels there are.
    each = several and (place.apart or wanted.how == REPLACE)
    neck['in_channels'] = channels if each else channels[0]
    if place.apart:
        differ = len(set(channels)) > 1
        why = 'channels differ' if differ else 'levels of different depth'
        neck['shared'] = Noted(False, why)
    neck.update(facts.NECK)
    if wanted.how is not None:
        neck['modulation'] = wanted.how
    if wanted.how == REPLACE:
        neck['initial_score'] = Noted(0.95, 'at first nearly all passes')
    if wanted.price is not None and wanted.how != REPLACE:
        neck['prior_std'] = Noted(_PRIOR_STD, 'the price is on the nats from there')
    if wanted.quantizer is not None:
        neck['quantizer'] = dict(type='VQAnchorQuantizer', num_anchors=wanted.quantizer)
        if wanted.how == REPLACE:
            ends = (0.0, ReplaceModulation.MAX_SCORE)
            neck['quantizer']['value_range'] = Noted(ends, 'above, scores do not learn')
    return {**neck, **held}


def _held(
    place: Place, model: ConfigDict, facts: ModuleType, wanted: Wanted
) -> dict[str, Any]:
    """The necks before and behind the attention, as its arguments."""
    held: dict[str, Any] = {}
    whole, split = Code(f'{{{{{_NECK}}}}}'), 0 < place.before < place.necks
    if place.before:
        held['pre_neck'] = Code(f'{_NECK}[:{place.before}]') if split else whole
    if wanted.bottleneck and facts.POOLING is not None:
        given = model.get('neck')
        necks = given if isinstance(given, list) else [given]
        names = [type_name(neck) for neck in necks[place.before :] if neck]
        if others := [name for name in names if name != facts.POOLING['type']]:
            raise UsageError(
                f'our head pools by itself, and would take the place of {others} too: '
                'leave --bottleneck out to keep them'
            )
        return held
    if place.before < place.necks:
        held['post_neck'] = Code(f'{_NECK}[{place.before}:]') if split else whole
    elif place.switch:
        held['post_neck'] = facts.POOLING
    return held


def refuse_concat(wanted: Wanted, facts: ModuleType) -> None:
    """Refuse a modulation that doubles the channels before a head that counts them.

    Raises:
        UsageError: names the remedy.
    """
    if wanted.how == _CONCAT and not (wanted.bottleneck and facts.POOLING):
        raise UsageError(
            "modulation='concat' doubles the channels that the host's head reads; "
            'take another modulation, or set modulation, and in_channels of whatever '
            'reads the neck, by hand in what is written without --modulation'
        )
