"""NVIDIA engines: TensorRT 8.6, 10 and 11 and TensorRT-RTX behind one facade.

    api        what a TensorRT module has, probed once; the only way to its enums
    network    ONNX to plan: parse, precision, memory, DLA, build
    child      the build in a process of its own, so that Ctrl-C and a crash end it cleanly
    audit      what precision every kernel really runs in
    loading    plan to engine: trust, addresses, enqueue
    cuda       the CUDA driver: context, stream, memory, graphs
    runner     a `Runner` over these
    builder    the two backends `tensorrt` and `tensorrt_rtx`

Vendor objects are touched in `api`, `network`, `loading`, `calibration` and `cuda` only, under the variable names that
tests/backend/nvidia/test_contract.py maps to vendor classes: the list of what is touched is derived from the code.
"""
