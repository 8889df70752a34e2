"""Information-bottleneck spatial attention for the OpenMMLab toolboxes.

``custom_imports = dict(imports=['aib_mm'])`` in a config registers everything: the core
in mmengine's root registries, and the parts for each host that is installed. Public
names are found when they are asked for: ``from aib_mm import AIBAttention``.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from aib_mm import hosts
from aib_mm.version import __version__

# ruff: noqa: F401
if TYPE_CHECKING:  # what the tables below say, for editors and mypy
    from mmengine.config import Config

    from aib_mm.adversarial import AdversarialKL
    from aib_mm.apis import AttentionInferencer
    from aib_mm.attention import AIBAttention
    from aib_mm.classification import (
        STL10,
        SVHN,
        ABNHead,
        AIBClsHead,
        CAMHead,
        CropToBox,
        CUBWithBoxes,
        DigitScenes,
        LoadImageIfFile,
        LoadMaskAnnotations,
        LocalAttention,
        ProgressiveAttention,
        ResNetStage,
        VGGBlocks,
        VGGStage,
        WideResNetBlocks,
    )
    from aib_mm.detection import (
        GaussianBBoxHead,
        GaussianCascadeRoIHead,
        GaussianRoIHead,
    )
    from aib_mm.encoders import (
        GaussianEncoder,
        LatentDecoder,
        LatentEncoder,
        NoiseEncoder,
    )
    from aib_mm.export import export_onnx
    from aib_mm.features import (
        AttendedFeatures,
        AttentionMaps,
        AttentionModule,
        Samples,
    )
    from aib_mm.hooks import AIBLossHook, AIBMonitorHook, MergedFieldsHook
    from aib_mm.interpret import (
        AttentionFieldsHook,
        AttentionLocalization,
        AttentionVisualizationHook,
        LatentInformation,
        PredictionUncertainty,
        SamplesDrawn,
        record_attention,
    )
    from aib_mm.interpret.result import AttentionResult
    from aib_mm.losses import AIBLoss, GaussianKL
    from aib_mm.noise import AdditiveNoise, PropagatedNoise
    from aib_mm.plugin_layer import AIBLayer
    from aib_mm.quantizer import VQAnchorQuantizer
    from aib_mm.segmentation import (
        AIBDecodeHead,
        AIBFCNHead,
        AIBPSPHead,
        AIBSegformerHead,
        GaussianDecodeHead,
    )
    from aib_mm.training.anchor_decay import AnchorSparing
    from aib_mm.training.damaged_data import CheckSample
    from aib_mm.training.memory_format import ChannelsLastHook
    from aib_mm.training.non_finite import NonFiniteLossHook
    from aib_mm.training.random_state import (
        RandomStateHook,
        RankSeedHook,
        SamplerAndRankSeedHook,
        torch_worker_seeds,
    )
    from aib_mm.training.safe_checkpoint import SafeCheckpointHook
    from aib_mm.training.sharding import AIBFSDPStrategy, wrap_layers
    from aib_mm.training.steady_log import SteadyLogHook
    from aib_mm.training.used_data import UsedDataHook

# Modules and the public names in them. What configs name by ``type=``, in the core:
_CORE = {
    'aib_mm.adversarial': 'AdversarialKL',
    'aib_mm.attention': 'AIBAttention',
    'aib_mm.encoders': 'GaussianEncoder LatentDecoder NoiseEncoder',
    'aib_mm.hooks': 'AIBLossHook AIBMonitorHook MergedFieldsHook',
    'aib_mm.interpret': 'AttentionFieldsHook AttentionLocalization '
    'AttentionVisualizationHook LatentInformation PredictionUncertainty SamplesDrawn',
    'aib_mm.losses': 'AIBLoss GaussianKL',
    'aib_mm.noise': 'AdditiveNoise PropagatedNoise',
    'aib_mm.plugin_layer': 'AIBLayer',
    'aib_mm.quantizer': 'VQAnchorQuantizer',
    'aib_mm.training.anchor_decay': 'AnchorSparing',
    'aib_mm.training.damaged_data': 'CheckSample',
    'aib_mm.training.memory_format': 'ChannelsLastHook',
    'aib_mm.training.non_finite': 'NonFiniteLossHook',
    'aib_mm.training.random_state': 'RandomStateHook RankSeedHook '
    'SamplerAndRankSeedHook torch_worker_seeds',
    'aib_mm.training.safe_checkpoint': 'SafeCheckpointHook',
    'aib_mm.training.sharding': 'AIBFSDPStrategy wrap_layers',
    'aib_mm.training.steady_log': 'SteadyLogHook',
    'aib_mm.training.used_data': 'UsedDataHook',
}
# The same, made for one host:
_HOSTS = {
    'aib_mm.classification': 'ABNHead AIBClsHead CAMHead CropToBox CUBWithBoxes '
    'DigitScenes LoadImageIfFile LoadMaskAnnotations LocalAttention '
    'ProgressiveAttention ResNetStage STL10 SVHN VGGBlocks VGGStage WideResNetBlocks',
    'aib_mm.detection': 'GaussianBBoxHead GaussianCascadeRoIHead GaussianRoIHead',
    'aib_mm.segmentation': 'AIBDecodeHead AIBFCNHead AIBPSPHead AIBSegformerHead',
}
# What scripts call and subclass:
_CALLED = {
    'aib_mm.apis': 'AttentionInferencer',
    'aib_mm.encoders': 'LatentEncoder',
    'aib_mm.export': 'export_onnx',
    'aib_mm.features': 'AttendedFeatures AttentionMaps AttentionModule Samples',
    'aib_mm.interpret': 'record_attention',
    'aib_mm.interpret.result': 'AttentionResult',
    'aib_mm.segmentation': 'GaussianDecodeHead',
}
_MODULE_OF = {
    name: module
    for table in (_CORE, _HOSTS, _CALLED)
    for module, names in table.items()
    for name in names.split()
}

__all__ = ['__version__', 'register', *_MODULE_OF]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is asked for.

    Raises:
        ImportError: it stands on a package that is not installed, such as a host.
    """
    if name not in _MODULE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f'aib_mm.{name} needs {error.name}, which is not installed: requirements/ '
            'lists what belongs together, and make setup installs it'
        ) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def register(cfg: 'Config | None' = None) -> None:
    """Register the core and the parts for every installed host, each once.

    Args:
        cfg: then only for the hosts that it names, and after them its custom imports,
            which may look these parts up: for a config that was read with
            ``import_custom_modules=False``.

    Raises:
        ImportError: a custom import fails.
    """
    for module in _CORE:
        importlib.import_module(module)
    importlib.import_module('aib_mm.training.checkpoint').allow_mmengine_checkpoints()
    hosts.register_hosts(None if cfg is None else hosts.named_by(cfg))
    if cfg is not None and cfg.get('custom_imports'):
        utils = importlib.import_module('mmengine.utils')
        utils.import_modules_from_strings(**cfg.custom_imports)


def _run_by_our_program() -> bool:
    """Whether ``python -m aib_mm…`` or one of ``tools/`` imports the package.

    They call :func:`register` when they have read their arguments and their config, so
    that help costs nothing and a training pays for one host.
    """
    # While python -m looks for the module to run, as it does now, argv[0] is '-m', and
    # orig_argv has the module's name in this place.
    if sys.argv[0] == '-m':
        return sys.orig_argv[-len(sys.argv)].split('.')[0] == __name__
    return hasattr(sys.modules.get('__main__'), '__registers_later__')  # tools/


if not _run_by_our_program():
    register()
