"""Progress of TensorRT 8.6, which has no monitor: from its log, as 8.x writes it."""

from __future__ import annotations

from edgeseg.backend.nvidia.phases import LogPhases

LOG = """\
Parsing node: stem [Conv]
Applying generic optimizations to the graph for inference.
After final dead-layer removal: 40 layers
=============== Computing costs for
--------------- Timing Runner: encoder.0.0.pw1 + encoder.0.0.act (CudaDepthwiseConvolution[0x80000023])
encoder.0.0.pw1 + encoder.0.0.act (CudaDepthwiseConvolution) has no valid tactics for this config, skipping
--------------- Timing Runner: encoder.0.0.pw1 + encoder.0.0.act (CaskConvolution[0x80000009])
Tactic: 0x0000000000000001 Time: 0.1
--------------- Timing Runner: {ForeignNode[norm.../act]} (Myelin)
Formats and tactics selection completed in 12.3 seconds.
Engine generation completed in 14.1 seconds.
a line that nobody knows"""


def test_the_log_becomes_stages_and_a_count_of_layers() -> None:
    seen: list[tuple[str, int, int]] = []

    def progress(phase: str, done: int, total: int) -> bool:
        seen.append((phase, done, total))
        return True

    phases = LogPhases(progress)
    for line in LOG.splitlines():
        phases.read(line)
    assert seen == [
        ("parsing the model", 0, 0),
        ("simplifying the graph", 0, 0),
        ("timing kernels, layer 1", 1, 0),
        ("timing kernels, layer 2", 2, 0),
        ("choosing kernels: done", 0, 0),
        ("writing the plan", 0, 0),
    ]
