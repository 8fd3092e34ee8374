"""``thox status``: both ports of this device at a glance, and the stack that it is in.

Exit status 1 when a port is down, or when neither says how it is, as with a key that is none.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.table import Table
from rich.text import Text

from agent.cli_access import add_key_argument, cluster_client, inference_client
from agent.cli_print import complain, output, print_table
from agent.cli_status_stack import event_text, stack_text
from agent.client import Client, ClientError
from agent.config import Config

_STYLES = {
    "ok": "green",
    "healthy": "green",
    "loading": "yellow",
    "forming": "yellow",
    "no model loaded": "yellow",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    add_key_argument(parser)
    parser.add_argument("--follow", action="store_true", help="then tell what happens to the stack, until Ctrl-C")


def call(options: argparse.Namespace, config: Config) -> int:
    inference, cluster = inference_client(options, config), cluster_client(options, config)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("port", "address", "state", ""):
        table.add_column(title, overflow="fold")
    answered = 0
    failed: list[ClientError] = []
    for name, client, describe in (("inference", inference, _inference), ("cluster", cluster, _cluster)):
        try:
            state, detail = describe(client)
            answered += 1
        except ClientError as error:
            failed.append(error)
            state, detail = ("down" if error.status is None else f"error {error.status}"), str(error)
        style = _STYLES.get(state, "red")
        table.add_row(name, client.url, Text(state, style=style), Text(detail))
    print_table(table, output())
    down = [error for error in failed if error.status is None]
    if down and not answered:
        complain("the device does not answer", "`thox run` starts it.")
    elif down or not answered:
        complain(str(failed[0]), failed[0].hint)
    if down or not answered:
        return 1
    if not failed:
        _show_stack(cluster)
    if options.follow:
        _follow(cluster)
    return 0


def _show_stack(client: Client) -> None:
    console = output()
    console.print()
    console.print(Text(stack_text(*(client.get(f"/v1/{path}") for path in ("cluster", "topology", "nodes")))))


def _follow(client: Client) -> None:
    console = output()
    console.print()
    for name, event in client.events("/v1/events"):
        console.print(Text(f"{time.strftime('%H:%M:%S')}  {event_text(name, event)}"))


def _inference(client: Client) -> tuple[str, str]:
    models = client.get("/v1/models")["data"]
    loading = any(model.get("state") == "loading" for model in models)
    state = _health(client, "loading" if loading else "no model loaded")
    return state, "models: " + (", ".join(model["id"] for model in models) or "none")


def _health(client: Client, otherwise: str) -> str:
    """``otherwise``: what it is when it cannot answer now."""
    try:
        return str(client.get("/health").get("status", "ok"))
    except ClientError as error:
        if error.status != 503:
            raise
        return otherwise


def _cluster(client: Client) -> tuple[str, str]:
    cluster: dict[str, Any] = client.get("/v1/cluster")
    health: dict[str, Any] = client.get("/v1/health")
    parts = [f"{cluster['total_ram_gb']} GB", f"{cluster['total_tops']} TOPS"]
    if cluster.get("active_model"):
        parts.append(f"active model {cluster['active_model']}")
    if health.get("temperature_c") is not None:
        parts.append(f"{health['temperature_c']} °C")
    if health.get("hardware") == "simulated":
        parts.append("simulated hardware")
    parts.append(f"up {_span(float(health['uptime_seconds']))}")
    return str(cluster["status"]), ", ".join(parts)


def _span(seconds: float) -> str:
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole % 86400 // 3600, whole % 3600 // 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"
