"""The paper's Fig. 6: the weight of the divergence, the latent's width, the anchors.

The values of K are the paper's; it prints no list of those of beta and Q.
"""

rows = [
    *(
        dict(
            name=f'beta_{beta}',
            title=f'VGG-aib, beta {beta}',
            config='../{vgg}_aib_{data}.py',
            options=[f'model.head.aib_loss.beta={beta}'],
        )
        for beta in (0, 0.0001, 0.001, 0.01, 0.1, 1)
    ),
    *(
        dict(
            name=f'latent_{dims}',
            title=f'VGG-aib, K {dims}',
            config='../{vgg}_aib_{data}.py',
            options=[f'model.head.latent_dim={dims}'],
        )
        for dims in (64, 128, 256, 512, 1024)
    ),
    *(
        dict(
            name=f'anchors_{count}',
            title=f'VGG-aib-qt, Q {count}',
            config='../{vgg}_aib_qt_{data}.py',
            options=[f'model.neck.quantizer.num_anchors={count}'],
        )
        for count in (5, 10, 20, 50, 100)
    ),
]
