"""Every parameter and attribute is documented, and the HTML representation shows it."""

import html
import inspect
import re
from pathlib import Path

import pytest
from sklearn.datasets import load_iris
from sklearn.externals._numpydoc.docscrape import ClassDoc

from xpnet import MLPClassifier, MLPRegressor

DOCS = Path(__file__).parents[2] / "docs"
CLASSES = pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])


def read_section(cls, section):
    """Return {name: type} of a section of the docstring."""
    return {name: kind for name, kind, _ in ClassDoc(cls)[section]}


def fit_variants(cls):
    X, y = load_iris(return_X_y=True, as_frame=True)
    for options in ({"early_stopping": True}, {"solver": "lbfgs"}):
        yield cls(max_iter=2, tol=10.0, n_iter_no_change=1, **options).fit(X, y)


@CLASSES
def test_the_parameters_are_documented_in_their_order_with_their_defaults(cls):
    documented = read_section(cls, "Parameters")
    parameters = inspect.signature(cls).parameters
    assert list(documented) == list(parameters)
    for name, kind in documented.items():
        _, _, default = kind.rpartition("default=")
        assert eval(default) == parameters[name].default, name


@CLASSES
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_fitted_attributes_are_documented(cls):
    fitted = {name for model in fit_variants(cls) for name in vars(model) if re.fullmatch(r"[^_].*_", name)}
    assert set(read_section(cls, "Attributes")) == fitted


@CLASSES
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_html_representation_describes_and_links_each_name(cls):
    documented = read_section(cls, "Parameters") | read_section(cls, "Attributes")
    shown = {}
    for model in fit_variants(cls):
        rows = re.findall(
            r'href="([^"#]*)#:~:text=(\w+),-[^"]*">.*?<span class="param-doc-description".*?>\s*(.*?)</span>',
            model._repr_html_(),
            re.DOTALL,
        )
        shown |= {name: description for _, name, description in rows}
        for page in {Path(link) for link, _, _ in rows}:  # relative to a page of the gallery
            source = (DOCS / "auto_examples/estimators" / page).resolve().with_suffix(".rst")
            assert f"autoclass:: xpnet.{cls.__name__}\n" in source.read_text()
    for name, kind in documented.items():
        assert html.unescape(shown[name]).startswith(f"{name}: {kind}<br>"), name


def test_both_classes_document_what_they_share_in_the_same_words():
    classifier, regressor = (
        {name: (kind, text) for name, kind, text in ClassDoc(cls)["Parameters"]}
        for cls in (MLPClassifier, MLPRegressor)
    )
    differing = {name for name in classifier if name in regressor and classifier[name] != regressor[name]}
    assert differing == {"early_stopping", "scoring"}
