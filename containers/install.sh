#!/bin/sh
# Install reconfmri with what the lock holds, and nothing else, into a folder of its own: the one step that both
# recipes share. Usage: install.sh SOURCE PREFIX (a clone; the folder to make).
set -eu
source=$1 prefix=$2
python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed" >&2; exit 1; }
python3 -m venv "$prefix"
"$prefix/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r "$source/envs/requirements.lock"
# hatchling builds the package; its version is the one that the lock of the tests holds with its hashes.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
python3 -m venv "$build/venv"
awk '/^[a-z]/ {keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/} keep' \
  "$source/envs/requirements-test.lock" > "$build/hatchling.lock"
"$build/venv/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --require-hashes -r "$build/hatchling.lock"
"$build/venv/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$build" "$source"
"$prefix/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --no-deps "$build"/reconfmri-*.whl
# Compiled here: a container's file system is read-only when it runs.
"$prefix/bin/python" -m compileall -q "$prefix/lib" || true
