"""The paper's Table 5: other people's attention beside the information bottleneck's."""

rows = [
    *(
        dict(name=f'vgg{part}', title=title, config=f'../{{vgg}}{part}_{{data}}.py')
        for part, title in (
            ('', 'VGG'),
            ('_gap', 'VGG-GAP'),
            ('_pan', 'VGG-PAN'),
            ('_dvib', 'VGG-DVIB'),
            ('_att2', 'VGG-att2'),
            ('_att3', 'VGG-att3'),
            ('_aib', 'VGG-aib'),
            ('_aib_qt', 'VGG-aib-qt'),
        )
    ),
    *(
        dict(name=f'wrn{part}', title=title, config=f'../{{wrn}}{part}_{{data}}.py')
        for part, title in (
            ('', 'WRN'),
            ('_abn', 'WRN-ABN'),
            ('_aib', 'WRN-aib'),
            ('_aib_qt', 'WRN-aib-qt'),
        )
    ),
]
