"""As stl10.py, but with STL-10's own labels compared as numbers.

Classes 1 and 2 are exchanged between the sets, and 6 and 7 are others: no model of
CIFAR-10 can be wrong on less than about 40 %. The paper's 50 to 57 % look like this
reading; docs/classification.md.
"""

_base_ = 'stl10.py'

domains = {
    'STL10-train': dict(dataset=dict(classes_of=None)),
    'STL10-test': dict(dataset=dict(classes_of=None)),
}
