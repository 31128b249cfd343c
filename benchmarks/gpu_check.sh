#!/usr/bin/env bash
# Whether everything holds on this machine's GPUs: one table in at most 8 minutes, on a machine that has PyTorch and pip.
#
#   bash benchmarks/gpu_check.sh --output gpu_check.md
#   bash benchmarks/gpu_check.sh --device cpu          # a rehearsal with small networks; the default where no GPU is
#
# What is missing is installed, with the torch that is there; without a network, what needs it is left out, and the table
# says so. Exit status 1 if anything fails. PYTHON=/path/to/python chooses the Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if ! version=$("$python" -c 'import torch; print(torch.__version__)' 2>/dev/null); then
    echo "$python has no torch; install it (https://pytorch.org), or name another Python: PYTHON=/path/to/python" >&2
    exit 2
fi
missing=$("$python" benchmarks/gpu_check.py --list-missing)
if [ -n "$missing" ]; then
    echo "Installing what is missing ($missing), with torch $version as it is" >&2
    timeout 300 "$python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 10 \
        --constraint <(echo "torch==$version") --editable '.[images]' >&2 ||
        echo 'That failed, see above; checks that need it are left out.' >&2
fi
exec "$python" benchmarks/gpu_check.py "$@"
