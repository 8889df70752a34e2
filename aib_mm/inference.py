"""Make a trained model cheaper to run: folded norms, memory format, precision.

For any model of an OpenMMLab host, with attention or without. Nothing is drawn more or
less often, nor in another order: with one seed the samples stay the same.
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from aib_mm.attention import AIBAttention, unwrapped
from aib_mm.encoders import LatentEncoder
from aib_mm.errors import choose

#: Names of what ``prepare`` can do, as ``tools/test.py --inference`` takes them.
OPTIONS = ('fold', 'channels-last', 'bf16', 'compile')

# Exactly these: a subclass may compute something else from its weights.
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def prepare(
    model: nn.Module,
    fold_norms: bool = True,
    channels_last: bool = True,
    compile: bool = False,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Change a model for testing, in place.

    It cannot be trained further, and with norms folded its weights no longer have their
    names: keep the checkpoint, or prepare a ``copy.deepcopy`` of the model.

    Args:
        model: in evaluation mode, with its trained weights.
        fold_norms: see ``fold_batch_norms``.
        channels_last: convs keep their weights, and give their maps, in this format.
        compile: ``torch.compile`` what has no graph break: backbone, necks, attention
            branches and bodies of encoders. Sampling stays eager, since a compiled
            function would draw other numbers.
        dtype: bfloat16 or float16: forward passes run under autocast. None is float32.

    Returns:
        The model.

    Raises:
        ValueError: a model in training mode, or another ``dtype``.
    """
    _check_eval(model)
    if dtype not in (None, torch.bfloat16, torch.float16):
        raise ValueError(f'dtype must be bfloat16, float16 or None, got {dtype}')
    inner = unwrapped(model)
    if fold_norms:
        fold_batch_norms(inner)
    if channels_last:
        _channels_last(inner)
    if dtype is not None:
        _Autocast(dtype).attach(inner)
    if compile:
        for part in compilable(inner):
            part.compile()
    return model


def prepare_by_name(model: nn.Module, options: Sequence[str]) -> nn.Module:
    """``prepare`` with those of ``OPTIONS`` that are named.

    Raises:
        ValueError: an option that does not exist; and as ``prepare``.
    """
    for option in options:
        choose('inference option', option, OPTIONS)
    return prepare(
        model,
        fold_norms='fold' in options,
        channels_last='channels-last' in options,
        compile='compile' in options,
        dtype=torch.bfloat16 if 'bf16' in options else None,
    )


class InferenceHook(Hook):
    """``prepare_by_name`` for a Runner that tests: when the weights are loaded.

    Args:
        options: some of ``OPTIONS``.
        others: the Runner's other hooks.

    Raises:
        ValueError: an ``EMAHook`` would exchange weights that are folded.
    """

    priority = 'LOWEST'

    def __init__(self, options: Sequence[str], others: Sequence[Hook] = ()) -> None:
        if 'fold' in options and any(isinstance(hook, EMAHook) for hook in others):
            raise ValueError(
                "inference option 'fold' changes the weights that EMAHook exchanges: "
                'leave one of them out'
            )
        self.options = options

    def before_test(self, runner: Runner) -> None:
        """Prepare the model."""
        prepare_by_name(runner.model.eval(), self.options)


def fold_batch_norms(model: nn.Module) -> dict[str, str]:
    """Fold batch norms into the convs before them, in place; equal up to rounding.

    ``mmcv.cnn.fuse_conv_bn`` pairs a norm with the last conv registered before it,
    which in a pre-activation network is not the one that feeds it. Here ``torch.fx``
    follows the data: a norm is folded if all it reads is a conv that nobody else reads.
    Of a module that cannot be traced the parts are, each for itself.

    Args:
        model: in evaluation mode.

    Returns:
        The norms that were folded, which are now ``nn.Identity``, and their convs.

    Raises:
        ValueError: a model in training mode.
    """
    _check_eval(model)
    shared = Counter(
        id(module) for _, module in model.named_modules(remove_duplicate=False)
    )
    folded = {}
    for norm_name, conv_name in list(_adjacent(model, '')):
        norm, conv = model.get_submodule(norm_name), model.get_submodule(conv_name)
        assert isinstance(norm, _BatchNorm) and isinstance(conv, _ConvNd)  # _adjacent
        if shared[id(norm)] > 1 or shared[id(conv)] > 1:
            continue
        if norm.running_mean is None:  # it normalises by the batch at test, too
            continue
        _replace(model, conv_name, fuse_conv_bn_eval(conv, norm))
        _replace(model, norm_name, nn.Identity().eval())
        folded[norm_name] = conv_name
    return folded


