"""Sphinx's configuration of the book; tools/book.py lays out its sources and calls it.

Sphinx rather than Jupyter Book 2: its theme and renderer come from the package registry
alone, where Jupyter Book 2 fetches templates from a service of its own while it builds;
and numpydoc reads the docstrings.
"""

import sfusion

project = "sfusion"
author = "The sfusion authors"
copyright = "the sfusion authors"
version = release = "0.1.0"
extensions = [
    "myst_nb",  # notebooks and Markdown as pages
    "sphinx.ext.autodoc",  # the reference, out of the docstrings
    "sphinx.ext.autosummary",  # its pages, a room and a module each
    "sphinx.ext.viewcode",  # links from there to the code
    "numpydoc",  # sections of the docstrings
    "sphinx-mathjax-offline",  # formulas: MathJax from the pages themselves
]
nb_execution_mode = "off"  # the stored outputs are the records' own
nb_merge_streams = True
nb_render_markdown_format = "myst"  # findings hold formulas, as cells do
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
html_theme = "sphinx_book_theme"
html_title = "sfusion"
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],
}
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_copy_source = False
html_show_sourcelink = False
templates_path = ["_templates"]
exclude_patterns = ["_static", "_templates"]
suppress_warnings = [
    "mystnb.mime_priority"
]  # of outputs that a browser shows in another form
assert sfusion  # autodoc must find the checkout's package, not another
