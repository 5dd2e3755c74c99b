#!/usr/bin/env python3
"""Fetch the Python bindings of the TensorRT versions that edgeseg supports, for its contract tests.

Each wheel is about 1 MB and holds classes, enums and signatures, but not NVIDIA's libraries: a stand-in for each
of those lets the module import, so that tests can look at it. Nothing can be built or run with the result.

    python tools/fetch_bindings.py [--out DIR]      DIR defaults to share/edgeseg-bindings of this Python's environment

What is there already is kept. A version that cannot be fetched (no network, no wheel for this Python, no C compiler) is
said and skipped: the tests then skip it with that reason, and this still exits 0.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# version -> (distribution, JetPack that has it)
WHEELS = {
    "8.6.1": ("tensorrt-bindings", "JetPack 6.0"),
    "10.3.0": ("tensorrt-cu12-bindings", "JetPack 6.1 and 6.2"),
    "10.13.3.9": ("tensorrt-cu12-bindings", "JetPack 7.0 and 7.1"),
    "10.16.1.11": ("tensorrt-cu13-bindings", "JetPack 7.2"),
    "11.0.0.114": ("tensorrt-cu13-bindings", "the first without precision flags"),
    "11.4.0.106": ("tensorrt-cu13-bindings", "the newest"),
}
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvparsers")
# every function of NVIDIA's libraries that a bindings module of these versions links to
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "getNvOnnxParserVersion",
    "initLibNvInferPlugins",
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)
REASON = "unavailable.txt"


def default_out() -> Path:
    return Path(sys.prefix) / "share" / "edgeseg-bindings"


def fetch(version: str, folder: Path) -> None:
    """Put `tensorrt_bindings/` and `lib/` of one version into `folder`."""
    distribution, _ = WHEELS[version]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, "--dest", name, f"{distribution}=={version}"], capture_output=True, text=True)
        wheels = list(work.glob("*.whl"))
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise RuntimeError(said[-1] if said else "pip found no wheel")
        made = work / "made"
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(made)
        stand_ins(made / "lib", version.split(".")[0])
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(made, folder)


def stand_ins(folder: Path, major: str) -> None:
    """Write a shared library for each of NVIDIA's, whose every function returns a null pointer."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise RuntimeError("no C compiler")
    folder.mkdir()
    source = folder / "stand_in.c"
    source.write_text("".join(f"void *{function}(void) {{ return 0; }}\n" for function in FUNCTIONS))
    for library in LIBRARIES:
        name = f"lib{library}.so.{major}"
        command = [compiler, "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{name}", "-o", str(folder / name)]
        subprocess.run([*command, str(source)], check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=default_out())
    out = parser.parse_args().out
    for version, (_, where) in WHEELS.items():
        folder = out / version
        if (folder / "tensorrt_bindings").is_dir():
            continue
        try:
            if sys.platform != "linux":
                raise RuntimeError("the wheels' stand-ins are made for Linux")
            fetch(version, folder)
            print(f"TensorRT {version} bindings ({where})")
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / REASON).write_text(f"{error}\n")
            print(f"TensorRT {version} bindings: not fetched ({error}); its contract test will be skipped")


if __name__ == "__main__":
    main()
