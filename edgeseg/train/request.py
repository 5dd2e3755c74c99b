"""From what a person asks for to a resolved, checked configuration; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import edgeseg
from edgeseg.core.config import convert, load_config, read_toml, to_tables, unknown_name
from edgeseg.core.errors import RequestError
from edgeseg.core.types import Classes, Size
from edgeseg.model import InputConfig, ModelConfig, preset, preset_names
from edgeseg.train.config import AugmentConfig, PretrainConfig, RecipeConfig, RunConfig

Tables = Mapping[str, Mapping[str, object]]
RGB = Classes(names=("red", "green", "blue"), palette_rgb=((255, 0, 0), (0, 255, 0), (0, 0, 255)))
"""What the channels of a reconstruction are called, where a segmentation names its classes."""
_FIXED = {"train": ("seed", "batch"), "model": (), "input": ()}  # what a run cannot change under way


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One training run, as a person asks for it.

    Attributes:
        out: Run folder; must not exist, unless `resume`.
        model: Preset; may be empty where `config` names one in `[model]`.
        config: TOML file with any of the tables of a recipe.
        overrides: Values over the file's, by table and field.
        init: What the weights start from: a run folder, `zoo:NAME` or a safetensors file; empty for nothing.
        encoder_weights: Weights of the encoder: a safetensors file, `torchvision:NAME` or `timm:NAME`; empty for none.
        teacher: Run folder of a model that teaches this one; empty for none.
        qat: Run folder, exported as `model.onnx` in it, to fine-tune with the roundings of integers; empty for none.
        ranges: Range file of that graph.
        resume: Go on with the run in `out`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """

    out: Path
    model: str = ""
    config: Path | None = None
    overrides: Tables = field(default_factory=dict)
    init: str = ""
    encoder_weights: str = ""
    teacher: str = ""
    qat: str = ""
    ranges: str = ""
    resume: bool = False
    device: str = "auto"


def read_recipe(request: TrainRequest) -> RecipeConfig:
    """The recipe of a new run: the file's values, then the overrides.

    Raises:
        RequestError: The output folder exists, no data or model is named, or a value is refused.
    """
    check_free(request.out)
    recipe = load_config(request.config, RecipeConfig, request.overrides)
    if not recipe.data.train:
        raise RequestError(
            "no data set is named", allowed="--data camvid:PATH, folder:PATH, street:seed=1,frames=200 …"
        )
    resolve_model(request.model, recipe.model)
    return recipe


def check_free(out: Path) -> None:
    """Raise RequestError where the folder of a new run exists."""
    if out.exists():
        raise RequestError("the run folder exists", value=out, fix=f"edgeseg train --out {out} --resume")


def resolve_model(name: str, fields: Mapping[str, object]) -> ModelConfig:
    """A preset with single fields replaced.

    Raises:
        RequestError: No or an unknown preset, an unknown field or a combination that cannot be.
    """
    name = name or str(fields.get("name", ""))
    if name not in preset_names():
        raise unknown_name("model", name, list(preset_names()), fix=f"edgeseg train --model {preset_names()[0]} …")
    shape = {**to_tables(preset(name)), **fields, "name": name}
    decoder = shape["decoder_widths"]
    if "aux_heads" not in fields and isinstance(decoder, list):  # a shorter decoder has fewer levels to put them on
        shape["aux_heads"] = min(int(str(shape["aux_heads"])), max(len(decoder) - 1, 0))
    return convert(shape, ModelConfig, origin="[model]")


