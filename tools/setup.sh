#!/usr/bin/env bash
# Make .venv with what a make target needs; does nothing where that is done already.
#   tools/setup.sh demo|test        PYTHON=python3.12 chooses the interpreter
# A stamp of pyproject.toml's hash in .venv says what is installed, so that a change of dependencies installs again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:-demo}
case $target in
  demo) extras=train ;;
  test) extras=train,sign,record,formats,bench,encoders,dev ;;
  *) echo "setup: error: unknown target ($target); allowed: demo, test; try: make setup" >&2; exit 2 ;;
esac
# TensorRT-RTX builds engines without a GPU, but has wheels for x86-64 Linux only; the tests use it
if [ "$target" = test ] && [ "$(uname -sm)" = "Linux x86_64" ]; then extras+=,rtx; fi

say() { echo "setup: $*" >&2; }
die() { echo "setup: error: $*" >&2; exit 4; }

if [ -e /etc/nv_tegra_release ]; then
  die "this is a Jetson, whose OpenCV and TensorRT are JetPack's; allowed: tools/jetson_setup.sh; try: tools/jetson_setup.sh"
fi

hash=$(cat pyproject.toml tools/setup.sh | sha256sum | cut -d' ' -f1)
stamped() { [ "$(cat ".venv/.setup-$1" 2>/dev/null)" = "$hash" ]; }
# what the tests need holds what the demo needs
if stamped test || { [ "$target" = demo ] && stamped demo; }; then exit 0; fi

good='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'
python=
for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13 python3.10}; do
  if "$candidate" -c "$good" 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || die "no Python 3.10 to 3.13 found (${PYTHON:-python3 and python3.10 to python3.13}); try: make $target PYTHON=/path/to/python3.12"

root() { [ "$(id -u)" = 0 ]; }
install_system() {  # install_system "what for" package...
  local what=$1; shift
  if root && command -v apt-get >/dev/null; then
    say "installing $* ($what)"
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  else
    die "$what is missing; try: sudo apt install $*"
  fi
}

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c "$good" 2>/dev/null; then
  say "making .venv with $("$python" --version)"
  rm -rf .venv
  if ! "$python" -m venv .venv 2>/dev/null; then
    rm -rf .venv
    install_system "Python's venv module" "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    "$python" -m venv .venv
  fi
fi

say "installing edgeseg[$extras]: about two minutes and 6 GB with a fast connection"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
.venv/bin/python -m pip install --disable-pip-version-check --progress-bar "$([ -t 2 ] && echo on || echo off)" -q -e ".[$extras]"

# the opencv-python wheel needs libraries of the desktop that a server lacks
if ! .venv/bin/python -c 'import cv2' 2>/dev/null; then
  reason=$(.venv/bin/python -c 'import cv2' 2>&1 | tail -1)
  case $reason in
    *libGL.so*|*libgthread*|*libglib*) install_system "a library that OpenCV loads (${reason##*: })" libgl1 libglib2.0-0 ;;
    *) die "OpenCV does not import ($reason); try: .venv/bin/pip install --force-reinstall opencv-python" ;;
  esac
  .venv/bin/python -c 'import cv2' || die "OpenCV still does not import; try: .venv/bin/python -c 'import cv2'"
fi
if [ "$target" = test ] && [ -e tools/fetch_bindings.py ]; then
  say "fetching the bindings of several TensorRT versions for the contract tests"
  .venv/bin/python tools/fetch_bindings.py >&2 || say "not all could be fetched: those tests will skip and say so"
fi
echo "$hash" >".venv/.setup-$target"
say "done: .venv/bin/edgeseg --help"
