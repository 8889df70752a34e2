"""A config's ``FlexibleRunner`` and strategy, and what they leave of the safeguards."""

import logging

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log

from aib_mm.errors import UsageError
from aib_mm.training.non_finite import NonFiniteLossHook
from aib_mm.training.random_state import RandomStateHook
from aib_mm.training.safe_checkpoint import SafeCheckpointHook
from aib_mm.training.steady_log import SteadyLogHook
from aib_mm.utils.configs import type_name

#: What a training gets here whatever its config says.
SAFEGUARDS = (RandomStateHook, SafeCheckpointHook, NonFiniteLossHook, SteadyLogHook)

_SHARDING = ('AIBFSDPStrategy', 'FSDPStrategy', 'DeepSpeedStrategy')


def check_launcher(cfg: Config) -> None:
    """Refuse to spread a model over processes where there is one.

    Raises:
        UsageError: a strategy that needs a launcher, and none is given.
    """
    kind = _strategy(cfg)
    if kind in _SHARDING and cfg.get('launcher', 'none') == 'none':
        raise UsageError(
            f'strategy {kind} of config {cfg.filename} works in several processes: '
            'start them with tools/dist_train.sh CONFIG NUMBER, or --launcher'
        )


def saves_folders(cfg: Config) -> bool:
    """Whether checkpoints are folders of shards, which only their strategy reads."""
    kind = _strategy(cfg)
    if kind not in _SHARDING:
        return False
    default = 'local' if kind == 'FSDPStrategy' else 'full'
    asked = cfg.strategy.get('state_dict_cfg', default)
    return kind == 'DeepSpeedStrategy' or asked == 'local'


def safeguards(cfg: Config) -> tuple[type[Hook], ...]:
    """The hooks that this config's Runner can have; says once which it cannot."""
    if not _is_flexible(cfg):
        return SAFEGUARDS
    lost = [
        'a checkpoint is not whole if the process is killed while it is written',
        'whether a checkpoint is of this model is not checked (python -m aib_mm '
        'compare CONFIG CHECKPOINT does)',
    ]
    hooks: tuple[type[Hook], ...] = (RandomStateHook, NonFiniteLossHook, SteadyLogHook)
    if _strategy(cfg) == 'DeepSpeedStrategy':
        # It lets no hook add to what it saves.
        hooks = (NonFiniteLossHook, SteadyLogHook)
        lost.append('a resumed training draws other random numbers')
    text = f'FlexibleRunner: its strategy writes the checkpoints: {"; ".join(lost)}'
    print_log(text, logger='current', level=logging.WARNING)
    return hooks


def _strategy(cfg: Config) -> str:
    """Name of the strategy's class; '' where the Runner takes no strategy."""
    return type_name(cfg.get('strategy')) if _is_flexible(cfg) else ''


def _is_flexible(cfg: Config) -> bool:
    return type_name(dict(type=cfg.get('runner_type'))) == 'FlexibleRunner'
