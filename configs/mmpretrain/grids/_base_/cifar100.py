"""What the rows' names in braces stand for: full size, CIFAR-100."""

_base_ = 'cifar10.py'

fill = dict(data='cifar100')
