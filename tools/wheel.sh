#!/usr/bin/env bash
# Install the wheel alone into an empty environment, outside the checkout, and use it: signals
# and compress work, what needs a checkout or an extra says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH
python=$PWD/.venv/bin/python
lock=$PWD/requirements.lock
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

rm -rf build/lib  # of an earlier build: modules that were renamed since would come along
"$python" -m pip wheel --quiet --no-deps --no-build-isolation -w "$folder" .
"$python" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --constraint "$lock" "$folder"/*.whl
PYTHONPATH=tests "$python" - "$folder" << 'END'
import sys
from pathlib import Path

import pandas as pd
import tiny

folder = Path(sys.argv[1])
tiny.write_model(folder / "model", layers=3)
texts, labels = tiny.sentences(60, 3, seed=5)
data = pd.DataFrame({"text": texts, "label": [f"class {label}" for label in labels]})
data.to_csv(folder / "data.csv", index=False)
END

mkdir -p "$folder/work/notebooks" "$folder/work/sfusion"
cd "$folder/work"
sfusion=$folder/env/bin/sfusion
refused() {  # WORDS COMMAND...: the command must end with 2 and one line that holds the words
	local words=$1 said code=0
	shift
	said=$("$@" 2>&1 > /dev/null) || code=$?
	test "$code" = 2 && grep -q "^error: .*$words" <<< "$said" && test "$(wc -l <<< "$said")" = 1
}
"$sfusion" --help > /dev/null
"$folder/env/bin/python" -m sfusion --help > /dev/null  # beside a folder of that name
test "$("$sfusion" signals --model ../model --data ../data.csv | wc -l)" = 4
"$sfusion" compress --model ../model --train ../data.csv --keep 2 --no-distill --out smaller
test -s smaller/model.safetensors
refused "reproduce needs a checkout" "$sfusion" reproduce
refused "replay needs a checkout" "$sfusion" replay
refused "sfusion\[onnx\]" "$sfusion" compress --model ../model --train ../data.csv --out x --onnx
test -z "$(ls notebooks)"
"$folder/env/bin/python" -c "import sfusion as sf; [getattr(sf, name) for name in sf.__all__]"
echo "the wheel works in an empty environment"
