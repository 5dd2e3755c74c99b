"""The picture page of a data set: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from edgeseg.core.types import F32, U8, Classes, Dataset
from edgeseg.data.masks import palette_bytes
from edgeseg.data.pictures import rgb_to_bgr
from edgeseg.data.stats import SplitStats
from edgeseg.data.survey import Survey

_WIDTH_PX = 300
_SAMPLES = 8
_BEST = 4

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; } tr + tr { border-top: 1px solid var(--soft); }
.bar { width: 220px; } .bar i { display: block; height: .8em; border-radius: 2px; min-width: 1px; }
.chip { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .5em; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: .8rem; }
figure { margin: 0; position: relative; } figure img { width: 100%; display: block; border-radius: 4px; }
figure .mask { position: absolute; inset: 0 0 auto; opacity: .55; transition: opacity .15s; }
figure:hover .mask { opacity: 0; }
figcaption { font-size: .8rem; opacity: .7; overflow: hidden; text-overflow: ellipsis; }
.place { width: 76px; display: block; border-radius: 3px; image-rendering: pixelated; background: #000; }
p.note { opacity: .7; margin-top: .2rem; }
"""


def picture_page(title: str, parts: Sequence[tuple[Dataset, Survey, SplitStats]]) -> str:
    """The page as HTML: numbers, where each class lies, sample frames, and the frames that show each class best."""
    classes = parts[0][1].classes
    body = [f"<h1>{html.escape(title)}</h1>", '<p class="note">Hover a frame to see it without its label.</p>']
    body += [_overview({survey.split: numbers for _, survey, numbers in parts})]
    for dataset, survey, numbers in parts:
        body.append(f"<h2>{html.escape(survey.split)}: {numbers.frames} frames</h2>")
        body.append(_class_table(classes, numbers, survey))
        if survey.problems:
            listed = "".join(f"<li>{html.escape(str(problem))}</li>" for problem in survey.problems[:10])
            body.append(f"<p>{len(survey.problems)} frames cannot be used:</p><ul>{listed}</ul>")
        body.append("<h3>Frames</h3>" + _grid(dataset, classes, _spread(survey)))
    dataset, survey, _ = parts[0]
    body.append("<h2>The frames that show each class best</h2>")
    for index, name in enumerate(classes.names):
        best = sorted((f for f in survey.frames if f.pixels[index]), key=lambda f: -f.pixels[index])[:_BEST]
        if best:
            body.append(f"<h3>{_chip(classes, index)}{html.escape(name)}</h3>")
            body.append(_grid(dataset, classes, [frame.index for frame in best]))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>{"".join(body)}</html>\n'
    )


def _overview(splits: Mapping[str, SplitStats]) -> str:
    rows = [
        f"<tr><td>{html.escape(split)}</td><td>{s.frames}</td><td>{s.unreadable}</td>"
        f"<td>{', '.join(f'{size} ({count})' for size, count in list(s.sizes.items())[:3])}</td>"
        f"<td>{100 * s.ignored:.1f} %</td><td>{s.mean_rgb[0]:.0f} {s.mean_rgb[1]:.0f} {s.mean_rgb[2]:.0f}</td>"
        f"<td>{s.std_rgb[0]:.0f} {s.std_rgb[1]:.0f} {s.std_rgb[2]:.0f}</td>"
        f"<td>{s.brightness[0]:.0f} – {s.brightness[1]:.0f} – {s.brightness[2]:.0f}</td></tr>"
        for split, s in splits.items()
    ]
    head = ("split", "frames", "unusable", "sizes", "unlabelled", "mean RGB", "std RGB", "brightness (5, 50, 95 %)")
    cells = "".join(f"<th>{name}</th>" for name in head)
    return f"<table><tr>{cells}</tr>{''.join(rows)}</table>"


def _class_table(classes: Classes, numbers: SplitStats, survey: Survey) -> str:
    top = max((entry.share for entry in numbers.classes.values()), default=0.0) or 1.0
    rows = []
    for index, (name, entry) in enumerate(numbers.classes.items()):
        colour = f"rgb{classes.palette_rgb[index]}"
        shown = "–" if entry.share_where_shown is None else f"{100 * entry.share_where_shown:.2f} %"
        rows.append(
            f"<tr><td>{_chip(classes, index)}{html.escape(name)}</td>"
            f'<td class="bar"><i style="width:{100 * entry.share / top:.1f}%;background:{colour}"></i></td>'
            f"<td>{100 * entry.share:.2f} %</td><td>{entry.frames}</td><td>{shown}</td>"
            f'<td><img class="place" alt="" src="{_png(_place(survey.places[index]))}"></td></tr>'
        )
    head = "<tr><th>class</th><th></th><th>pixels</th><th>frames</th><th>where shown</th><th>where it lies</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _grid(dataset: Dataset, classes: Classes, indices: Sequence[int]) -> str:
    return '<div class="grid">' + "".join(_figure(dataset, classes, index) for index in indices) + "</div>"


def _figure(dataset: Dataset, classes: Classes, index: int) -> str:
    sample = dataset[index]
    height = max(round(_WIDTH_PX * sample.image_hwc.shape[0] / sample.image_hwc.shape[1]), 1)
    picture = Image.fromarray(rgb_to_bgr(sample.image_hwc)).resize((_WIDTH_PX, height), Image.Resampling.BOX)
    mask = Image.fromarray(sample.label_hw).resize((_WIDTH_PX, height), Image.Resampling.NEAREST)
    mask.putpalette(palette_bytes(classes))
    return (
        f'<figure><img alt="" src="{_jpeg(picture)}"><img class="mask" alt="" src="{_png(mask)}">'
        f"<figcaption>{html.escape(sample.name)}</figcaption></figure>"
    )


def _spread(survey: Survey) -> list[int]:
    picks = np.unique(np.linspace(0, len(survey.frames) - 1, min(_SAMPLES, len(survey.frames))).round().astype(int))
    return [survey.frames[pick].index for pick in picks]


def _chip(classes: Classes, index: int) -> str:
    return f'<span class="chip" style="background:rgb{classes.palette_rgb[index]}"></span>'


def _place(share_hw: F32) -> Image.Image:
    top = float(share_hw.max()) or 1.0
    grey: U8 = (255 * np.sqrt(share_hw / top)).astype(np.uint8)
    return Image.fromarray(grey)


def _jpeg(picture: Image.Image) -> str:
    return "data:image/jpeg;base64," + _base64(picture, "JPEG", quality=82)


def _png(picture: Image.Image) -> str:
    return "data:image/png;base64," + _base64(picture, "PNG", optimize=True)


def _base64(picture: Image.Image, kind: str, **options: int | bool) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return base64.b64encode(buffer.getvalue()).decode()
