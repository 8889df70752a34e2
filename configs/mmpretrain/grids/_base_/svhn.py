"""What the rows' names in braces stand for: full size, SVHN."""

fill = dict(vgg='vgg16', wrn='wrn28-10', data='svhn')
