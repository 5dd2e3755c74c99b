"""What is in a run: the graph that it would export, and what its training says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from edgeseg.export.run import canonical_model, run_facts
from edgeseg.graph.load import save_model
from edgeseg.graph.summary import ModelSummary, summarise
from edgeseg.model.receptive import measured_field
from edgeseg.model.run import load_run


def describe_run(run: Path) -> ModelSummary:
    """The summary of the graph that `export` would write of a run, under the run's path.

    Raises:
        RequestError: There is no such run.
        VerifyError: Its weights are truncated or foreign.
    """
    loaded = load_run(run)
    model = canonical_model(loaded.model, loaded.input, loaded.classes, run_facts(run))
    with tempfile.TemporaryDirectory(prefix="edgeseg-inspect-") as folder:
        file = Path(folder) / "model.onnx"
        save_model(file, model)
        summary = summarise(file)
    effective = measured_field(loaded.model).effective
    return msgspec.structs.replace(summary, path=str(run), kind="run", effective_field=effective)
