#!/bin/sh
# make wheels: nmt and two plugins built as wheels and installed, not editable, into a fresh environment; listed, trained
# and translated with; then a plugin is uninstalled, and the error names what the model needs.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PYTHON=${PYTHON:-python3}
"$PYTHON" -m venv "$work/venv"
bin=$work/venv/bin
pip() { "$bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

echo "== build"
pip install -c "$root/constraints.txt" build torch
for project in "$root" "$root/plugins/nmt-mgu" "$root/plugins/nmt-xlstm"; do
    "$bin/python" -m build --wheel --outdir "$work/dist" "$project" > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
done
ls "$work/dist"

echo "== install"
pip install -c "$root/constraints.txt" "$work"/dist/*.whl
cd "$work"
"$bin/python" -m nmt.native
"$bin/nmt-plugins" | grep -e NAME -e mgu -e slstm

echo "== train and translate"
"$bin/nmt-train" "$root/recipes/copy.yaml" model.encoder.cell=mgu model.decoder.cell=slstm --out runs/copy
echo "3 1 4 1 5" | "$bin/nmt-translate" runs/copy --beam 5

echo "== uninstall nmt-mgu"
pip uninstall --yes nmt-mgu
if echo "3 1 4 1 5" | "$bin/nmt-translate" runs/copy; then
    echo "translated without its cell" >&2
    exit 1
fi
echo "== all as it should be"
