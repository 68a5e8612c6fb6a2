#!/bin/sh
# make demo: train recipes/en-fr.yaml, evaluate it on compositions it never saw, translate what is typed.
set -eu
BIN=${BIN:-.venv/bin}
"$BIN/nmt-train" recipes/en-fr.yaml
echo
echo "On the test set, compositions never seen in training:"
"$BIN/nmt-evaluate" runs/en-fr
echo
if [ -t 0 ]; then
    echo "Type five English sentences (Ctrl-D ends):"
    head -n 5 | "$BIN/nmt-translate" runs/en-fr
else
    for sentence in \
        "We are looking for the station." \
        "My sister has bought a red dress." \
        "Do you want some coffee?" \
        "They did not find the keys." \
        "It is colder than yesterday."; do
        echo "> $sentence"
    done
    echo
    printf '%s\n' \
        "We are looking for the station." \
        "My sister has bought a red dress." \
        "Do you want some coffee?" \
        "They did not find the keys." \
        "It is colder than yesterday." | "$BIN/nmt-translate" runs/en-fr
fi
