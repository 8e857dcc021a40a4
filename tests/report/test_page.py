"""The page, as a browser would read it."""

import html.parser
import json
import pathlib
import re

import pytest

from gqst.report import history, page
from tests.report.conftest import made_up_run

VOID = {"meta", "link", "img", "input", "br"}


class Page(html.parser.HTMLParser):
    """Elements, texts and addresses of a page, whose elements have to be closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.script = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[name] for name in ("src", "href", "action", "srcset") if name in given]
        if tag not in VOID and tag != "path":
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
        if self.open[-1:] == ["script"] and data.startswith("{"):
            self.script = data


def test_every_section_is_there_and_linked(workdir: pathlib.Path):
    text = page.render(history.read(workdir))
    read = Page(text)
    assert read.headings == [
        "Pictures",
        "Quality",
        "Targets",
        "Best round",
        "Worst and best",
        "Losses",
        "Alarms",
        "Config",
        "Data and environment",
        "Commands",
    ]
    links = [address.removeprefix("#") for address in read.addresses if address.startswith("#")]
    assert set(links) <= set(read.ids) and len(links) == len(read.headings)
    for told in ("40 of 40", "back to step 0, learning rates times 0.5", "1 x cpu", "12 (names: 0123456789ab)"):
        assert told in text, told


def test_it_asks_for_nothing(workdir: pathlib.Path):
    text = page.render(history.read(workdir), history.read(made_up_run(workdir.parent / "other")))
    read = Page(text)
    assert all(address.startswith(("#", "data:")) for address in read.addresses)
    told = re.sub(r"data:image/webp;base64,[\w+/=]+", "", text)
    assert not re.search(r"https?://|//[a-z]|@import|url\(|fetch\(|XMLHttp", told)


def test_names_and_messages_cannot_break_it(workdir: pathlib.Path):
    text = page.render(history.read(workdir))
    assert "a<b" not in text and "alike <script>" not in text and "a&lt;b&amp;c" in text
    read = Page(text)
    data = json.loads(read.script)
    assert data["best"] == 30 and [left["name"] for left in data["lefts"]] == ["source", "target"]


def test_two_runs_side_by_side(workdir: pathlib.Path):
    other = made_up_run(workdir.parent / "<!--<script>")
    (other / "config.json").write_text(
        (other / "config.json").read_text().replace('"image_size": 64', '"image_size": 96')
    )
    text = page.render(history.read(workdir), history.read(other))
    read = Page(text)
    assert json.loads(read.script)["lefts"][0]["name"] == "<!--<script>, step 30"
    assert "<td>image_size</td><td>96</td><td>64</td>" in text and 'class="line c2 dashed"' in text


def test_a_run_that_has_only_begun_has_a_page(workdir: pathlib.Path):
    for path in [*workdir.glob("*.jsonl"), *workdir.glob("samples/*"), *workdir.glob("*.png"), workdir / "data.json"]:
        path.unlink()
    assert Page(page.render(history.read(workdir))).headings[-1] == "Commands"


def test_the_commands_are_those_of_this_run(workdir: pathlib.Path):
    text = page.render(history.read(workdir))
    quoted = "a&lt;b&amp;c&#x27;"
    assert f"{quoted}/config.json --workdir" in text and "python -m gqst.report &#x27;" in text


def test_it_is_written_whole_or_not_at_all(workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    path = page.write(workdir)
    assert path == workdir / "report.html" and path.read_text(encoding="utf-8").startswith("<!doctype html>")
    before = path.read_bytes()

    def fail(*args: object, **options: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(pathlib.Path, "write_text", fail)
    with pytest.raises(OSError, match="no space"):
        page.write(workdir)
    assert path.read_bytes() == before


def test_many_steps_and_rounds_fit_into_few_megabytes(tmp_path: pathlib.Path):
    folder = made_up_run(tmp_path / "long", steps=100_000, round_every=200, log_every=50)
    path = page.write(folder)
    assert path.stat().st_size < 2_000_000
