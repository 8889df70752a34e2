"""The paper's Table 2: backbone, modulation, encoder, divergence and quantiser.

Titles begin with the number of the paper's line.
"""


def _line(name, title, config, options=()):
    """Without and with the quantiser."""
    return [
        dict(name=f'{name}{qt}', title=title + mark, config=config, options=options)
        for qt, mark, config in (
            ('', '', f'../{config}_{{data}}.py'),
            ('_qt', ', qt', f'../{config}_qt_{{data}}.py'),
        )
    ]


_adversarial = [
    'model.head.aib_loss.kl.type=AdversarialKL',
    'model.head.aib_loss.kl.latent_dim={latent_dim}',
]
# These encoders draw L_z in the neck.
_noise = [
    *_adversarial,
    'model.head.encoder.type=NoiseEncoder',
    'model.head.test_samples=1',
]
_twice = 'model.head.encoder.body.in_channels={double_channels}'

rows = [
    dict(name='vgg', title='0 vanilla VGG', config='../{vgg}_{data}.py'),
    dict(name='wrn', title='1 vanilla WRN', config='../{wrn}_{data}.py'),
    *_line('wrn_aib', '2 WRN-aib', '{wrn}_aib'),
    *_line('vgg_aib', '3 VGG-aib', '{vgg}_aib'),
    *_line(
        'vgg_aib_scale',
        '4 VGG-aib, scale',
        '{vgg}_aib',
        ['model.neck.modulation=scale'],
    ),
    *_line(
        'vgg_aib_bias',
        '5 VGG-aib, bias',
        '{vgg}_aib',
        ['model.neck.modulation=bias'],
    ),
    *_line(
        'vgg_aib_concat',
        '6 VGG-aib, concat',
        '{vgg}_aib',
        ['model.neck.modulation=concat', _twice],
    ),
    *_line(
        'vgg_aib_adversarial',
        '7 VGG-aib, adversarial',
        '{vgg}_aib',
        _adversarial,
    ),
    *_line(
        'vgg_aib_additive',
        '8 VGG-aib, adversarial, additive',
        '{vgg}_aib',
        [*_noise, 'model.neck.noise.type=AdditiveNoise'],
    ),
    *_line(
        'vgg_aib_propagated',
        '9 VGG-aib, adversarial, propagated',
        '{vgg}_aib',
        [*_noise, 'model.neck.noise.type=PropagatedNoise', _twice],
    ),
]
