#!/usr/bin/env bash
# Check this machine's GPUs, and print one table in at most 8 minutes. Needs PyTorch and pip.
#
#   bash benchmarks/gpu_check.sh --output gpu_check.md
#   bash benchmarks/gpu_check.sh --device cpu          # a rehearsal with small networks; the default without a GPU
#
# Missing packages are installed without changing torch. Without a network, checks that need them are skipped, and the table
# says so. The exit status is 1 if a check fails. PYTHON=/path/to/python selects the Python.
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
    echo "Installing missing packages ($missing); torch stays at $version" >&2
    timeout 300 "$python" -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 10 \
        --constraint <(echo "torch==$version") --editable '.[images]' >&2 ||
        echo 'The installation failed, see above; checks that need these packages are skipped.' >&2
fi
exec "$python" benchmarks/gpu_check.py "$@"
