#!/usr/bin/env bash
# Install the wheel and the sdist of a folder in empty environments, without extras and without a compiler, and run the
# quick start and the tests that need no extra.
#
#     uv build && scripts/release/check_packages.sh dist
#
# Further arguments are those of pytest.
set -euo pipefail
dist=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CC=false CXX=false  # whatever would be compiled fails

wheel=$(echo "$dist"/*.whl)
size=$(wc -c < "$wheel")
echo "$(basename "$wheel"): $((size / 1000000)) MB"
((size < 40000000)) || { echo "the wheel is larger than 40 MB" >&2; exit 1; }

for package in "$wheel" "$dist"/*.tar.gz; do
    uv venv -q "$work/venv" --clear
    python=$work/venv/bin/python
    uv pip install -q -p "$python" "$package"
    (
        cd "$work"
        echo "$(basename "$package"): $(uv pip list -q -p "$python" --format freeze | wc -l) packages"
        PATH=$work/venv/bin:$PATH
        charembed --version
        charembed generate --model en --prompt "The city of " --characters 80 --seed 1
        echo "George Washington went to Washington." > text.txt
        charembed tag predict en-ner text.txt
        charembed embed --model en text.txt -o vectors
        # The fastest of five starts: the others wait for the disk.
        python -c '
import subprocess, sys, time
def seconds(code):
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began
took = min(seconds("import charembed") for _ in range(5)) - min(seconds("") for _ in range(5))
print(f"import charembed: {took:.3f} s")
sys.exit(took > 0.1)'
    )
done

# The tests of the sdist, on the code that was installed from it: the folder has no package `charembed`.
uv pip install -q -p "$python" pytest pytest-xdist hypothesis uniseg nervaluate
tar -xzf "$dist"/*.tar.gz -C "$work"
cd "$work"/charembed-*/
mv charembed installed-instead
OMP_NUM_THREADS=1 PATH=$work/venv/bin:$PATH python -m pytest -q -n logical -m "not slow" "${@:2}"
