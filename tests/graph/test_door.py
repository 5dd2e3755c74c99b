from __future__ import annotations

import subprocess
import sys


def test_the_doors_import_nothing_heavy():
    code = (
        "import sys, edgeseg.graph, edgeseg.export; "
        "print(*[name for name in ('onnx', 'onnxruntime', 'torch', 'cv2') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
