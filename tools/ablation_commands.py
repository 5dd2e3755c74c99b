"""The commands of an ablation, short enough to read: what all rows have alike is a recipe file, a row says the rest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from ablation_table import Job, Table, shown_data, toml_value

from edgeseg.core.config import dump_toml
from edgeseg.train.overrides import parse_overrides

Fields = Mapping[str, Mapping[str, object]]


def recipe_fields(table: Table) -> Fields:
    """What all rows have alike, by table and field."""
    budget = table.budget
    named: dict[str, object] = {
        "train.epochs": budget.epochs,
        "train.batch": budget.batch,
        "augment.crop": list(budget.crop),
        "input.network_size": list(budget.network_size),
        "data.split": table.split,
        "data.val_splits": list(table.score),
    }
    return parse_overrides(budget.set, named)


def recipe_text(table: Table) -> str:
    """The file that the commands name: TOML as `edgeseg train --config` and `edgeseg pretrain --config` take it."""
    head = (
        "# What the rows of the ablation have alike. Written by tools/ablate.py from its table; do not edit.\n"
        "# A row is `edgeseg train --config` with this file, its model, its seed and the fields that it changes.\n"
    )
    return head + dump_toml(recipe_fields(table))


def row_command(job: Job, table: Table, data: str, recipe: str) -> str:
    """The command of a row as a person types it, over the recipe file; it asks for what `Job.command` asks for.

    Args:
        job: The row.
        table: That it is a row of.
        data: Data set specification.
        recipe: How the command names the file.
    """
    alike = recipe_fields(table)
    source = "--frames" if job.row.kind == "pretrain" else "--data"
    words = ["edgeseg", job.row.kind, source, shown_data(data), "--config", recipe]
    words += ["--model", job.row.model or table.model]
    if job.row.kind == "train":
        words += ["--seed", str(table.seed if job.row.seed is None else job.row.seed)]
    words += ["--epochs", str(job.epochs)] if job.epochs != table.budget.epochs else []
    for place, fields in sorted(job.fields.items()):
        for name, value in sorted(fields.items()):
            if name not in alike.get(place, {}) or alike[place][name] != value:
                words += ["--set", f"{place}.{name}={toml_value(value)}"]
    words += [word for option, needed in job.needs.items() for word in (option, f"runs/{needed.key}")]
    return shlex.join([*words, "--out", f"runs/{job.key}"])
