"""The narrow Faster R-CNN with AIB attention on the FPN's maps and Gaussian latents."""

_base_ = 'faster_rcnn_r18_narrow.py'

custom_imports = dict(imports=['aib_mm'])

model = dict(
    neck=dict(
        _delete_=True,  # it is held by the attention now
        type='AIBAttention',
        in_channels={{_base_.channels}},
        pre_neck={{_base_.model.neck}},
    ),
    roi_head=dict(type='GaussianRoIHead', bbox_head=dict(type='GaussianBBoxHead')),
)
