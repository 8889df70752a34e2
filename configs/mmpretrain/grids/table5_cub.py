"""The paper's Table 5 on CUB, without VGG-PAN and WRN-ABN; for tools/grid.py."""

rows = [
    *(
        dict(name=f'vgg{part}', title=title, config=f'../vgg16{part}_cub.py')
        for part, title in (
            ('', 'VGG'),
            ('_gap', 'VGG-GAP'),
            ('_dvib', 'VGG-DVIB'),
            ('_att2', 'VGG-att2'),
            ('_att3', 'VGG-att3'),
            ('_aib', 'VGG-aib'),
            ('_aib_qt', 'VGG-aib-qt'),
        )
    ),
    *(
        dict(name=f'wrn{part}', title=title, config=f'../wrn50-2{part}_cub.py')
        for part, title in (('', 'WRN'), ('_aib', 'WRN-aib'), ('_aib_qt', 'WRN-aib-qt'))
    ),
]
