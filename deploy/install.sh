#!/bin/sh
# Installs the node into a virtual environment of its own. The Dockerfile and CI call the same.
#
#   deploy/install.sh [PREFIX]        PREFIX defaults to /opt/dicomnode
#
# Environment:
#   PYTHON       interpreter, 3.11 or later (python3)
#   TORCH_INDEX  further package index for torch, for example one with CUDA builds (none)
set -eu

prefix="${1:-/opt/dicomnode}"
python="${PYTHON:-python3}"
source="$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "install.sh: $python is older than Python 3.11" >&2
    exit 2
}

"$python" -m venv "$prefix"
if [ -n "${TORCH_INDEX:-}" ]; then
    torch="$(grep -E '^torch==' "$source/constraints.txt")"
    "$prefix/bin/pip" install --quiet --extra-index-url "$TORCH_INDEX" "$torch"
fi
"$prefix/bin/pip" install --quiet \
    --constraint "$source/constraints.txt" "$source"
"$prefix/bin/dicomnode" --version
