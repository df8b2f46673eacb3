#!/bin/sh
# Print a Python >= 3.12: $PYTHON if given, else the first of the names below that runs and is new enough.
names="python3.13 python3.12 python3.14 python3 python"
[ -n "$PYTHON" ] && names="$PYTHON"
seen=""
for name in $names; do
    version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    seen="$seen $name ($version)"
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        command -v "$name"
        exit 0
    fi
done
{
    echo "bayesimp needs Python >= 3.12 with the venv module (PyMC 6 does)."
    echo "Looked for: $names. Found:${seen:- none that runs}."
    echo "Install one (e.g. apt install python3.13 python3.13-venv, brew install python@3.13, pyenv install 3.13),"
    echo "or name one: make PYTHON=/path/to/python3.13 test"
} >&2
exit 1
