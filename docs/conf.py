"""Sphinx's settings; `python -m scripts.build_docs` copies this file beside the pages."""

import ttc_env

project = "ttc-env"
author = "the authors of ttc-env"
project_copyright = "2026, the authors of ttc-env (MIT licence)"
release = ttc_env.__version__
extensions = ["myst_parser", "sphinx.ext.mathjax"]
root_doc = "index"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = "ttc-env"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "source_repository": "https://github.com/ttc-env/ttc-env",
    "source_branch": "main",
    "light_css_variables": {"color-brand-primary": "#2b5d8f", "color-brand-content": "#2b5d8f"},
    "dark_css_variables": {"color-brand-primary": "#8db8e3", "color-brand-content": "#8db8e3"},
    "top_of_page_buttons": [],
}

# MyST tells MathJax to look at its formulas alone, but not yet the MathJax 4 of Sphinx 9.
mathjax4_config = {"options": {"processHtmlClass": "tex2jax_process|mathjax_process|math"}}
