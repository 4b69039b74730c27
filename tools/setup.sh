#!/bin/sh
# Makes .venv with everything Swarm needs, at the versions of constraints.txt. `make` runs it; run it again at any time.
# PYTHON=/path/to/python picks the interpreter; without it the first of python3, python3.13, 3.12, 3.11 that fits is taken.
set -eu
cd "$(dirname "$0")/.."
stamp=.venv/.installed

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

fits() { # does this interpreter run, and is it CPython 3.11, 3.12 or 3.13?
    "$1" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13)))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" || fail "PYTHON=$PYTHON is not a working Python 3.11, 3.12 or 3.13"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found: install one (on Debian 12: sudo apt-get install -y python3 python3-venv python3-dev)," \
        "or say which to use: make PYTHON=/path/to/python3.12 ..."
}

missing_packages() { # Debian packages for what pip cannot bring
    command -v gcc >/dev/null || printf 'gcc libc6-dev '
    [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || printf 'python3-dev '
    "$python" -c 'import ensurepip, venv' 2>/dev/null || printf 'python3-venv '
    if command -v gcc >/dev/null; then
        echo '#include <gmp.h>' | gcc -E - >/dev/null 2>&1 || printf 'libgmp-dev '
    else
        printf 'libgmp-dev '
    fi
}

require_system_packages() {
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    say "fastecdsa, which libp2p needs, is built from source here; missing for that: $missing"
    if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null; then
        say "installing: apt-get install -y --no-install-recommends $missing"
        # shellcheck disable=SC2086  # a list of words
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } >&2
        missing=$(missing_packages)
        [ -z "$missing" ] || fail "still missing after apt-get: $missing (for a Python not from Debian, install its headers with it)"
    else
        fail "install it, then run make again: sudo apt-get install -y $missing"
    fi
}

fingerprint() { # of what decides the content of .venv
    { cat pyproject.toml constraints.txt; "$1" --version; pwd; } | cksum
}

if [ -e "$stamp" ] && fits .venv/bin/python && [ "$(fingerprint .venv/bin/python)" = "$(cat "$stamp")" ]; then
    touch "$stamp"
    exit 0
fi
python=$(find_python)
require_system_packages
if [ -e .venv ] && ! { fits .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    say "removing .venv: its Python does not work any more"
    rm -rf .venv
fi
[ -e .venv ] || { say "making .venv with $("$python" --version)"; "$python" -m venv .venv; }
say "installing the pinned packages (some minutes the first time, torch is large)"
.venv/bin/python -m pip install --use-pep517 --constraint constraints.txt --editable '.[dev]'
fingerprint .venv/bin/python >"$stamp"
say "done: .venv/bin/swarm"
