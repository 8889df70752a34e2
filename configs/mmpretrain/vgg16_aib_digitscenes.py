"""Full-size VGG16-aib on DigitScenes, for a GPU."""

_base_ = [
    '_base_/models/vgg16_aib.py',
    '_base_/datasets/digit_scenes.py',
    '_base_/evaluators/digit_scenes_attention.py',
    '_base_/schedules/one_cycle_15e.py',
    '_base_/attention_runtime.py',
]
