"""What the map's price does, at equal budgets of 16 epochs: docs/selectivity.md.

The last row has more: it goes on from the second.

For tools/grid.py, which tests by itself: the trainings do not validate.
"""

_epochs = ['train_cfg.max_epochs=16', 'param_scheduler.total_steps=16']
_untested = ['val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']

rows = [
    dict(
        name='vanilla',
        title='VGG16',
        config='../vgg16-narrow_digitscenes.py',
        options=_epochs + _untested,
    ),
    dict(
        name='aib',
        title='VGG16-aib',
        config='../vgg16-narrow_aib_digitscenes.py',
        options=_epochs + _untested,
    ),
    dict(
        name='aib_qt',
        title='VGG16-aib-qt',
        config='../vgg16-narrow_aib_qt_digitscenes.py',
        options=_epochs + _untested,
    ),
    dict(
        name='aib_priced',
        title='VGG16-aib, priced',
        config='../vgg16-narrow_aib_priced_digitscenes.py',
        options=_untested,
    ),
    dict(
        name='aib_tuned',
        title='VGG16-aib, then priced',
        about='Four epochs with the price, from VGG16-aib after its sixteen.',
        config='../vgg16-narrow_aib_priced-finetune_digitscenes.py',
        options=_untested,
        load_from='aib',
    ),
]