def resolve(
    recipe: RecipeConfig,
    request: TrainRequest,
    *,
    classes: Classes,
    frame_size: Size,
    model_fields: Mapping[str, object] | None = None,
    pretrain: PretrainConfig | None = None,
) -> RunConfig:
    """Fill in what depends on the model and the data.

    Args:
        recipe: File and options.
        request: Names the preset and what the weights start from.
        classes: Of the training data.
        frame_size: Of the first training frame: the network size unless `[input]` names another.
        model_fields: Fields of the model that this kind of run sets, under those of the recipe.
        pretrain: How a run without labels learns.
    """
    input_config = convert({"network_size": list(frame_size), **recipe.input}, InputConfig, origin="[input]")
    config = resolve_model(request.model, {**(model_fields or {}), **recipe.model})
    augment = _resolve_crop(recipe.augment, input_config.network_size, config.stride)
    _refuse_single_values(config, augment, recipe.train.batch)
    return RunConfig(
        version=edgeseg.__version__,
        init=request.init,
        encoder_weights=request.encoder_weights,
        teacher=request.teacher,
        model=config,
        input=input_config,
        classes=classes,
        train=recipe.train,
        data=recipe.data,
        augment=augment,
        loss=recipe.loss,
        distill=recipe.distill,
        pretrain=pretrain,
    )


def kind_of(request: TrainRequest) -> str:
    """What a request starts or goes on with: `qat`, `pretrain`, or `labels`."""
    if request.qat:
        return "qat"
    file = request.out / "config.toml"
    tables = read_toml(file) if request.resume and file.is_file() else {}
    return next((kind for kind in ("qat", "pretrain") if kind in tables), "labels")


def read_run_config(request: TrainRequest) -> RunConfig:
    """The configuration of a run to be resumed, with the overrides that a run can take under way.

    Raises:
        RequestError: There is no such run, or an override would make it another run.
    """
    file = request.out / "config.toml"
    if not file.is_file():
        raise RequestError("there is no run to resume", value=request.out, fix="the same command without --resume")
    was = load_config(file, RunConfig)
    if request.model and request.model != was.model.name:
        raise RequestError("a run cannot change its model", value=request.model, allowed=was.model.name)
    _refuse_starts(request, was)
    now = load_config(file, RunConfig, request.overrides)
    for table in ("pretrain", "qat"):
        if getattr(was, table) is None and getattr(now, table) is not None:
            raise RequestError("the run has no such table", value=table, allowed=", ".join(to_tables(was)))
    for table, names in _FIXED.items():
        old, new = to_tables(getattr(was, table)), to_tables(getattr(now, table))
        for name in names or old.keys() | new.keys():
            if old.get(name) != new.get(name):
                raise RequestError(
                    f"a run cannot change {table}.{name} under way", value=new.get(name), allowed=f"{old.get(name)}"
                )
    if now.augment.crop != was.augment.crop:
        _resolve_crop(now.augment, now.input.network_size, now.model.stride)
    return now


def _refuse_starts(request: TrainRequest, was: RunConfig) -> None:
    """What a run began with is said once; said again it may not differ, which nothing would come of."""
    if request.config is not None:
        allowed = "--set TABLE.FIELD=VALUE for single fields"
        raise RequestError("a run goes on under its own recipe", value=f"--config {request.config}", allowed=allowed)
    for name in ("init", "encoder_weights", "teacher"):
        given, known = getattr(request, name), getattr(was, name)
        if given and given != known:
            option = f"--{name.replace('_', '-')}"
            raise RequestError(f"a run cannot change {option} under way", value=given, allowed=known or "none")


def _resolve_crop(augment: AugmentConfig, network_size: Size, stride: int) -> AugmentConfig:
    crop = augment.crop
    if crop is None:
        crop = (_multiple(0.8 * network_size[0], stride), _multiple(0.8 * network_size[1], stride))
    if crop[0] % stride or crop[1] % stride or min(crop) < stride:
        raise RequestError("the crop does not fit the network", value=list(crop), allowed=f"multiples of {stride}")
    return convert({**to_tables(augment), "crop": list(crop)}, AugmentConfig, origin="[augment]")


def _refuse_single_values(config: ModelConfig, augment: AugmentConfig, batch: int) -> None:
    """A batch norm has nothing to divide by where its level is one place of one frame."""
    assert augment.crop is not None
    smallest = [_multiple(side * augment.multi_scale[0], config.stride) for side in augment.crop]
    if config.norm == "batch" and batch == 1 and max(smallest) == config.stride:
        raise RequestError(
            "a batch norm would see one value", value=f"a crop of {smallest}, batch 1", allowed="a larger crop or batch"
        )


def _multiple(length: float, stride: int) -> int:
    return max(1, round(length / stride)) * stride
