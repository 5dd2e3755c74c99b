"""The table of an ablation: groups of rows, what each row trains, and by which command. Read from TOML, checked whole.

A row is the recipe of `[budget]` with single fields replaced. Its key is a hash of all that is asked for, so that two
rows that ask for the same share one run, and a changed row is another run. Of the data it holds the classes and how
many frames each split has, but not how they are stored: a run on a packed file is the run on the folder behind it.
"""

from __future__ import annotations

import bisect
import functools
import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edgeseg.core.artefacts import sha256_bytes
from edgeseg.core.config import convert, load_config, unknown_name
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Size, format_size
from edgeseg.data import open_dataset
from edgeseg.model import ModelConfig, describe
from edgeseg.train.config import RecipeConfig
from edgeseg.train.overrides import parse_overrides
from edgeseg.train.plan import steps_per_epoch
from edgeseg.train.request import resolve_model

TOLERANCE = 0.02
"""Widths are scaled until multiply-adds agree within this share."""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training of a table.

    Attributes:
        name: Unique in its group.
        set: `TABLE.FIELD=VALUE` over the budget's.
        model: Preset; empty takes the table's.
        seed: None takes the table's.
        kind: `pretrain` learns without labels and is scored by no label.
        epochs: None takes the budget's; of pretraining and teachers.
        same_steps: With a share of the labels, as many optimiser steps as with all.
        match: Scale the widths until the multiply-adds are those of the table's model.
        init: `GROUP/NAME` whose run the weights start from.
        teacher: `GROUP/NAME` whose run teaches.
        against: `GROUP/NAME` that it is compared with; empty takes the mean over the seeds.
        share: Where it stands on the axis of a plot of label shares, in percent.
        note: What is to be known of it.
    """

    name: str
    set: tuple[str, ...] = ()
    model: str = ""
    seed: int | None = None
    kind: Literal["train", "pretrain"] = "train"
    epochs: int | None = None
    same_steps: bool = False
    match: bool = False
    init: str = ""
    teacher: str = ""
    against: str = ""
    share: float | None = None
    note: str = ""


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that answer one question.

    Attributes:
        name: Unique.
        title: Heading on the page.
        text: What is asked, and what is to be known.
        conclusion: What its rows have shown, in a person's words; under its table.
        checkerboard: Whether the page shows that measure.
        latency: Whether its rows are timed by `--latency`.
        rows: In the order in which they are trained.
    """

    name: str
    title: str
    text: str = ""
    conclusion: str = ""
    checkerboard: bool = False
    latency: bool = False
    rows: tuple[Row, ...]


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all rows have alike."""

    epochs: int
    batch: int
    crop: Size
    network_size: Size
    set: tuple[str, ...] = ()


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole study.

    Attributes:
        title: Of the page.
        text: Under it.
        conclusion: What follows from the rows so far, in a person's words; above the groups.
        model: Preset of all rows that name none.
        seed: Of all rows that name none.
        split: Learned from.
        score: Splits that are scored; the first decides.
        noise: Group whose rows differ in nothing but their seed.
        budget: What all rows have alike.
        group: The groups, in the order in which they are trained.
    """

    title: str
    text: str = ""
    conclusion: str = ""
    model: str
    seed: int = 1
    split: str
    score: tuple[str, ...]
    noise: str
    budget: Budget
    group: tuple[Group, ...]

    def __post_init__(self) -> None:
        if self.noise not in [group.name for group in self.group]:
            raise ValueError(f"noise is {self.noise}; allowed: the name of a group")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row with everything filled in.

    Attributes:
        id: `GROUP/NAME`.
        row: As the table has it.
        group: Its group.
        key: Of the run: equal for two rows that ask for the same.
        options: After `edgeseg train` or `edgeseg pretrain`: data, `--init`, `--teacher` and `--out` not among them.
        fields: Those of the options that are set by table and field.
        config: What shapes the network.
        epochs: Passes.
        needs: The jobs whose runs it starts from or is taught by, by option.
    """

    id: str
    row: Row
    group: Group
    key: str
    options: tuple[str, ...]
    fields: Mapping[str, Mapping[str, object]]
    config: ModelConfig
    epochs: int
    needs: Mapping[str, Job]

    def command(self, data: str, runs: str) -> list[str]:
        """The words after `edgeseg`."""
        source = "--frames" if self.row.kind == "pretrain" else "--data"
        taken = [word for option, job in self.needs.items() for word in (option, f"{runs}/{job.key}")]
        return [self.row.kind, source, data, *self.options, *taken, "--out", f"{runs}/{self.key}"]

    def text(self, data: str) -> str:
        """The command as a person types it; runs lie in `runs/`, and the data set is named by its scheme."""
        return "edgeseg " + shlex.join(self.command(shown_data(data), "runs"))


def shown_data(data: str) -> str:
    """A data set as commands name it: by its scheme, without a path of this machine."""
    scheme, _, rest = data.partition(":")
    return data if scheme == "street" else f"{scheme}:PATH" if rest else data


def read_table(path: Path, epochs: int | None = None) -> Table:
    """The table of a file; `epochs` replaces the budget's.

    Raises:
        RequestError: An unknown key or a value that is refused.
    """
    table = load_config(path, Table)
    if epochs is None:
        return table
    return msgspec.structs.replace(table, budget=msgspec.structs.replace(table.budget, epochs=epochs))


def plan_jobs(table: Table, data: str) -> dict[str, Job]:
    """Every row filled in and checked, by `GROUP/NAME`, in the table's order.

    Raises:
        RequestError: An unknown row, field or preset, a value that is refused, or widths that cannot be matched.
    """
    jobs: dict[str, Job] = {}
    rows = {f"{group.name}/{row.name}": (group, row) for group in table.group for row in group.rows}
    splits = {split: open_dataset(data, split) for split in (table.split, *table.score)}
    vocabulary, frames = splits[table.split].classes, len(splits[table.split])
    sizes = [f"{split} {len(dataset)}" for split, dataset in splits.items()]
    subject = data if data.startswith("street:") else ", ".join([*vocabulary.names, *sizes])

    def plan(name: str) -> Job:
        if name not in rows:
            raise unknown_name("row", name, list(rows))
        if name not in jobs:
            group, row = rows[name]
            wanted = {"--init": row.init, "--teacher": row.teacher}
            needs = {option: plan(other) for option, other in wanted.items() if other}
            jobs[name] = _job(table, group, row, subject, needs, classes=len(vocabulary), frames=frames)
        return jobs[name]

    for name, (_, row) in rows.items():
        plan(name)
        if row.against:
            plan(row.against)
    return {name: jobs[name] for name in rows}


def match_widths(config: ModelConfig, target: int, num_classes: int, size: Size) -> ModelConfig:
    """The config with all widths scaled by one factor, so that its multiply-adds are `target` within `TOLERANCE`.

    Widths are kept multiples of 8 where that can be, else of 4, 2 or 1.

    Raises:
        RequestError: No factor does it.
    """
    ratio = target / _macs(config, num_classes, size)
    # multiply-adds are a sum of terms that are linear and quadratic in the widths: the factor lies between these two
    low, high = sorted((ratio, math.sqrt(ratio)))
    percents = range(max(1, round(95 * low)), round(105 * high) + 1)
    nearest = 0.0
    for step in (8, 4, 2, 1):
        scaled = list(_scaled(config, step, percents))
        above = bisect.bisect_left(scaled, target, key=lambda found: _macs(found, num_classes, size))
        near = scaled[max(above - 1, 0) : above + 1]
        best = min(near, key=lambda found: abs(_macs(found, num_classes, size) / target - 1))
        nearest = _macs(best, num_classes, size) / target
        if abs(nearest - 1) <= TOLERANCE:
            return best
    raise RequestError(
        "no widths have those multiply-adds",
        value=f"{config.name}: {nearest:.3f} of {target}",
        allowed=f"within {TOLERANCE:.0%}; other depths may",
    )


def _scaled(config: ModelConfig, step: int, percents: Iterable[int]) -> Iterator[ModelConfig]:
    seen = set()
    for percent in percents:
        widths, decoder = (
            tuple(max(step, round(width * percent / 100 / step) * step) for width in old)
            for old in (config.widths, config.decoder_widths)
        )
        if (widths, decoder) not in seen:
            seen.add((widths, decoder))
            yield msgspec.structs.replace(config, widths=widths, decoder_widths=decoder)


@functools.cache
def _macs(config: ModelConfig, num_classes: int, size: Size) -> int:
    return describe(config, num_classes, size).multiply_adds


def _job(
    table: Table, group: Group, row: Row, subject: str, needs: Mapping[str, Job], *, classes: int, frames: int
) -> Job:
    budget = table.budget
    model, seed = row.model or table.model, table.seed if row.seed is None else row.seed
    fields = parse_overrides([*budget.set, *row.set], {"input.network_size": list(budget.network_size)})
    epochs = row.epochs or budget.epochs
    if row.same_steps:
        epochs = _stretch(fields, epochs, frames, budget.batch)
    labels = row.kind == "train"
    config = resolve_model(model, fields.get("model", {}))
    if row.match:
        target = _macs(resolve_model(table.model, {}), classes, budget.network_size)
        config = match_widths(config, target, classes, budget.network_size)
        for name in ("widths", "decoder_widths"):
            if getattr(config, name):
                fields.setdefault("model", {})[name] = list(getattr(config, name))
    fields.setdefault("data", {})["split"] = table.split
    if labels:
        fields["data"]["val_splits"] = list(table.score)
    else:
        fields.setdefault("train", {})["seed"] = seed
        fields.setdefault("augment", {})["crop"] = list(budget.crop)
    convert(fields, RecipeConfig, origin=f"{group.name}/{row.name}")
    options = ["--model", model, "--epochs", str(epochs), "--batch", str(budget.batch)]
    if labels:
        options += ["--seed", str(seed), "--crop", format_size(budget.crop)]
    for place, names in sorted(fields.items()):
        options += [
            word for name, value in sorted(names.items()) for word in ("--set", f"{place}.{name}={toml_value(value)}")
        ]
    made_of = [row.kind, subject, *options, *(f"{option} {job.key}" for option, job in needs.items())]
    key = sha256_bytes(*(word.encode() for word in made_of))[:12]
    return Job(
        id=f"{group.name}/{row.name}",
        row=row,
        group=group,
        key=key,
        options=tuple(options),
        fields=fields,
        config=config,
        epochs=epochs,
        needs=needs,
    )


def _stretch(fields: dict[str, dict[str, object]], epochs: int, frames: int, batch: int) -> int:
    """Epochs that a share of the frames needs for the steps of all; the warm-up is stretched with them."""
    recipe = convert({name: fields.get(name, {}) for name in ("train", "data")}, RecipeConfig, origin="the table")
    few = max(1, round(frames * recipe.data.limit))
    factor = steps_per_epoch(frames, batch) / steps_per_epoch(few, batch)
    fields.setdefault("train", {})["warmup_epochs"] = round(recipe.train.warmup_epochs * factor, 2)
    return round(epochs * factor)


def toml_value(value: object) -> str:
    """A value as `--set` takes it; words stay bare."""
    return value if isinstance(value, str) else json.dumps(value)
