"""Results as text, JSON and CSV."""

import csv
import json
import math

from gqst.evaluation import results, table

ABOUT = {"outputs": "fakes", "network": "efficientnet_lite0"}


def _result(psnr: float, **means: float) -> results.Result:
    return results.Result(
        means={"psnr": psnr, **means},
        intervals={"psnr": (psnr - 1.0, psnr + 1.0)},
        against={"psnr": "truths"} | dict.fromkeys(means, "style"),
        count=2,
        pictures={"a.png": {"psnr": psnr - 2.0}, "b.png": {"psnr": psnr + 2.0}},
        style_count=4,
    )


MEASURED = {"outputs": _result(20.0, kid=1.5, frechet=30.25), "untouched sources": _result(math.inf)}


def test_a_row_for_each_metric_and_a_column_for_each_baseline():
    lines = table.text(ABOUT, MEASURED).splitlines()
    assert lines[:3] == ["outputs: fakes", "network: efficientnet_lite0", "pictures: 2 against 4 of the style"]
    rows = {line.split("  ")[0]: line for line in lines}
    assert rows["metric"].split() == ["metric", "against", "outputs", "untouched", "sources"]
    assert "truths   20.0 [19.0, 21.0]  inf [inf, inf]" in rows["psnr +"]
    assert rows["kid -"].endswith("style    1.500") and rows["frechet -"].endswith("30.2")
    assert "kid: kernel distance, unbiased, x1000, features of efficientnet_lite0, cubic kernel" in lines
    assert "biased upwards by so few pictures" in lines[-1]


def test_json_has_null_for_what_is_not_finite(tmp_path):
    table.write_json(tmp_path / "deep" / "a.json", ABOUT, MEASURED)
    content = json.loads((tmp_path / "deep" / "a.json").read_text())
    assert (content["psnr"], content["kid"], content["count"], content["style_count"]) == (20.0, 1.5, 2, 4)
    assert content["intervals"] == {"psnr": [19.0, 21.0]}
    assert content["baselines"] == {"untouched sources": {"psnr": None, "count": 2}}
    assert content["pictures"] == {"a.png": {"psnr": 18.0}, "b.png": {"psnr": 22.0}}


def test_csv_has_a_row_for_each_picture_and_one_for_all(tmp_path):
    table.write_csv(tmp_path / "a.csv", MEASURED["outputs"])
    rows = list(csv.reader((tmp_path / "a.csv").open()))
    assert rows == [
        ["picture", "psnr", "kid", "frechet"],
        ["a.png", "18.0", "", ""],
        ["b.png", "22.0", "", ""],
        ["(all)", "20.0", "1.5", "30.25"],
    ]
