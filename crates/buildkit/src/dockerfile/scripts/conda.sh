
# rattler runs in an environment that is gone afterwards, by the base's Python if that is new enough.
export UV_PYTHON_INSTALL_DIR=$tools/cache/pythons UV_PYTHON_PREFERENCE=system
$uv venv --quiet --python '>=3.10' $TMPDIR/rattler
$uv pip install --quiet --python $TMPDIR/rattler/bin/python --only-binary :all: --require-hashes --requirements $tools/rattler.txt
$TMPDIR/rattler/bin/python -I $tools/conda.py
rm -rf $TMPDIR
