"""The demo's models, and the same at full size, for a GPU: docs/demo.md.

``tools/demo.py`` trains the first three; ``--models`` names others, also of
``selectivity_digitscenes.py``.
"""

rows = [
    dict(
        name='vanilla',
        title='VGG16',
        about='The network without attention, for comparison.',
        config='../vgg16-narrow_digitscenes.py',
    ),
    dict(
        name='aib',
        title='VGG16-aib',
        about='Attention after block 3 and a Gaussian latent, with the settings of the '
        "paper: modulation 'residual', divergence averaged over the latent.",
        config='../vgg16-narrow_aib_digitscenes.py',
    ),
    dict(
        name='aib_priced',
        title='VGG16-aib, then priced',
        about='One more epoch of VGG16-aib: what is not attended to becomes noise, and '
        'the map pays for what it lets through; ours.',
        config='../vgg16-narrow_aib_priced-finetune_digitscenes.py',
        options=[
            'train_cfg.max_epochs=1',
            'train_cfg.val_interval=1',
            'param_scheduler.total_steps=1',
            'model.head.aib_loss.price_end=60',
        ],
        load_from='aib',
    ),
    dict(
        name='aib_qt',
        title='VGG16-aib-qt',
        about='VGG16-aib, its attention scores rounded to the nearest of 20 learnt '
        'anchors.',
        config='../vgg16-narrow_aib_qt_digitscenes.py',
    ),
    dict(
        name='vgg16',
        title='VGG16, full size',
        about='The full-size model, for a GPU.',
        config='../vgg16_digitscenes.py',
    ),
    dict(
        name='vgg16_aib',
        title='VGG16-aib, full size',
        about='The full-size model, for a GPU.',
        config='../vgg16_aib_digitscenes.py',
    ),
    dict(
        name='vgg16_aib_qt',
        title='VGG16-aib-qt, full size',
        about='The full-size model, for a GPU.',
        config='../vgg16_aib_qt_digitscenes.py',
    ),
]
