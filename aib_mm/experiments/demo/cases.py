"""The test images on the demo's page: kept by the test, chosen and drawn afterwards."""

import io
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from numpy.typing import NDArray
from PIL import Image

from aib_mm.attention import AIBAttention
from aib_mm.interpret.draw.cases import Case, Tile, top_scores
from aib_mm.interpret.draw.page import Section
from aib_mm.interpret.draw.pictures import image_uri, outline_uri
from aib_mm.interpret.measure.metrics import AttentionLocalization
from aib_mm.interpret.record.recording import AttentionRecord, record_attention
from aib_mm.utils.files import write_atomically

CASES = 'cases.npz'
SHARED_CASES = 10
# The same images first for every model, whatever the order of the test set.
_ORDER_SEED = 0

#: Arrays of ``CASES``, a row an image. ``path``, ``label``, ``scores`` ``(N, C)``,
#: ``mask`` ``(N, H, W)``; ``kl_nats``; the maps ``mean``, ``std``, ``passed`` (bits)
#: and ``quantized``, ``(N, h, w)``, the last a sample rounded to anchors, of which it
#: took ``anchors``.
Cases = dict[str, NDArray]
_FIELDS = dict(mean='attention_mean', std='attention_std', passed='attention_bits')


@HOOKS.register_module()
class CasesHook(Hook):
    """Writes what a classifier predicts and attends to in a test to ``CASES``.

    The file lies in the work folder. The images must be of one size.
    """

    def before_test(self, runner: Runner) -> None:
        self._cases: list[dict[str, Any]] = []
        self._stack = ExitStack()
        self._record: AttentionRecord = {}
        if any(isinstance(module, AIBAttention) for module in runner.model.modules()):
            recorder = record_attention(runner.model)
            self._record = self._stack.enter_context(recorder)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        passes = next(iter(self._record.values()), [])
        maps = passes.pop()[-1] if passes else None
        for i, sample in enumerate(outputs):
            case = dict(
                path=sample.img_path,
                label=int(sample.gt_label),
                scores=sample.pred_score.cpu().numpy(),
                mask=np.asarray(sample.gt_seg_map) > 0,
            )
            for key, field in _FIELDS.items():
                if field in sample:
                    case[key] = sample.get(field)[0].cpu().numpy()
            if 'kl_nats' in sample:
                case['kl_nats'] = float(sample.kl_nats)
            if maps is not None and maps.indices is not None:
                case['quantized'] = maps.samples[0, i, 0].cpu().numpy()
                case['anchors'] = maps.indices[0, i].unique().numel()
            self._cases.append(case)

    def after_test(self, runner: Runner) -> None:
        self._stack.close()
        arrays: dict[str, Any] = {
            key: [case[key] for case in self._cases] for key in self._cases[0]
        }
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_atomically(Path(runner.work_dir, CASES), content.getvalue())


def make_section(
    title: str, about: str, cases: Cases, data: Path, count: int
) -> Section:
    """One model's part of the page: ``count`` right and as many wrong cases.

    They are the first ones in a random order that is the same for all models, so that
    nothing was picked and models can be compared.

    Args:
        data: folder of the images, which are named from there.
    """
    is_right = cases['scores'].argmax(axis=1) == cases['label']
    order = np.random.default_rng(_ORDER_SEED).permutation(len(is_right))
    right, wrong = order[is_right[order]], order[~is_right[order]]
    draw = partial(_case, cases, data)
    return Section(
        title,
        about,
        cases=[*map(draw, right[:count]), *map(draw, wrong[:count])],
        num_right=len(right),
        num_wrong=len(wrong),
        shared=[*map(draw, order[:SHARED_CASES])],
    )


def _case(cases: Cases, data: Path, index: int) -> Case:
    found = {key: values[index] for key, values in cases.items()}
    path = Path(str(found['path']))
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB'))
    scores, label = found['scores'], int(found['label'])
    predicted = int(scores.argmax())
    notes = {'quantized': f'{found.get("anchors")} anchors'}
    kl = {'KL': f'{found["kl_nats"]:.1f} nats'} if 'kl_nats' in found else {}
    return Case(
        name=path.relative_to(data).with_suffix('').as_posix(),
        photo=image_uri(pixels),
        shape=pixels.shape,
        predicted=[predicted],
        true=[label],
        right=predicted == label,
        tiles=[
            Tile(
                name, found[name], notes.get(name, ''), smooth=name != 'quantized'
            ).picture()
            for name in ('mean', 'std', 'quantized', 'passed')
            if name in found
        ],
        outline=outline_uri(found['mask']),
        scores=top_scores(scores, [label]),
        measures={**_localization(found), **kl},
    )


def _localization(found: dict[str, Any]) -> dict[str, str]:
    """The test's own measures, of one image; none without attention."""
    if 'mean' not in found:
        return {}
    values = _measure(found, 'mean')
    energy, area, hit = (values[key] for key in ('energy', 'area', 'pointing'))
    tied = f'{hit:.0f} % of tied positions'
    told = {
        'on the digit': f'{energy:.0f} % (area {area:.0f} %)',
        'maximum on the digit': {0.0: 'no', 100.0: 'yes'}.get(hit, tied),
    }
    if 'passed' in found:
        told['bits on the digit'] = f'{_measure(found, "passed")["energy"]:.0f} %'
    return told


def _measure(found: dict[str, Any], name: str) -> dict[str, float]:
    """``AttentionLocalization`` of one map of one image, in %."""
    field = _FIELDS[name]
    metric = AttentionLocalization(field=field)
    sample = {field: torch.from_numpy(found[name])[None], 'gt_seg_map': found['mask']}
    metric.process({}, [sample])
    return {key: 100 * value for key, value in metric.results[0].items()}
