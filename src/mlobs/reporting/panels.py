"""The controls over the table and the charts, and the empty places that the page's script fills."""

from __future__ import annotations

from collections.abc import Sequence

from mlobs.read.html import escaped
from mlobs.read.record import RunRecord
from mlobs.reporting.curves import Curves
from mlobs.reporting.markup import scrolled
from mlobs.reporting.table import Column, chooser_html, swatch


def table_controls(columns: Sequence[Column]) -> str:
    """The filter, and the list of columns."""
    return (
        '<div class="controls"><label>Filter <input type="search" id="filter" autocomplete="off"'
        ' placeholder="text in any cell"></label>'
        '<details class="menu"><summary>Columns</summary>'
        f'<fieldset id="columns"><legend class="hidden">Columns to show</legend>{chooser_html(columns)}'
        '</fieldset></details><span id="count" class="note"></span></div>'
    )


def chart_controls(records: Sequence[RunRecord], curves: Curves) -> str:
    """Controls of all curves, the legend, and what was left out."""
    return (
        f'<div class="controls">{_CURVE_CONTROLS}</div>'
        f'<div id="legend" role="group" aria-label="Runs in the charts">{_legend(records)}</div>'
        '<p class="note" id="charts-note">The charts are drawn when the page is painted.</p>'
        f'<div id="charts"></div><p class="note">{escaped(_thinning(curves))}</p>'
    )


def param_controls() -> str:
    """The two charts of params against a metric."""
    parallel = scrolled("Parallel coordinates", '<div class="plot" id="parallel"></div>')
    return (
        f'<div class="controls">{_PARAM_CONTROLS}</div>'
        '<div class="card"><h3 id="scatter-title">Scatter</h3><div class="plot" id="scatter"></div></div>'
        '<div class="card"><h3>Parallel coordinates</h3><p class="note">A line for each run, coloured by the'
        f' metric: <span class="ramp" aria-hidden="true"></span> low to high.</p>{parallel}</div>'
    )


_CURVE_CONTROLS = """
<label>Smoothing <input type="range" id="smooth" min="0" max="0.99" step="0.01" value="0">
<output id="smooth-value" for="smooth">0</output></label>
<label>Axis <select id="axis"><option value="step">step</option>
<option value="time">time since the start</option>
<option value="clock">clock (UTC)</option></select></label>
<label><input type="checkbox" id="log">log scale</label>
<details class="menu"><summary>Metrics</summary>
<fieldset id="metrics"><legend class="hidden">Metrics to show</legend></fieldset></details>
"""
_PARAM_CONTROLS = """
<label>Metric <select id="target"></select></label>
<label>Value <select id="aggregate"><option value="0">last</option><option value="1">least</option>
<option value="2">greatest</option></select></label>
<label>Param <select id="param"></select></label>
<label><input type="checkbox" id="param-log">log param</label>
"""


def _legend(records: Sequence[RunRecord]) -> str:
    items = "".join(
        f'<button type="button" data-run="{at}" aria-pressed="true">{swatch(at)}'
        f"{escaped(one.name or one.run_id)}</button>"
        for at, one in enumerate(records)
    )
    return (
        f'{items}<span class="all"><button type="button" id="all">all</button>'
        '<button type="button" id="none">none</button></span>'
    )


def _thinning(curves: Curves) -> str:
    """Say what the page does not have."""
    if curves.shown == curves.recorded:
        text = f"All {curves.recorded:,} recorded points are here."
    else:
        text = (
            f"{curves.shown:,} of {curves.recorded:,} recorded points are here: a curve of more than"
            f" {curves.most:,} is cut into buckets of equally many points, and of each the least and the"
            " greatest value are kept, and one that is not finite. Smoothing then takes the buckets' means."
        )
    if curves.left_out:
        text += f" No room was left for {len(curves.left_out):,} metrics: {', '.join(curves.left_out[:10])}."
    return text
