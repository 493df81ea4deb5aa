
# rattler needs a Python of its own, which is gone afterwards: the base's, else that of its apt, unpacked and not installed,
# else one that uv fetches.
is_new_enough() {
  "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null
}

find_python() {
  for name in python3 python; do
    python=$(command -v $name || :)
    if [ -n "$python" ] && is_new_enough "$python"; then
      return
    fi
  done
  python=
}

unpack_python() {
  command -v apt-get > /dev/null && command -v dpkg > /dev/null || return 0
  apt_update
  debian=$TMPDIR/debian
  mkdir -p $debian
  wanted="install --yes --no-install-recommends python3"
  # A line is: 'ADDRESS' FILE LENGTH DIGEST
  # Where no package lies, all are named that are wanted.
  files=$(apt-get $apt_options $wanted --print-uris -o Dir::Cache::archives=$TMPDIR | sed -n "s/^'[^']*' \([^ ]*\) .*/\1/p")
  apt-get $apt_options $wanted --download-only
  for file in $files; do
    dpkg -x "$tools/apt/archives/$file" $debian
  done
  for folder in $debian/usr/lib/*-linux-gnu $debian/lib/*-linux-gnu; do
    [ ! -d "$folder" ] || export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  done
  if is_new_enough $debian/usr/bin/python3; then
    python=$debian/usr/bin/python3
  fi
}

find_python
[ -n "$python" ] || unpack_python
if [ -z "$python" ]; then
  export UV_PYTHON_INSTALL_DIR=$tools/cache/pythons
  $uv python install --no-bin 3.12
  python=$($uv python find --managed-python 3.12)
fi
$uv pip install --quiet --python "$python" --target $TMPDIR/rattler --only-binary :all: --require-hashes \
  --requirements $tools/rattler.txt
PYTHONPATH=$TMPDIR/rattler "$python" -B -s $tools/conda.py
rm -rf $TMPDIR
