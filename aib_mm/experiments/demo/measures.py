"""The columns of the demo's table."""

from aib_mm.experiments.grid.results import TIMES, Measure, metric

_TRAIN, _TEST = TIMES

MEASURES = (
    Measure(
        'error',
        'error %',
        2,
        lambda result: 100 - result.metrics['accuracy/top1'],
        'Share of test images whose highest score is not the true class.',
    ),
    Measure(
        'kl_nats',
        'KL nats',
        1,
        metric('latent/kl_nats'),
        'Divergence of the latent from N(0, I), summed over its dimensions, mean over '
        'images: an upper bound on what the latent tells of the image.',
    ),
    Measure(
        'on_digit',
        'attention on digit %',
        1,
        metric('attention/energy', 100),
        'Share of the mean attention, its minimum taken off, that lies on the digit.',
    ),
    Measure(
        'digit_area',
        'digit area %',
        1,
        metric('attention/area', 100),
        "The digit's share of the image: what attention without preference would get.",
    ),
    Measure(
        'pointing',
        'pointing %',
        1,
        metric('attention/pointing', 100),
        'Pointing game: how often the maximum of the mean attention falls on the '
        'digit, one pixel of tolerance.',
    ),
    Measure(
        'chance',
        'by chance %',
        1,
        metric('attention/chance', 100),
        'Pointing game of a random position.',
    ),
    _TRAIN,
    Measure(
        'train_speed',
        'train img/s',
        0,
        lambda result: result.training.speed,
        'Training images a second, forward and backward, without the time to start.',
    ),
    Measure(
        'train_memory',
        'GPU MiB',
        0,
        lambda result: result.training.memory,
        "Peak of the GPU's memory in training.",
    ),
    _TEST,
)
