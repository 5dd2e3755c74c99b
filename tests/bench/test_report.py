import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from edgeseg.backend.profiling import LayerTime
from edgeseg.bench import run_bench
from edgeseg.bench.monitor import Readings
from edgeseg.bench.peaks import Peaks
from edgeseg.bench.report import write_report
from edgeseg.bench.report.charts import sensor_charts
from edgeseg.bench.report.plot import Axis, Plot, number
from edgeseg.bench.request import BenchRequest
from edgeseg.bench.roofline import roofline
from edgeseg.bench.sensors import PowerState
from edgeseg.graph import fix_frame_size
from edgeseg.graph.sample import sample_model

from .support import null_target

PEAKS = Peaks(macs_per_s={"fp32": 5e10}, bytes_per_s={1 << 18: 8e10, 1 << 28: 8e9}, origin="made up")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a bench of null, with made-up sensors and layers, under a name that needs escaping."""
    folder = tmp_path_factory.mktemp("report")
    target = null_target("<b>null & void</b>", latency_ms=2.0)
    result = run_bench(BenchRequest(duration_s=0.8, rate_hz=60), target, samples_file=folder / "s.npz")
    start_ns = int(np.load(folder / "s.npz")["engine_start_ns"][0])
    readings = Readings(
        t_ms=[0, 500, 1000],
        start_ns=start_ns,
        temperature_c={"cpu-thermal": [40.0, 45.0, None]},
        clock_mhz={"gpu": [600, 600, 300]},
        power_w={"VDD_IN": [5.0, 6.0, 4.0]},
        memory_mb=[100, 101, 101],
        module_power_w=[5.0, 6.0, 4.0],
        throttled=[[], ["gpu-throttle-alert"], []],
        state=PowerState(power_mode="7W"),
        cost_share=0.001,
    )
    model = fix_frame_size(sample_model(), (48, 64))
    layer = LayerTime(
        name="x",
        layers=("encoder.0.0.dw",),
        kind="Conv",
        implementation="",
        precision="fp32",
        moves=False,
        time_ns=10**5,
    )
    result = msgspec.structs.replace(result, readings=readings, roofline=roofline(model, [layer], PEAKS))
    write_report(folder / "r.html", result, Path(result.samples_file))
    return (folder / "r.html").read_text()


def test_the_page_needs_no_network_and_no_script(page):
    assert "<script" not in page
    assert not re.search(r"(?:src|href)\s*=|@import|url\(", page)


def test_every_picture_is_well_formed(page):
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) >= 7
    for picture in pictures:
        ET.fromstring(picture)
    assert "nan" not in "".join(pictures)


def test_both_numbers_stand_first_and_names_are_escaped(page):
    text = page.index("Engine only"), page.index("Capture to mask"), page.index("Over time")
    assert text == tuple(sorted(text))
    assert "<b>null" not in page
    assert "&lt;b&gt;null &amp; void" in page


def test_throttling_sensors_layers_and_environment_are_shown(page):
    for words in ("gpu-throttle-alert", "cpu-thermal", "encoder.0.0.dw", "7W", "garbage collector", "made up"):
        assert words in page


def test_sensors_that_were_read_before_the_measured_time_alone_give_no_chart(page):
    """A bench of a fraction of a second: the axis of time would have ended before it began."""
    times = {"t_ms": [0, 100], "start_ns": 0, "memory_mb": [100, 101], "module_power_w": []}
    tables = {"temperature_c": {}, "clock_mhz": {}, "power_w": {}, "throttled": [[], []]}
    readings = Readings(**times, **tables, state=PowerState(power_mode=""), cost_share=0.0)
    assert sensor_charts(readings, zero_s=10.0) == []
    assert len(sensor_charts(readings, zero_s=-1.0)) == 1


def test_tags_are_balanced(page):
    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "br"):
                self.open_tags.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag

    checker = Checker()
    checker.open_tags = []
    checker.feed(page)
    assert checker.open_tags == []


def test_axes_place_values():
    axis = Axis(1, 100, "ms", "log")
    assert axis.share(10) == pytest.approx(0.5)
    assert axis.share(1000) == 1
    assert [text for _, text in Axis(0, 10, "x").marks()] == ["0", "2", "4", "6", "8", "10"]
    assert [text for _, text in Axis(0.5, 200, "x", "log").marks()][:3] == ["0.5", "1", "2"]
    assert [number(value) for value in (0.0123, 12345, 2.5e9)] == ["0.0123", "12.3k", "2.5G"]
    plot = Plot(Axis(0, 1, "x"), Axis(0, 1, "y"), "t", 200, 100)
    assert plot.at(0, 0)[0] < plot.at(1, 0)[0]
    assert plot.at(0, 0)[1] > plot.at(0, 1)[1]


def test_names_keep_off_each_other_off_the_dots_and_off_the_line():
    plot = Plot(Axis(0, 100, "x"), Axis(0, 100, "y"), "names", 900, 340)
    points = [(50.0, 50.0, "edge-l"), (51.5, 51.0, "yolo26n-sem"), (50.0, 56.0, "edge-m"), (99.5, 50.0, "at the edge")]
    line = [(0.0, 50.0), (100.0, 50.0)]
    plot.names(points, [line])
    boxes = []
    for mark in plot.marks:
        text = ET.fromstring(mark)
        x, y, width = float(text.get("x")), float(text.get("y")), 6 * len(text.text)
        left = x - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor")]
        boxes.append((left, y - 10, left + width, y + 2))
    assert [ET.fromstring(mark).text for mark in plot.marks] == [word for *_, word in points]
    for place, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 62
        assert right <= 900 - 16
        for other in boxes[place + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
        for x, y in (plot.at(*point[:2]) for point in points):
            assert not (left - 5 < x < right + 5 and top - 5 < y < bottom + 5)
        assert not top < plot.at(0, 50)[1] < bottom  # the line
