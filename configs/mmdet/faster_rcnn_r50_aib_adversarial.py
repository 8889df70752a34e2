"""Faster R-CNN R50-aib with divergences learnt by discriminators (paper, Eq. 20)."""

_base_ = 'faster_rcnn_r50_aib.py'

kl = dict(type='AdversarialKL', latent_dim=1024)

model = dict(roi_head=dict(bbox_head=dict(aib_loss=dict(kl=kl))))
