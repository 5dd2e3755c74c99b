"""The card of a zoo model, Markdown, from what was measured; nothing in it is typed by hand but the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeseg.core.config import dump_toml
from edgeseg.core.types import format_size
from edgeseg.graph.summary import ModelSummary
from edgeseg.measure.evaluate import Evaluation
from edgeseg.measure.robustness import Condition

Tables = Mapping[str, object]

WEAK_IOU = 0.4
"""A class under this is named as weak."""
KEPT = 2 / 3
"""A condition that leaves less of the clean mIoU than this is named as bad."""
_SEEN = {
    "camvid": "It has seen 367 frames at most, of one city (Cambridge) by day and dusk from one car: other roads, "
    "cameras, mounting heights and weathers are new to it. CamVid is for research use; its val, one clip of 6.7 s, "
    "flatters.",
    "street": "It has seen rendered streets only, and no camera's picture.",
}


_NO_RECIPE = {
    *(("train", field) for field in ("threads", "validate_every", "checkpoint_minutes", "compile", "cuda_graph")),
    *(("data", field) for field in ("train", "split", "val", "val_splits")),
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says.

    Attributes:
        config: Tables of the run's config.toml.
        data: Scheme of the labelled data.
        network: Parameters, multiply-adds and receptive field.
        scores: Scores by column, "val FP32".
        before: Tables of the run that this one started from (`--init`); None where there was none.
        sibling: Tables of the run that held dev out and gives the dev columns; None where there is none.
        sibling_before: Of the run that the sibling started from.
        conditions: Scores under bad conditions, on the first split.
        clean: mIoU of the same engine on the same frames without them.
        backend: Of the INT8 engine.
        notes: What else it is not good for.
        stand_in: Whether it will be replaced.
    """

    config: Tables
    data: str
    network: ModelSummary
    scores: Mapping[str, Evaluation]
    sibling: Tables | None
    before: Tables | None = None
    sibling_before: Tables | None = None
    conditions: Sequence[Condition]
    clean: float | None
    backend: str
    notes: Sequence[str] = ()
    stand_in: bool = False

    @property
    def name(self) -> str:
        """The model's name in the zoo."""
        return str(table(self.config, "model")["name"])


def table(config: Tables, name: str) -> dict[str, object]:
    """One table of a config; empty where it has none."""
    found = config.get(name, {})
    return dict(found) if isinstance(found, Mapping) else {}


def write_card(card: Card) -> str:
    """The whole card."""
    lines = [f"# {card.name}" + (" (stand-in)" if card.stand_in else ""), ""]
    if card.stand_in:
        lines += ["**A stand-in**, so that every command that names it works. It will be replaced.", ""]
    lines += [*_facts(card), "", *_scores(card), "", *_robustness(card), *_limits(card), "", *_recipe(card)]
    return "\n".join(lines).rstrip() + "\n"


def train_command(config: Tables, data: str) -> str:
    """The command that trains it, without a path of this machine."""
    model, train = table(config, "model"), table(config, "train")
    parts = [
        f"edgeseg train --data {data}:PATH --model {model['name']} --config RECIPE.toml --seed {train.get('seed')}"
    ]
    for field, option in (("init", "--init"), ("encoder_weights", "--encoder-weights"), ("teacher", "--teacher")):
        if config.get(field):
            parts.append(f"{option} {str(config[field]).rstrip('/').rpartition('/')[2]}")
    return " ".join([*parts, "--out RUN"])


def differences(config: Tables, other: Tables) -> list[str]:
    """Fields of the recipe in which two runs differ, as text: `field theirs for ours`.

    Threads, and what is validated when, do not count; a field that the other did not know yet was off there.
    """
    found = []
    for name in ("model", "input", "train", "data", "augment", "loss", "distill"):
        ours, theirs = table(config, name), table(other, name)
        for field, value in sorted(ours.items()):
            was = theirs.get(field, False)
            if (name, field) not in _NO_RECIPE and was != value and (was or value):
                text = _short(was) if field in theirs else "none"
                found.append(f"{name}.{field} {text} for {_short(value)}")
    return found


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _facts(card: Card) -> list[str]:
    model, data, network = (table(card.config, "model"), table(card.config, "data"), card.network)
    size = format_size(network.counted_at)
    rows = [
        ("network", f"ConvNeXt-U-Net, {model['norm']} norm, {model['activation']}: `edgeseg inspect zoo:{card.name}`"),
        ("size", f"{network.parameters / 1e6:.2f} M parameters, {network.macs / 1e9:.2f} G multiply-adds at {size}"),
        ("data", f"{card.data}, split `{data.get('split', 'train')}`, network size {size}"),
        ("command", f"`{train_command(card.config, card.data)}`, the recipe is below"),
        *([] if card.before is None else [("started from", _before(card, card.before))]),
        ("seed", str(table(card.config, "train").get("seed"))),
        ("ranges", f"`edgeseg calibrate zoo:{card.name} --frames {card.data}:PATH`"),
        ("INT8", f"`edgeseg build zoo:{card.name} --precision int8 --target cpu`, {card.backend}"),
        ("scores", f"`edgeseg eval zoo:{card.name} --data {card.data}:PATH --split …`; of the bundle for INT8"),
    ]
    if card.sibling is not None:
        rows.append(("dev", _sibling(card, card.sibling)))
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)]


