"""Sphinx configuration. Rule: the build needs no network, and any warning is an error."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "simplestore-async"
author = "The simplestore-async authors"
version = release = metadata.version("simplestore-async")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "sphinx_llms_txt",
    "pages_from_code.extension",
]
exclude_patterns = ["_build"]
nitpicky = True
# A client's class of another package, and private types.
nitpick_ignore_regex = [
    (r"py:.*", r"Redis(Cluster)?|ClientSessionOptions|Handler|multidict\..*"),
    (r"py:class", r"(simplestore_async\._core\.\w+\.)?(SupportsSecretValue|Secret|_Arguments|C)"),
    (r"py:class", r"httpx2?\.AsyncBaseTransport"),
]
# Inventories of the names that signatures use, in Sphinx's plain first format: the build has no network.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3/", "inventories/python.inv"),
    "aiohttp": ("https://docs.aiohttp.org/en/stable/", "inventories/aiohttp.inv"),
    "yarl": ("https://yarl.aio-libs.org/en/latest/", "inventories/yarl.inv"),
    "opentelemetry": ("https://opentelemetry-python.readthedocs.io/en/latest/api/", "inventories/opentelemetry.inv"),
}
default_role = "literal"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 70
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
# Set by Read the Docs.
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
# Matches the light style; furo's default underlines module names like links.
pygments_dark_style = "a11y-high-contrast-dark"
html_title = f"simplestore-async {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
