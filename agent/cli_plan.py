"""``thox plan``: how the stack would carry a model, drawn as it stands."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from rich.text import Text

from agent.cli_access import add_key_argument, cluster_client
from agent.cli_models_tables import size
from agent.cli_picture import box
from agent.cli_print import output
from agent.config import Config

Json = Mapping[str, Any]


def arguments(parser: argparse.ArgumentParser) -> None:
    add_key_argument(parser)
    parser.add_argument("model", metavar="MODEL", help="a model that a node of the stack has")
    parser.add_argument("--json", action="store_true", help="the device's answer as it is")


def call(options: argparse.Namespace, config: Config) -> int:
    answer = cluster_client(options, config).get(f"/v1/cluster/plan?model={quote(options.model, safe='')}")
    output().print(Text(json.dumps(answer, indent=2) if options.json else plan_text(answer)), soft_wrap=options.json)
    return 0


def plan_text(plan: Json) -> str:
    """The answer of /v1/cluster/plan for a person."""
    cache = f" and a cache for {plan['cache_tokens']} tokens" if plan["cache_tokens"] else ""
    rows = [f"{plan['model']}: {_layers(plan['layers'])}{cache}, {size(plan['needed_bytes'])}", plan["note"]]
    stages = {stage["node"]: stage for stage in plan["stages"]}
    for node in reversed(plan["nodes"]):
        title = node["id"] + (" · leader" if node["id"] == plan["leader"] else "")
        rows += box([title, f"  {_share(node, stages.get(node['id']))}"])
    if plan["hardware"] == "simulated":
        rows.append("Simulated modules, which may share the memory of one machine.")
    return "\n".join(rows)


def _share(node: Json, stage: Json | None) -> str:
    if not node["reachable"]:
        return "not reached"
    if stage is None:
        return f"nothing of it; {size(node['free_bytes'])} free"
    first, last = stage["first_layer"], stage["last_layer"]
    which = f"layer {first}" if first == last else f"layers {first} to {last}"
    files = "" if node["has_files"] else " · no files"
    return f"{which}: {size(stage['needed_bytes'])} of {size(stage['free_bytes'])} free{files}"


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"
