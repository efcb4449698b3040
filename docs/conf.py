"""The site: `sphinx-build -W docs docs/_build` runs the examples and writes HTML."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

os.environ["SCIPY_ARRAY_API"] = "1"  # for the examples that set array_api_dispatch

import matplotlib as mpl
import sklearn
from sphinx.application import Sphinx
from sphinx.util import logging

import xpnet

project = "xpnet"
copyright = "the authors of xpnet, BSD-3-Clause"
version = release = xpnet.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "numpydoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]
suppress_warnings = ["config.cache"]  # of a function in sphinx_gallery_conf
default_role = "py:obj"
highlight_language = "none"  # of blocks that name no language: commands
smartquotes = False  # links of estimators to their parameters quote the text of the page
toc_object_entries_show_parents = "hide"

myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False  # those are numpydoc's
numpydoc_show_class_members = False
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "xpnet"
html_static_path = ["_static"]
html_css_files = ["xpnet.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "friendly",
}
html_sidebars = {"benchmarks": [], "changelog": []}


def reset_settings(gallery_conf: object, name: object) -> None:
    """Undo what an example changes for the whole process."""
    sklearn.set_config(array_api_dispatch=False)
    mpl.rcdefaults()
    mpl.rcParams |= {
        "figure.constrained_layout.use": True,
        "figure.figsize": (6.4, 3.6),
        "axes.spines.top": False,
        "axes.spines.right": False,
    }


sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "subsection_order": ["examples/estimators", "examples/arrays", "examples/network"],
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "auto_examples/backreferences",
    "doc_module": ("xpnet",),
    "reference_url": {"xpnet": None},
    "reset_modules": ("matplotlib", reset_settings),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
}


def link_to_gallery(app: Sphinx, name: str, source: list[str]) -> None:
    """Let links to the scripts of the examples, which work in the repository, lead to their pages."""
    source[0] = re.sub(r"\(examples/(\S+)\.py\)", r"(auto_examples/\1.rst)", source[0])
    source[0] = source[0].replace("(examples/README.rst)", "(auto_examples/index.rst)")


class Links(HTMLParser):
    """Collects where the links of a page lead."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name in ("href", "src") and value}


def check_links(app: Sphinx, error: Exception | None) -> None:
    """Warn of links to pages that do not exist, also of those that Python code has written."""
    if error is not None or app.builder.name != "html":
        return
    pages = [page for page in Path(app.outdir).rglob("*.html") if "_static" not in page.parts]
    for page in pages:
        for link in Links(page).found:
            parts = urlsplit(link)
            target = page.parent / unquote(parts.path)
            if not parts.scheme and not parts.netloc and not target.exists():
                logging.getLogger(__name__).warning("%s: no page %s", page.name, link)


def escape_bars(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep |z|, the absolute value, from being read as the name of a substitution."""
    lines[:] = [line if line.lstrip().startswith(">>>") else line.replace("|", r"\|") for line in lines]


def setup(app: Sphinx) -> None:
    """Register what Sphinx is to call."""
    app.connect("source-read", link_to_gallery)
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("build-finished", check_links)
