"""What the doctor found: as text, as JSON and as a page."""

import html
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from gqst.doctor import findings
from gqst.doctor.examine import NETWORK, PictureSet
from gqst.pictures import decode, files
from gqst.report import document, pictures

Influences = Mapping[str, Mapping[str, float]]
"""How much each picture raises the KID of its set to the other domain, by set and picture."""

_SHOWN = 60
_HEIGHT = 160
_MOST = 40_000


def influences(sets: Sequence[PictureSet]) -> dict[str, dict[str, float]]:
    """Returns the influence of each picture on the KID between its set and the other domain's set of that split."""
    found: dict[str, dict[str, float]] = {}
    for chosen in sets:
        others = [each for each in sets if each.split == chosen.split and each.domain != chosen.domain and each.looks]
        if len(chosen.looks) < 3 or len(others) != 1:
            continue
        own, other = (np.stack([seen.features for seen in each.looks.values()]) for each in (chosen, others[0]))
        values = findings.influences(own, other)
        found[chosen.name] = {
            chosen.picture(number): float(value) for number, value in zip(chosen.looks, values, strict=True)
        }
    return found


def text(sets: Sequence[PictureSet], found: Sequence[findings.Finding]) -> str:
    """Returns a line for each set and each finding."""
    lines = [f"{_counted(chosen)} in {chosen.name}" for chosen in sets]
    lines += [f"{each.kind}: {', '.join(each.pictures)}: {each.message}" for each in found]
    return "\n".join([*lines, f"{len(found):,} findings" if found else "nothing is wrong"])


def write_json(
    path: pathlib.Path, sets: Sequence[PictureSet], found: Sequence[findings.Finding], raised: Influences
) -> None:
    """Writes everything as JSON, whole or not at all."""
    content = {
        "sets": [
            {
                "name": chosen.name,
                "split": chosen.split,
                "pictures": len(chosen.files),
                "unreadable": len(chosen.unreadable),
                "left_out": {reason: len(paths) for reason, paths in chosen.files.left_out.items()},
            }
            for chosen in sets
        ],
        "findings": [each.to_dict() for each in found],
        "network": NETWORK,
        "influences": raised,
    }
    files.make_folder(path)
    files.write_text(path, json.dumps(content, indent=1) + "\n")


def write(
    path: pathlib.Path, sets: Sequence[PictureSet], found: Sequence[findings.Finding], raised: Influences
) -> None:
    """Writes everything as a page, whole or not at all; of each kind it shows the first pictures."""
    sections = {}
    places = {chosen.picture(number): file for chosen in sets for number, file in enumerate(chosen.files.paths)}
    for kind, meaning in findings.MEANINGS.items():
        of_kind = [each for each in found if each.kind == kind]
        if of_kind:
            rest = f" The first {_SHOWN} of {len(of_kind):,}." if len(of_kind) > _SHOWN else ""
            shown = document.cards(_pair(each.pictures, each.message, places) for each in of_kind[:_SHOWN])
            sections[kind.capitalize()] = f'<p class="quiet">{meaning}{rest}</p>{shown}'
    sections["Influence on KID"] = _influence(raised, places)
    sections["Pictures"] = document.table(
        ["set", "split", "readable", "unreadable", "left out"], [_row(chosen) for chosen in sets]
    )
    count = sum(len(chosen.files) for chosen in sets)
    facts = [("Pictures", f"{count:,}", ""), ("Findings", f"{len(found):,}", "bad" if found else "good")]
    facts += [(chosen.name, f"{len(chosen.files):,}", "") for chosen in sets]
    page = document.document(
        "Data set",
        header=document.facts([(html.escape(name), value, kind) for name, value, kind in facts]),
        sections=sections,
        footer=f"Outliers, strays and influences are measured in features of {NETWORK}, which no loss uses.",
    )
    files.make_folder(path)
    files.write_text(path, page)


def _influence(raised: Influences, places: Mapping[str, pathlib.Path]) -> str:
    content = ""
    for name, values in raised.items():
        ranked = sorted(values, key=lambda picture: -values[picture])
        cards = document.cards(
            _pair([picture], f"{values[picture]:+.4f}", places) for picture in (*ranked[:3], *ranked[-3:])
        )
        content += f"<h3>{html.escape(name)}: the three that raise it most, and least</h3>{cards}"
    told = "How much each picture raises the KID (x1000) between its set and the other domain of the split."
    return f'<p class="quiet">{told}</p>{content}' if content else ""


def _pair(names: Sequence[str], message: str, places: Mapping[str, pathlib.Path]) -> str:
    images = "".join(_image(places[name], name) for name in names[:4])
    told = "<br>".join(html.escape(name) for name in names)
    return (
        f'<figure class="pair"><figcaption><h3>{told}</h3><p>{html.escape(message)}</p></figcaption>'
        f"<div>{images}</div></figure>"
    )


def _image(path: pathlib.Path, name: str) -> str:
    try:
        image = decode.decode(path, shorter=_HEIGHT)
    except decode.UnreadableError:
        return ""
    image.thumbnail((3 * _HEIGHT, _HEIGHT), Image.Resampling.LANCZOS)
    return f'<img src="{pictures.data_uri(image, _MOST)}" alt="{html.escape(name)}">'


def _row(chosen: PictureSet) -> list[str]:
    left_out = "; ".join(f"{len(paths):,}: {reason}" for reason, paths in chosen.files.left_out.items())
    return [chosen.name, chosen.split, f"{len(chosen.looks):,}", f"{len(chosen.unreadable):,}", left_out]


def _counted(chosen: PictureSet) -> str:
    count = len(chosen.files)
    return f"{count:,} {'picture' if count == 1 else 'pictures'}"
