#!/bin/sh
# Installs the programs that the tests talk to, where this user may; names what is missing else.
set -eu

missing=""
need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
PATH="$PATH:/usr/sbin:/sbin"
need storescu dcmtk
need dciodvfy dicom3tools
need Orthanc orthanc
need strace strace
need systemd-analyze systemd
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing the test peers:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of package names
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "these test peers are missing; tests that need them are skipped:$missing" >&2
    echo "on Debian: apt-get install$missing" >&2
fi
