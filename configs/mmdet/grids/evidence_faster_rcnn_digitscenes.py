"""What the map's price does to a detector, 16 epochs each: docs/selectivity.md.

The last row has more: it goes on from the second.

For tools/grid.py, which tests by itself: the trainings do not validate.
"""

_untested = ['val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']
_loss = 'model.roi_head.bbox_head.aib_loss'

rows = [
    dict(
        name=name,
        title=title,
        config=f'../faster_rcnn_r18-narrow{part}_digitscenes.py',
        options=_untested,
    )
    for name, title, part in (
        ('vanilla', 'Faster R-CNN', ''),
        ('aib', 'Faster R-CNN-aib', '_aib'),
        ('aib_priced', 'Faster R-CNN-aib, priced', '_aib_priced'),
    )
]
rows.append(
    dict(
        name='aib_tuned',
        title='Faster R-CNN-aib, then priced',
        about='Six epochs with the price, at half of the rate, from Faster R-CNN-aib '
        'after its sixteen.',
        config='../faster_rcnn_r18-narrow_aib_priced_digitscenes.py',
        options=[
            'train_cfg.max_epochs=6',
            'param_scheduler.total_steps=6',
            'param_scheduler.eta_max=0.001',
            'optim_wrapper.optimizer.lr=0.001',
            f'{_loss}.attention_price=0.2',
            f'{_loss}.price_begin=0',
            f'{_loss}.price_end=375',
            *_untested,
        ],
        load_from='aib',
    )
)
