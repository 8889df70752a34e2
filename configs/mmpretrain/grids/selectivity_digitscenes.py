"""One thing changed at a time, and what it does to the map: docs/selectivity.md.

For tools/grid.py; the demo takes the rows by name.
"""

_scale = '../vgg16-narrow_aib_scale_digitscenes.py'

rows = [
    dict(
        name='aib_scale',
        title='VGG16-aib, scale',
        about="Modulation 'scale': without the residual, what is not attended to is "
        'lost.',
        config=_scale,
    ),
    dict(
        name='aib_qt_scale',
        title='VGG16-aib-qt, scale',
        about='The same, its attention scores rounded to the nearest of 20 learnt '
        'anchors.',
        config='../vgg16-narrow_aib_qt_scale_digitscenes.py',
    ),
    dict(
        name='aib_selective',
        title='VGG16-aib, scale, start 0.05',
        about='Modulation by scaling, and scores that start at 0.05 instead of 0.5.',
        config='../vgg16-narrow_aib_selective_digitscenes.py',
    ),
    dict(
        name='aib_low_start',
        title='VGG16-aib, start 0.05',
        about="The paper's modulation, and scores that start at 0.05 instead of 0.5.",
        config='../vgg16-narrow_aib_digitscenes.py',
        options=['model.neck.initial_score=0.05'],
    ),
    dict(
        name='scale_beta0',
        title='scale, beta 0',
        about='No price on information.',
        config=_scale,
        options=['model.head.aib_loss.beta=0.0'],
    ),
    dict(
        name='scale_beta0.1',
        title='scale, beta 0.1',
        about='Ten times the price on information.',
        config=_scale,
        options=['model.head.aib_loss.beta=0.1'],
    ),
    dict(
        name='scale_sum',
        title='scale, KL summed',
        about="The divergence summed over the latent, at the paper's beta.",
        config=_scale,
        options=[
            'model.head.aib_loss.kl.type=GaussianKL',
            'model.head.aib_loss.kl.reduction=sum',
        ],
    ),
    dict(
        name='scale_noise',
        title='scale, more noise',
        about='Scores that start with a standard deviation of 0.31 instead of 0.007.',
        config=_scale,
        options=['model.neck.std_shift=1.0'],
    ),
    dict(
        name='scale_long',
        title='scale, 12 epochs',
        about='Twice the schedule.',
        config=_scale,
        options=[
            'train_cfg.max_epochs=12',
            'train_cfg.val_interval=12',
            'param_scheduler.total_steps=12',
        ],
    ),
]