def _before(card: Card, before: Tables) -> str:
    others = ", ".join(differences(card.config, before))
    split = table(before, "data").get("split", "train")
    return f"`{train_command(before, card.data)}` on split `{split}`, by the recipe below but for {others or 'nothing'}"


def _sibling(card: Card, sibling: Tables) -> str:
    others = differences(card.config, sibling)
    recipe = f"the same recipe but for {', '.join(others)}" if others else "the same recipe"
    split = table(sibling, "data").get("split")
    if card.before is not None and card.sibling_before is not None:
        others = differences(card.before, card.sibling_before)
        recipe += f", started from a run of the same recipe{' but for ' + ', '.join(others) if others else ''}"
    return (
        f"the dev columns are of a sibling that never saw dev: {recipe}, split `{split}`; "
        "these weights learned from dev's frames too, so have no figure of their own there"
    )


def _scores(card: Card) -> list[str]:
    results = list(card.scores.values())
    lines = [f"| IoU % | {' | '.join(card.scores)} |", "|---" + "|---:" * len(results) + "|"]
    lines += [f"| {name} | {' | '.join(percent(r.iou[name]) for r in results)} |" for name in results[0].iou]
    lines.append(f"| **mean** | {' | '.join(f'**{percent(r.miou)}**' for r in results)} |")
    return [*lines, f"| boundary | {' | '.join(percent(r.boundary_iou) for r in results)} |"]


def _robustness(card: Card) -> list[str]:
    if not card.conditions:
        return []
    strengths = sorted({one.strength for one in card.conditions})
    found = {(one.kind, one.strength): one.miou for one in card.conditions}
    first = next(iter(card.scores))
    lines = [
        f"Under bad conditions, {first}; {percent(card.clean)} without. `edgeseg eval zoo:{card.name} --data "
        f"{card.data}:PATH --split {first.split()[0]} --corrupt all`",
        "",
        f"| mIoU % | {' | '.join(f'strength {strength}' for strength in strengths)} |",
        "|---" + "|---:" * len(strengths) + "|",
    ]
    kinds = dict.fromkeys(one.kind for one in card.conditions)
    lines += [f"| {kind} | {' | '.join(percent(found.get((kind, n))) for n in strengths)} |" for kind in kinds]
    return [*lines, ""]


def _limits(card: Card) -> list[str]:
    """What it is not good for: from the data, from the scores, from the conditions, from the notes."""
    column = next((name for name in card.scores if name.startswith("dev")), next(iter(card.scores)))
    weak = [
        f"{name} ({percent(iou)})"
        for name, iou in card.scores[column].iou.items()
        if iou is not None and iou < WEAK_IOU
    ]
    bad = [
        f"{one.kind} {one.strength} ({percent(one.miou)})"
        for one in card.conditions
        if card.clean and (one.miou or 0.0) < KEPT * card.clean
    ]
    lines = ["**Not good for**", ""]
    lines += [f"- {_SEEN[card.data]}"] if card.data in _SEEN else []
    lines += [f"- Classes under {100 * WEAK_IOU:.0f} % on {column}: {', '.join(weak)}."] if weak else []
    lines += [f"- Conditions that leave less than two thirds of its mIoU: {', '.join(bad)}."] if bad else []
    return [
        *lines,
        *(f"- {note}" for note in card.notes),
        "- It is no safety function: a mask is a guess without a bound.",
    ]


def _recipe(card: Card) -> list[str]:
    recipe = {name: table(card.config, name) for name in ("model", "input", "train", "data", "augment", "loss")}
    for field in ("train", "val"):
        recipe["data"].pop(field, None)  # where it lies; --data says it
    if card.config.get("teacher"):
        recipe["distill"] = table(card.config, "distill")
    toml = dump_toml(recipe).strip()
    return ["<details><summary>RECIPE.toml</summary>", "", "```toml", toml, "```", "", "</details>", ""]


def percent(value: float | None) -> str:
    """A share in percent, one digit; a dash where it is not defined."""
    return "–" if value is None else f"{100 * value:.1f}"
