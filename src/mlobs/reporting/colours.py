"""Colours of runs: ten that stay apart for most colour-blind readers, then again with other dashes.

After Okabe and Ito ("Color Universal Design", 2008), darkened or lightened until each has a contrast of at
least 3:1 to the page, as WCAG 2.2 (1.4.11) asks of graphics.
"""

from __future__ import annotations

LIGHT = (
    "#0072b2", "#d55e00", "#00875f", "#b8458f", "#8a6d00",
    "#2b8cc4", "#882255", "#4b3f9e", "#3f7d20", "#666666",
)  # fmt: skip
DARK = (
    "#56a9e8", "#f08a4b", "#35c79a", "#e89bc8", "#d6c443",
    "#9ad4f7", "#e0709b", "#a89bff", "#8ccf6c", "#b5b5b5",
)  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # of plotly; with ten colours 50 different lines
DASH_ARRAYS = ("", "6 3", "2 2", "6 3 2 3", "10 4")  # the same for SVG
