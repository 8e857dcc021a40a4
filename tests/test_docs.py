"""The documentation: its pages are those of the navigation, its links lead somewhere, and its tables are up to date."""

import importlib.util
import re

import pytest

import gqst
from gqst import metrics
from tests import conftest, site

README = conftest.ROOT / "README.md"
PAGES = [README, *(site.DOCS / page for page in site.pages())]
# Relative links and pictures; a link to a place on the page itself has an empty path.
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def test_the_navigation_has_every_page():
    assert {path.relative_to(site.DOCS).as_posix() for path in site.DOCS.rglob("*.md")} == set(site.pages())


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(conftest.ROOT).as_posix())
def test_links_lead_somewhere_on_the_site_and_in_a_clone(path):
    text = path.read_text(encoding="utf-8")
    for name, anchor in _LINK.findall(text):
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{path.name} links to {name}, which is not there"
        if path != README:
            assert there.is_relative_to(site.DOCS), f"{path.name} links to {name}, which is not on the site"
        if anchor and not anchor.startswith("gqst."):  # the site's build checks anchors of the API
            assert anchor in _anchors(there.read_text(encoding="utf-8")), f"{path.name} links to {name}#{anchor}"


def test_the_tables_are_those_of_the_registry_and_of_the_configs():
    tables = _script("make_tables")
    for path, text in tables.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `python docs/make_tables.py`"


def test_every_metric_and_every_config_is_on_its_page():
    measure, configs = ((site.DOCS / page).read_text(encoding="utf-8") for page in ("metrics.md", "configs.md"))
    assert all(f"| `{name}` " in measure for name in metrics.METRICS)
    first = configs.split("\n## ")[0]
    assert all(f"`{name}`" in first and f"\n### {name}\n" in configs for name in _script("make_tables").names())


def test_the_api_has_every_public_name():
    api = "\n".join((site.DOCS / page).read_text(encoding="utf-8") for page in site.pages() if page.startswith("api/"))
    named = set(re.findall(r"^::: (\S+)$", api, re.M))
    rooms = {"config", "losses", "metrics"}
    for name in set(gqst.__all__) - rooms:
        assert {f"gqst.{name}", f"gqst.config.{name}"} & named, name
    for room in rooms:
        assert any(name.startswith(f"gqst.{room}.") for name in named)


def test_the_site_asks_no_other_host_for_anything():
    settings = site.settings()
    assert settings["theme"]["font"] is False
    assert not any(address.startswith("http") for address in settings["extra_css"] + settings["extra_javascript"])


def test_notebooks_have_the_badges_of_the_repositorys_address():
    script = _script("make_badges")
    for path, text in script.notebooks(script.repository()).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `python docs/make_badges.py`"
    [(path, text), *_] = script.notebooks("https://github.com/someone/gqst").items()
    at = "github.com/someone/gqst/blob/main/notebooks/quality.ipynb"
    colab = f"https://colab.research.google.com/github/someone/gqst/blob/main/notebooks/{path.name}"
    assert path.name == "quality.ipynb" and f"colab-badge.svg)]({colab})" in text
    assert f"open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://{at})" in text
    assert 'PACKAGE = \\"git+https://github.com/someone/gqst\\"' in text
    # Written twice they are the same, and without an address they go.
    assert script.with_badges(text, path.name, "https://github.com/someone/gqst") == text
    assert script.with_badges(text, path.name, "") == path.read_text(encoding="utf-8")


def _anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def _script(name):
    spec = importlib.util.spec_from_file_location(name, site.DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
