#!/usr/bin/env bash
# Set up edgeseg on an NVIDIA Jetson: JetPack's own OpenCV and TensorRT, never a wheel over them.
#   tools/jetson_setup.sh [--dry-run] [--clocks]
# --dry-run prints the commands; --clocks also fixes the power mode and clocks for repeatable figures.
# EDGESEG_ROOT is a folder that stands for / (for tests).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry=0 clocks=0
for argument in "$@"; do
  case $argument in
    --dry-run) dry=1 ;;
    --clocks) clocks=1 ;;
    *) echo "jetson_setup: error: unknown option ($argument); allowed: --dry-run, --clocks" >&2; exit 2 ;;
  esac
done
die() { echo "jetson_setup: error: $*" >&2; exit 4; }
run() { if [ "$dry" = 1 ]; then echo "$*"; else echo "jetson_setup: $*" >&2; "$@"; fi; }

release=${EDGESEG_ROOT:-}/etc/nv_tegra_release
[ -r "$release" ] || die "this is no Jetson ($release is missing); on any other machine: make setup"
major=$(sed -nE 's/^# R([0-9]+).*/\1/p' "$release")
case $major in
  36) extra=jetpack6 python=python3.10 ;;
  38|39) extra=jetpack7 python=python3.12 ;;
  35) die "JetPack 5 (L4T $major) has Python 3.8, below edgeseg's 3.10; try, on another machine: edgeseg build MODEL --target jetpack5, which writes the ONNX and the trtexec line for this board" ;;
  *) die "unknown L4T release ($major); allowed: 36 (JetPack 6), 38 and 39 (JetPack 7); try: cat $release" ;;
esac

sudo=sudo; [ "$(id -u)" = 0 ] && sudo=
run $sudo apt-get update
# python3-libnvinfer is TensorRT's Python module; python3-opencv has GStreamer, which the wheel lacks
run $sudo apt-get install -y "$python-venv" python3-dev python3-libnvinfer python3-opencv gstreamer1.0-tools gstreamer1.0-plugins-good
run "$python" -m venv --system-site-packages .venv
# pycuda is compiled on the board, with the CUDA that JetPack brought
run env "PATH=/usr/local/cuda/bin:$PATH" .venv/bin/python -m pip install -e ".[$extra]"
run .venv/bin/python -c "import cv2; print('OpenCV', cv2.__version__, cv2.__file__)"
run .venv/bin/python -c "import tensorrt; print('TensorRT', tensorrt.__version__)"
if [ "$clocks" = 1 ]; then
  run $sudo nvpmodel -q
  run $sudo jetson_clocks
fi
run .venv/bin/edgeseg doctor
