#!/bin/bash
# Installs the Debian packages that Barque needs and are missing, and makes the virtual environment $1.
# Runs on Debian 12 and later and on Ubuntu with CPython 3.11 to 3.13.
set -euo pipefail
venv=$1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need dockerd docker.io
need iptables-restore iptables
need ip iproute2
need conntrack conntrack
need busybox busybox-static
need nsenter util-linux
need iperf3 iperf3
need ps procps
need systemd-analyze systemd
need docker-registry docker-registry
need dnsperf dnsperf
need etcd etcd-server
need etcdctl etcd-client

suitable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }
# The distribution's own interpreter comes first: it is built with profiles, which one built by hand mostly is not.
find_python() {
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && suitable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}
[ -x "$venv/bin/pip" ] || [ -n "$(find_python)" ] || missing+=(python3 python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "barque: these packages are missing and only root can install them: ${missing[*]}" >&2
        exit 1
    fi
    echo "Installing ${missing[*]} ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Debian 13 has Docker's client, which the tests use, in a package of its own.
    if ! command -v docker >/dev/null && apt-cache show docker-cli >/dev/null 2>&1; then missing+=(docker-cli); fi
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1 ||
        { cat "$log" >&2; exit 1; }
    # Only the tests use these, on ports of their own; Debian has them serve on ports 5000, 2379 and 2380.
    for service in docker-registry:docker-registry etcd-server:etcd; do
        if [[ " ${missing[*]} " == *" ${service%:*} "* ]] && [ -d /run/systemd/system ]; then
            systemctl --quiet disable --now "${service#*:}"
        fi
    done
fi

if [ ! -x "$venv/bin/pip" ]; then
    python=$(find_python)
    if [ -z "$python" ]; then
        echo "barque: no CPython 3.11, 3.12 or 3.13 with venv here; install one and run again" >&2
        exit 1
    fi
    "$python" -m venv "$venv"
fi
mkdir -p build