def compilable(model: nn.Module) -> list[nn.Module]:
    """The parts of a model that are compiled, each a module of its own."""
    found: list[nn.Module | None] = []
    for module in model.modules():
        if isinstance(module, AIBAttention):
            found += [module.pre_neck, module.post_neck, *module.branches]
        elif isinstance(module, LatentEncoder):
            found.append(module.body)
        elif isinstance(module, BaseModel):
            neck = getattr(module, 'neck', None)
            found.append(getattr(module, 'backbone', None))
            found.append(None if isinstance(neck, AIBAttention) else neck)
    return [part for part in found if part is not None]


def _channels_last(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight = module.weight.data
            module.weight.data = weight.contiguous(memory_format=torch.channels_last)


def _check_eval(model: nn.Module) -> None:
    training = [name for name, module in model.named_modules() if module.training]
    if training:
        where = f' ({training[0]})' if training[0] else ''
        raise ValueError(
            f'{type(model).__name__} is in training mode{where}: call eval() after its '
            'weights are loaded, and before it is prepared for inference'
        )


class _Tracer(fx.Tracer):
    """Stops at convs and norms, also at those that a host derives from PyTorch's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, _ConvNd | _BatchNorm):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def _adjacent(module: nn.Module, prefix: str) -> Iterator[tuple[str, str]]:
    """Names of a norm and of the conv that alone feeds it, and nothing else."""
    graph = _traced(module)
    if graph is None:
        for name, child in module.named_children():
            yield from _adjacent(child, f'{prefix}{name}.')
        return
    calls = Counter(node.target for node in graph.nodes if node.op == 'call_module')
    for node in graph.nodes:
        if node.op != 'call_module' or not _is_norm(_called(module, node)):
            continue
        (source,) = node.all_input_nodes or (None,)
        if (
            source is not None
            and source.op == 'call_module'
            and type(_called(module, source)) in _CONVS
            and len(source.users) == 1
            and calls[node.target] == calls[source.target] == 1
        ):
            yield f'{prefix}{node.target}', f'{prefix}{source.target}'


def _is_norm(module: nn.Module) -> bool:
    """Not a subclass with a forward pass of its own."""
    kind = type(module)
    plain = issubclass(kind, _BatchNorm) and kind.forward is _BatchNorm.forward
    return plain or kind is nn.SyncBatchNorm


def _called(module: nn.Module, node: fx.Node) -> nn.Module:
    return module.get_submodule(str(node.target))


def _traced(module: nn.Module) -> fx.Graph | None:
    """What a module's forward pass calls, arguments with a default at it; or None."""
    # A host's model has a forward pass for each of its modes.
    if isinstance(module, BaseModel) or not list(module.children()):
        return None
    given = {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    try:
        return _Tracer().trace(module, concrete_args=given or None)
    except Exception:  # any host's code runs here, on proxies instead of tensors
        return None


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition('.')
    setattr(model.get_submodule(parent), child, module)


class _Autocast:
    """Opens autocast when a module's forward pass begins, and closes it at its end."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.open: list[torch.autocast] = []

    def attach(self, model: nn.Module) -> None:
        self.device = next(model.parameters()).device.type
        model.register_forward_pre_hook(self._enter)
        model.register_forward_hook(self._leave, always_call=True)

    def _enter(self, model: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.open.append(torch.autocast(self.device, self.dtype))
        self.open[-1].__enter__()

    def _leave(self, model: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
        self.open.pop().__exit__(None, None, None)
