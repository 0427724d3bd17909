"""The grid of kinds and backends as the docs show it; run this to write it anew."""

from pathlib import Path

from mlobs.backends import AppInsights, AzureML, Console, MLflow, TensorBoard
from mlobs.delivery.grid import grid

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "capabilities.md"
BEGIN, END = "<!-- the grid: python tests/meta/capabilities_page.py -->\n", "<!-- end of the grid -->\n"


def table() -> str:
    backends = {
        "MLflow": MLflow.capabilities,
        "TensorBoard": TensorBoard.capabilities,
        "Azure ML": AzureML.capabilities,
        "Application Insights": AppInsights.capabilities,
        "Console": Console.capabilities,
    }
    rows = [["kind", "local store", *backends], ["---"] * (2 + len(backends))]
    rows += [[kind, "exact", *map(str, cells.values())] for kind, cells in grid(backends).items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def parts() -> tuple[str, str, str]:
    """What stands before the grid, the grid, and what stands behind it."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    shown, _, behind = rest.partition(END)
    return before, shown, behind


if __name__ == "__main__":
    before, _, behind = parts()
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{behind}", encoding="utf-8")
