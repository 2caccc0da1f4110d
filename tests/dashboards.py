"""The dashboards of docs/dashboards, as the tests read them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "docs/dashboards"
DASHBOARDS: Final[dict[str, dict[str, Any]]] = {
    path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))
}


@dataclass(frozen=True)
class Panel:
    """One panel: the file that it is in, its JSON, its queries."""

    file: str
    title: str
    document: dict[str, Any]
    queries: tuple[str, ...]


PANELS: Final = tuple(
    Panel(file, panel["title"], panel, tuple(target["expr"] for target in panel["targets"]))
    for file, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
)
ANNOTATIONS: Final = tuple(
    annotation["expr"] for dashboard in DASHBOARDS.values() for annotation in dashboard["annotations"]["list"]
)


def get_panel(title: str) -> Panel:
    """The one panel of that title."""
    (panel,) = (panel for panel in PANELS if panel.title == title)
    return panel


def fill_in(query: str, namespace: str, deployment: str, interval: str = "30s") -> str:
    """The query as Grafana sends it, once its variables are chosen."""
    values = {"namespace": namespace, "deployment": deployment, "__rate_interval": interval}
    for name, value in values.items():
        query = query.replace(f"${name}", value)
    return query
