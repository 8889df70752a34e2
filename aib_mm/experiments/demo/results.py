"""The demo's results: over seeds as a table, as JSON, as cases of the report."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import METRICS
from PIL import Image

from aib_mm.experiments.demo.runs import Outcome, Prediction
from aib_mm.interpret.draw.report import Case, ModelCases
from aib_mm.utils.tables import Column, Table, mean_cell

SHARED_CASES = 10
# The same images first for every model, whatever the order of the test set.
_ORDER_SEED = 0


@dataclass(frozen=True)
class Measure:
    """A column of the results: key in the JSON file, head, and where it is from."""

    key: str
    head: str
    digits: int
    value: Callable[[Outcome], float | None]
    meaning: str


def _metric(name: str, scale: float = 1.0) -> Callable[[Outcome], float | None]:
    def value(outcome: Outcome) -> float | None:
        found = outcome.metrics.get(name)
        return None if found is None else scale * float(found)

    return value


MEASURES = (
    Measure(
        'error',
        'error %',
        2,
        lambda outcome: 100 - float(outcome.metrics['accuracy/top1']),
        'Share of test images whose highest score is not the true class.',
    ),
    Measure(
        'kl_nats',
        'KL nats',
        1,
        _metric('latent/kl_nats'),
        'Divergence of the latent from N(0, I), summed over its dimensions, mean over '
        'images: an upper bound on what the latent tells of the image.',
    ),
    Measure(
        'on_digit',
        'attention on digit %',
        1,
        _metric('attention/energy', 100),
        'Share of the mean attention, its minimum taken off, that lies on the digit.',
    ),
    Measure(
        'digit_area',
        'digit area %',
        1,
        _metric('attention/area', 100),
        "The digit's share of the image: what attention without preference would get.",
    ),
    Measure(
        'pointing',
        'pointing %',
        1,
        _metric('attention/pointing', 100),
        'Pointing game: how often the maximum of the mean attention falls on the '
        'digit, one pixel of tolerance.',
    ),
    Measure(
        'chance',
        'by chance %',
        1,
        _metric('attention/chance', 100),
        'Pointing game of a random position.',
    ),
    Measure(
        'train_seconds',
        'train s',
        0,
        lambda outcome: outcome.training.seconds,
        'Wall time of training.',
    ),
    Measure(
        'train_speed',
        'train img/s',
        0,
        lambda outcome: outcome.training.images / outcome.training.seconds,
        'Training images a second, forward and backward.',
    ),
    Measure(
        'train_memory',
        'GPU MiB',
        0,
        lambda outcome: outcome.training.peak_memory,
        "Peak of the GPU's memory in training.",
    ),
    Measure(
        'test_seconds',
        'test s',
        0,
        lambda outcome: outcome.test_seconds,
        'Wall time of testing, with all Monte Carlo samples.',
    ),
)


def values_of(outcome: Outcome) -> dict[str, float]:
    """Each measure that this outcome has, by key."""
    values = {measure.key: measure.value(outcome) for measure in MEASURES}
    return {key: value for key, value in values.items() if value is not None}


def by_model(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes of each model, all its seeds, in the order they came."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.task.model.name, []).append(outcome)
    return groups


def make_table(outcomes: Sequence[Outcome]) -> Table:
    """One row a model; over several seeds mean ± sample standard deviation.

    A measure that no model has, such as a GPU's memory on a CPU, has no column.
    """
    found = {key for outcome in outcomes for key in values_of(outcome)}
    measures = [measure for measure in MEASURES if measure.key in found]
    columns = [Column('model', ''), *(Column(m.head, m.meaning) for m in measures)]
    rows = []
    for group in by_model(outcomes).values():
        values = [values_of(outcome) for outcome in group]
        cells = [
            mean_cell([v[m.key] for v in values if m.key in v], m.digits)
            for m in measures
        ]
        rows.append([group[0].task.model.title, *cells])
    return Table(columns, rows)


def as_json(outcomes: Sequence[Outcome], about: dict[str, Any]) -> dict[str, Any]:
    """Everything that was measured, run by run."""
    models = {
        name: dict(
            config=f'configs/mmpretrain/{group[0].task.model.config}',
            runs=[
                dict(
                    seed=outcome.task.seed,
                    values=values_of(outcome),
                    metrics={k: float(v) for k, v in outcome.metrics.items()},
                    training=asdict(outcome.training),
                )
                for outcome in group
            ],
        )
        for name, group in by_model(outcomes).items()
    }
    return dict(about=about, models=models)


def report_sections(outcomes: Sequence[Outcome], count: int) -> list[ModelCases]:
    """Per model, of its first seed, ``count`` right and as many wrong cases.

    They are the first ones in a random order that is the same for all models, so that
    nothing was picked and models can be compared.
    """
    sections = []
    for group in by_model(outcomes).values():
        outcome = group[0]
        total = len(outcome.predictions)
        order = np.random.default_rng(_ORDER_SEED).permutation(total)
        ordered = [outcome.predictions[i] for i in order]
        right = [prediction for prediction in ordered if prediction.is_right]
        wrong = [prediction for prediction in ordered if not prediction.is_right]
        localization = _localization(outcome.task.config())
        sections.append(
            ModelCases(
                title=outcome.task.model.title,
                about=outcome.task.model.about,
                cases=[
                    _case(prediction, outcome, localization)
                    for prediction in (*right[:count], *wrong[:count])
                ],
                num_right=len(right),
                num_wrong=len(wrong),
                shared=[
                    _case(prediction, outcome, localization)
                    for prediction in ordered[:SHARED_CASES]
                ],
            )
        )
    return sections


def _localization(cfg: Config) -> Any:
    """The config's own localisation metric, to measure single images with."""
    for metric in cfg.test_evaluator:
        if metric['type'] == 'AttentionLocalization':
            return METRICS.build(metric)
    return None


def _case(prediction: Prediction, outcome: Outcome, localization: Any) -> Case:
    sample = prediction.sample
    measures = {}
    if localization is not None:
        localization.process({}, [sample])
        found = localization.results.pop()
        measures['on the digit'] = (
            f'{100 * found["energy"]:.0f} % (area {100 * found["area"]:.0f} %)'
        )
        measures['maximum on the digit'] = _hit(found['pointing'])
    if 'kl_nats' in sample:
        measures['KL'] = f'{float(sample["kl_nats"]):.1f} nats'
    path = prediction.image_path
    with Image.open(path) as image:
        pixels = np.asarray(image.convert('RGB'))
    return Case(
        name=path.relative_to(outcome.task.data).with_suffix('').as_posix(),
        image=pixels,
        label=prediction.label,
        scores=prediction.scores,
        mask=prediction.mask,
        attention_mean=_map(sample, 'attention_mean'),
        attention_std=_map(sample, 'attention_std'),
        quantized=prediction.quantized,
        anchors_used=prediction.anchors_used,
        measures=measures,
    )


def _hit(share: float) -> str:
    """A hit of the pointing game; of positions that share the maximum, how many."""
    if share in (0.0, 1.0):
        return 'yes' if share else 'no'
    return f'{100 * share:.0f} % of tied positions'


def _map(sample: dict[str, Any], key: str) -> np.ndarray | None:
    return sample[key][0].cpu().numpy() if key in sample else None
