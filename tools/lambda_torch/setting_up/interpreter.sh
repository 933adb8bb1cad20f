#!/usr/bin/env bash
# interpreter.sh NAME COMMAND: print the Python that NAME means, 3.11 or later, or say why there is none. COMMAND is the one that
# needs it, for the message.
set -uo pipefail
name=$1 command=$2

is_recent() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

found=""
if is_recent "$name"; then
  found=$name
else
  # pyenv puts a `python3.13` on PATH that only runs where this version is chosen; the Python itself is here.
  for each in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/*/bin/"$name"; do
    if is_recent "$each"; then found=$each; fi
  done
fi
if [[ -n $found ]]; then
  echo "$found"
  exit
fi
if version=$("$name" --version 2>&1); then
  echo "lambda-torch needs Python 3.11 or later, and $name is $version. Next: $command PYTHON=python3.13" >&2
else
  echo "There is no $name that runs here. Next: install it (Debian: apt-get install python3.13-venv; or pyenv), or name" \
    "another: $command PYTHON=PATH" >&2
fi
exit 1
