"""Where the ranges of a build come from: a file, frames, a recipe, or what the model ships. Never unasked."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx

from edgeseg.core.config import convert, unknown_name
from edgeseg.core.errors import RequestError
from edgeseg.core.progress import Progress
from edgeseg.core.workspace import output_path, resolve_model, shipped_ranges
from edgeseg.deploy.request import BuildRequest, CalibrationRequest
from edgeseg.graph import load_model, read_meta
from edgeseg.measure import parse_conditions
from edgeseg.quant import DEFAULT_COUNT, METHODS, calibrate, load_ranges, open_pool, save_ranges
from edgeseg.quant.frames import CorruptedPool
from edgeseg.quant.ranges import Ranges
from edgeseg.quant.recipe import CalibrationRecipe, load_recipe
from edgeseg.quant.thresholds import Method


def calibrate_model(request: CalibrationRequest, out: Path | None, progress: Progress) -> tuple[Path, Ranges]:
    """Calibrate and write the range file.

    Raises:
        RequestError: Not exactly one of frames and recipe, or an unknown method.
    """
    if (request.frames is None) == (request.recipe is None):
        given = "both" if request.frames else "neither"
        raise RequestError("calibration needs frames", value=given, allowed="one of --frames SRC, --recipe NAME")
    recipe = load_recipe(request.recipe) if request.recipe else CalibrationRecipe(frames=request.frames or "")
    method = _method(request, recipe.method)
    count = request.count or (recipe.count if request.recipe else DEFAULT_COUNT)
    model_file = resolve_model(request.model)
    model = load_model(model_file)
    file = out or output_path("calibration", f"{model_file.stem}.ranges.json")
    conditions = parse_conditions(request.corrupt)
    pool = open_pool(recipe.frames)
    ranges = calibrate(
        model,
        CorruptedPool(pool, conditions) if conditions else pool,
        method=method,
        count=count,
        network_size=request.network_size,
        prepare=not request.as_is,
        progress=progress,
    )
    save_ranges(file, ranges)
    return file, ranges


def ranges_for(request: BuildRequest, model: onnx.ModelProto, progress: Progress) -> Ranges | None:
    """The ranges of a build, or None where none were given and the model ships none.

    Raises:
        RequestError: INT8 was asked for and there are none.
        VerifyError: The range file does not verify or is of other weights.
    """
    weights = read_meta(model).weights_sha256
    shipped = shipped_ranges(request.model)
    if request.ranges is not None:
        return load_ranges(Path(request.ranges), weights_sha256=weights)
    if request.frames is not None or request.recipe is not None:
        if request.precision not in ("int8", "auto"):
            return None  # the frames are for the golden set alone
        recipe = load_recipe(request.recipe) if request.recipe else CalibrationRecipe(frames=request.frames or "")
        size = request.network_size
        return calibrate(
            model, recipe.frames, method=recipe.method, count=recipe.count, network_size=size, progress=progress
        )
    if shipped is not None:
        return load_ranges(shipped, weights_sha256=weights)
    if request.precision == "int8":
        raise RequestError(
            "int8 needs ranges",
            value=f"{request.model} ships none",
            allowed="exactly one of --ranges R, --frames SRC, --recipe NAME",
            fix=f"edgeseg build {request.model} --precision int8 --frames SRC",
        )
    return None


def _method(request: CalibrationRequest, default: Method) -> Method:
    if request.method is not None and request.method not in METHODS:
        raise unknown_name("method", request.method, list(METHODS))
    changes = {"name": request.method, "percentile": request.percentile}
    tables = {key: value for key, value in changes.items() if value is not None}
    method = convert({**msgspec.to_builtins(default), **tables}, Method, origin="options")
    if request.percentile is not None and method.name != "percentile":
        raise RequestError(
            "only --method percentile has a percentile", value=f"--method {method.name}", allowed="--method percentile"
        )
    return method
