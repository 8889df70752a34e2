"""What else moves a priced map, one or two seeds each: docs/selectivity.md.

For tools/grid.py, which tests by itself: the trainings do not validate.
"""

_priced = '../vgg16-narrow_aib_priced_digitscenes.py'
_aib = '../vgg16-narrow_aib_digitscenes.py'
_sixteen = ['train_cfg.max_epochs=16', 'param_scheduler.total_steps=16']
_twice = ['train_cfg.max_epochs=32', 'param_scheduler.total_steps=32']
_untested = ['val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']

rows = [
    dict(name=name, title=title, config=config, options=options + _untested)
    for name, title, config, options in (
        ('priced', 'VGG16-aib, priced', _priced, []),
        (
            'unpriced',
            'its price 0',
            _priced,
            ['model.head.aib_loss.attention_price=0.0'],
        ),
        ('no_branch', 'without its branch', _priced, ['model.neck.mean_branch=None']),
        (
            'branch',
            'VGG16-aib with its branch',
            _aib,
            [
                *_sixteen,
                'model.neck.mean_branch.type=VGGBlocks',
                'model.neck.mean_branch.blocks=[4]',
                'model.neck.mean_branch.width=0.125',
                'model.neck.mean_branch.out_blocks=[4]',
            ],
        ),
        (
            'host_head',
            "priced, mmpretrain's head",
            '../vgg16-narrow_priced_digitscenes.py',
            [],
        ),
        (
            'price0.03',
            'price 0.03',
            _priced,
            ['model.head.aib_loss.attention_price=0.03'],
        ),
        (
            'price0.3',
            'price 0.3',
            _priced,
            ['model.head.aib_loss.attention_price=0.3'],
        ),
        (
            'quantized',
            'priced, 20 anchors',
            _priced,
            [
                'model.neck.quantizer.type=VQAnchorQuantizer',
                'model.neck.quantizer.num_anchors=20',
                'model.neck.quantizer.value_range=[0.0,0.999]',
            ],
        ),
        (
            'wrn',
            'WRN16-aib, priced',
            '../wrn16-narrow_aib_digitscenes.py',
            [
                *_sixteen,
                'model.neck.modulation=replace',
                'model.neck.in_channels=[32]',
                'model.head.aib_loss.attention_price=0.1',
                'model.head.aib_loss.price_begin=500',
                'model.head.aib_loss.price_end=1000',
            ],
        ),
        (
            'vanilla_twice',
            'VGG16, 32 epochs',
            '../vgg16-narrow_digitscenes.py',
            _twice,
        ),
        ('priced_twice', 'priced, 32 epochs', _priced, _twice),
    )
]
