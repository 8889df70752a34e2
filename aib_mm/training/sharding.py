"""Sharded training: mmengine's ``FSDPStrategy``, mended where it departs from a recipe.

For ``runner_type='FlexibleRunner'``: weights, gradients and optimizer state are spread
over the processes (``torch.distributed.fsdp``).
"""

from collections.abc import Sequence
from typing import Any

from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import FUNCTIONS, STRATEGIES
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.optim import Optimizer


@FUNCTIONS.register_module()
def wrap_layers(
    module: nn.Module, recurse: bool, nonwrapped_numel: int, layers: Sequence[str]
) -> bool:
    """Shard every module of these classes on its own, as an ``auto_wrap_policy``.

    torch's policies take classes, where a config has names, or sizes. A size is no
    safe choice: it may pick a head, whose weights then stay sharded, because its host
    calls ``loss`` and ``predict`` and not the module.

    Args:
        module: module of the model.
        recurse: whether torch asks if to look inside, which is always.
        nonwrapped_numel: not used.
        layers: names of classes whose instances are called, such as
            ``'BEiTTransformerEncoderLayer'``. What none of them holds is one shard.
    """
    return recurse or type(module).__name__ in layers


@STRATEGIES.register_module()
class AIBFSDPStrategy(FSDPStrategy):
    """``FSDPStrategy`` whose optimizer is the recipe's, and which can resume.

    - An optimizer constructor sees whole weights. mmengine's strategy shows it flat
      shards, and one that spares vectors from weight decay, as mmseg's for BEiT does,
      then spares every weight without a word.
    - The optimizer's state is loaded with the arguments in the order that torch takes
      them in today; mmengine's strategy has an older one.
    - Without a GPU it works on gloo, for trying things out.

    Args:
        model_wrapper: argument of ``FSDPStrategy``.
        state_dict_cfg: likewise. ``'full'`` gives checkpoints that every program of
            this package reads; ``'local'`` a folder each.
        kwargs: arguments of ``FSDPStrategy``.
    """

    def __init__(
        self,
        *,
        model_wrapper: dict | None = None,
        state_dict_cfg: str | dict = 'full',
        **kwargs: Any,
    ) -> None:
        on_cpu = get_device() == 'cpu'
        if on_cpu:
            model_wrapper = dict(model_wrapper or {}, device_id='cpu')
        super().__init__(
            model_wrapper=model_wrapper, state_dict_cfg=state_dict_cfg, **kwargs
        )
        if on_cpu:
            # torch frees what it has "moved": the memory would be read afterwards.
            self.state_dict_config.offload_to_cpu = False
            self.optim_state_dict_config.offload_to_cpu = False

    def build_optim_wrapper(
        self,
        optim_wrapper: Optimizer | BaseOptimWrapper | dict,
        model: nn.Module | None = None,
    ) -> BaseOptimWrapper:
        """Build the wrapper as mmengine does, with every weight in its shape."""
        if not isinstance(model, FullyShardedDataParallel):
            return super().build_optim_wrapper(optim_wrapper, model)
        with FullyShardedDataParallel.summon_full_params(model, writeback=False):
            return super().build_optim_wrapper(optim_wrapper, model)

    def optim_state_dict(self) -> dict:
        """State of the optimizer, by names of weights."""
        return FullyShardedDataParallel.optim_state_dict(
            self.model, self.optim_wrapper.optimizer
        )

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Take what ``optim_state_dict`` gave, by any number of processes."""
        optimizer = self.optim_wrapper.optimizer
        sharded = FullyShardedDataParallel.optim_state_dict_to_load(
            self.model, optimizer, state_dict
        )
        optimizer.load_state_dict(sharded)
