"""Writes the badges that open the notebooks in Colab and Kaggle, from the repository's address in pyproject.toml.

The address is `Repository` of `[project.urls]`, on GitHub. Run `python docs/make_badges.py` after it has changed;
tests/test_docs.py fails while a notebook says something else. Without an address there are no badges. A notebook
opened by one has no clone around it, so that its settings get the address too.
"""

import json
import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
_BRANCH = "main"
_BADGE = "[![Open in "


def repository() -> str:
    """Returns the repository's address, or nothing if it has none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project.get("urls", {}).get("Repository", "")).rstrip("/").removesuffix(".git")


def notebooks(address: str) -> dict[pathlib.Path, str]:
    """Returns the text of every notebook, with the badges of that address."""
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    return {path: with_badges(path.read_text(encoding="utf-8"), path.name, address) for path in paths}


def badges(name: str, address: str) -> str:
    """Returns the badges of a notebook as Markdown, or nothing without an address."""
    if not address:
        return ""
    page = f"{address}/blob/{_BRANCH}/notebooks/{name}"
    colab = f"https://colab.research.google.com/{page.removeprefix('https://').replace('github.com', 'github', 1)}"
    kaggle = f"https://kaggle.com/kernels/welcome?src={page}"
    return (
        f"{_BADGE}Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"{_BADGE}Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({kaggle})"
    )


def with_badges(text: str, name: str, address: str) -> str:
    """Returns the text of a notebook with the badges of that address in place of those that it has."""
    notebook = json.loads(text)
    cells = {cell["id"]: cell for cell in notebook["cells"]}
    title, *more = (line for line in cells["title"]["source"] if not line.startswith(_BADGE))
    parts = [title.strip(), badges(name, address), "".join(more).strip()]
    cells["title"]["source"] = "\n\n".join(part for part in parts if part).splitlines(keepends=True)
    package = f"git+{address}" if address else ""
    settings = re.sub(r'^PACKAGE = ".*"$', f'PACKAGE = "{package}"', "".join(cells["settings"]["source"]), flags=re.M)
    cells["settings"]["source"] = settings.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path, text in notebooks(repository()).items():
        path.write_text(text, encoding="utf-8")
