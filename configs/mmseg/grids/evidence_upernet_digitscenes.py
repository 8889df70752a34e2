"""What the map's price does to a segmentor, 24 epochs each: docs/selectivity.md.

The last row has more: it goes on from the second.

For tools/grid.py, which tests by itself: the trainings do not validate.
"""

_untested = ['val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']
_loss = 'model.decode_head.aib_loss'

rows = [
    dict(
        name=name,
        title=title,
        config=f'../upernet_beit-narrow{part}_digitscenes.py',
        options=_untested,
    )
    for name, title, part in (
        ('vanilla', 'UperNet-BEiT', ''),
        ('aib', 'UperNet-BEiT-aib', '_aib'),
        ('aib_priced', 'UperNet-BEiT-aib, priced', '_aib_priced'),
    )
]
rows.append(
    dict(
        name='aib_tuned',
        title='UperNet-BEiT-aib, then priced',
        about='Eight epochs with the price, at half of the rate, from UperNet-BEiT-aib '
        'after its twenty-four.',
        config='../upernet_beit-narrow_aib_priced_digitscenes.py',
        options=[
            'train_cfg.max_epochs=8',
            'param_scheduler.total_steps=8',
            'param_scheduler.eta_max=0.001',
            'optim_wrapper.optimizer.lr=0.001',
            f'{_loss}.attention_price=0.8',
            f'{_loss}.price_begin=0',
            f'{_loss}.price_end=1000',
            *_untested,
        ],
        load_from='aib',
    )
)
