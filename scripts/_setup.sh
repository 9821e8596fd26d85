# Sourced by the other scripts: makes .venv from nothing but python3 and installs Windlass into it.
# usage: setup [dev]   "dev" adds the tools of tests and lint
setup() {
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    cd "$root"
    local kind=${1:-user} python stamp wanted
    python=$(find_python) || exit 1
    wanted="$kind $("$python" -c 'import sys; print(sys.version)') $(cat pyproject.toml sdk/pyproject.toml constraints/{dev,windlass}.txt | cksum)"
    stamp=.venv/.windlass-setup
    if [ -x .venv/bin/python ] && { [ "$(cat $stamp 2>/dev/null)" = "$wanted" ] || [ "$(cat $stamp 2>/dev/null)" = "${wanted/user/dev}" ]; }; then
        return
    fi
    echo "setting up .venv (once) …" >&2
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    local install=(.venv/bin/python -m pip --disable-pip-version-check install -q -c constraints/windlass.txt)
    "${install[@]}" -c constraints/dev.txt hatchling editables
    "${install[@]}" --no-build-isolation -e 'sdk[cli]' -e .
    [ "$kind" = user ] || "${install[@]}" -c constraints/dev.txt -r constraints/dev.in
    echo "$wanted" > $stamp
}

# The newest python3 of 3.11 or later on PATH.
find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    echo "Windlass needs Python 3.11 or newer (with venv); python3 here is $(python3 --version 2>&1)." >&2
    return 1
}
