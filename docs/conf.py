"""The documentation site: ``make docs`` builds it without a warning, or fails."""

import aib_mm

project = 'aib_mm'
author = 'aib_mm authors'
copyright = author
release = aib_mm.__version__

extensions = [
    'myst_nb',  # Markdown too
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'aib_mm {release}'

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
nb_execution_mode = 'off'  # outputs are kept, tests/test_notebooks.py runs the cells

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # docstrings say shapes, which tell more
autodoc_default_options = {'members': True, 'show-inheritance': True}
napoleon_use_rtype = False
napoleon_use_ivar = True
