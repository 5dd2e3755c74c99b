import subprocess
import sys

import pytest

from edgeseg.backend import backend_names, get_builder, probe_backends, registry
from edgeseg.core.deps import Availability
from edgeseg.core.errors import RequestError, UnavailableError


def test_every_backend_is_probed_and_named():
    assert [found.name for found in probe_backends()] == backend_names()
    assert {"onnxruntime", "openvino", "null"} <= set(backend_names())


def test_an_unknown_backend_gets_the_nearest_name():
    with pytest.raises(RequestError, match="did you mean openvino"):
        get_builder("openvinno")


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(registry, "probe_package", lambda name: Availability(name, False, "not installed", "pip it"))
    found = {item.name: item for item in probe_backends()}
    assert not found["openvino"].ok
    assert found["openvino"].remedy == "pip it"
    assert found["null"].ok


def test_a_missing_package_is_an_error_when_asked_for(monkeypatch):
    def missing(*packages, what):
        raise UnavailableError(f"{what} needs {packages}")

    monkeypatch.setattr(registry, "require", missing)
    with pytest.raises(UnavailableError, match="openvino"):
        get_builder("openvino")


@pytest.mark.parametrize("name", backend_names())
def test_builders_say_what_they_are(name):
    found = next(item for item in probe_backends() if item.name == name)
    if not found.ok:
        pytest.skip(f"{found.detail}: {found.remedy}")
    builder = get_builder(name)
    assert builder.name == name
    assert builder.version
    assert builder.precisions


def test_the_door_imports_no_runtime():
    heavy = "('onnx', 'onnxruntime', 'openvino', 'torch')"
    code = f"import sys, edgeseg.backend as b; b.probe_backends(); print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
