#!/usr/bin/env bash
# Installs the node into a fresh environment and runs `serve` from it as an unprivileged user:
# it must answer a C-ECHO, and end by itself when it is told to.
set -euo pipefail

command -v echoscu >/dev/null || {
    echo "check_install: echoscu (dcmtk) is missing" >&2
    exit 2
}
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
chmod 755 "$work"
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

umask 022
as_nobody=(env HOME="$work/node")
if [ "$(id -u)" = 0 ]; then
    as_nobody=(setpriv --reuid=nobody --regid=nogroup --clear-groups "${as_nobody[@]}")
fi
# An interpreter below root's home cannot be run by the user that the node runs as.
for python in "${PYTHON:-python3}" /usr/bin/python3; do
    base="$("$python" -c 'import sys; print(sys.base_prefix + "/bin/python3")' || true)"
    "${as_nobody[@]}" "$base" -c 'import venv' 2>/dev/null && break
done
PYTHON="$base" "$here/install.sh" "$work/venv"
port="$("$work/venv/bin/python" -c '
import socket
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    print(free.getsockname()[1])')"
mkdir "$work/node"
cat >"$work/node/dicomnode.toml" <<TOML
[listen]
host = "127.0.0.1"
port = $port
[retention]
free = "0%"
[peers.tester]
ae_title = "TESTER"
receives_from = true
TOML

[ "$(id -u)" != 0 ] || chown -R nobody "$work/node"
cd "$work/node"
"${as_nobody[@]}" "$work/venv/bin/dicomnode" serve --config dicomnode.toml >"$work/serve.log" 2>&1 &
server=$!
for _ in $(seq 1 240); do
    if echoscu -aet TESTER -aec DICOMNODE 127.0.0.1 "$port" 2>/dev/null; then
        answered=yes
        break
    fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.5
done
if [ "${answered:-}" != yes ]; then
    echo "check_install: serve did not answer a C-ECHO; its log:" >&2
    cat "$work/serve.log" >&2
    exit 1
fi
kill -TERM "$server"
status=0
wait "$server" || status=$?
server=""
if [ "$status" != 0 ]; then
    echo "check_install: serve ended with status $status; its log:" >&2
    cat "$work/serve.log" >&2
    exit 1
fi
echo "check_install: installed, answered, drained"
