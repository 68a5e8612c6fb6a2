#!/bin/sh
# make demo: train recipes/en-fr.yaml, evaluate it on compositions it never saw, translate what is typed.
set -eu
BIN=${BIN:-.venv/bin}
"$BIN/nmt-train" recipes/en-fr.yaml
echo
echo "On the test set, whose compositions were never seen in training:"
"$BIN/nmt-evaluate" runs/en-fr
echo
if [ -t 0 ]; then
    echo "Type five English sentences, a line each:"
    head -n 5 | "$BIN/nmt-translate" runs/en-fr
else
    sentences=$(mktemp)
    trap 'rm -f "$sentences"' EXIT
    cat > "$sentences" <<'LINES'
We are looking for the station.
My sister bought a red dress.
Do you want some coffee?
They did not find the keys.
The doctor who lives in Paris is kind.
LINES
    "$BIN/nmt-translate" runs/en-fr --input "$sentences" | paste "$sentences" -
fi
