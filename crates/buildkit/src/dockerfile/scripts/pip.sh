
# Arguments: what is installed, and further arguments of uv.
form=$1
shift
export UV_PYTHON_DOWNLOADS=never UV_NO_MANAGED_PYTHON=1 UV_PREVIEW_FEATURES=pylock SOURCE_DATE_EPOCH=315532800 PIP_NO_INPUT=1
export GIT_ALLOW_PROTOCOL=https:http:ssh:git:file GIT_LFS_SKIP_SMUDGE=1 GIT_TERMINAL_PROMPT=0
export GIT_SSH_COMMAND='ssh -o BatchMode=yes'
# Modules are compared with their bytecode by content, so that times do not matter.
export PYC_INVALIDATION_MODE=CHECKED_HASH
if [ -n "${NETRC:-}" ]; then
  ln -s "$NETRC" $HOME/.netrc
fi
if [ -d /opt/venv/conda-meta ]; then
  # What conda installed is neither installed again nor in another version.
  /opt/venv/bin/python -I -c '
import importlib.metadata, re
for distribution in importlib.metadata.distributions():
    name, version, installer = distribution.metadata["Name"], distribution.version, distribution.read_text("INSTALLER")
    if name and (installer or "").strip() == "conda" and re.fullmatch(r"[0-9][A-Za-z0-9.!+]*", version or ""):
        print(name + "==" + version)
' > $tools/conda.txt
  [ ! -s $tools/conda.txt ] || set -- "$@" --constraints $tools/conda.txt
fi
case $form in
  requirements)
    [ ! -e $tools/constraints.txt ] || set -- --constraints $tools/constraints.txt "$@"
    set -- --requirements $tools/requirements.txt "$@"
    ;;
  pylock) set -- --requirements $tools/pylock.toml "$@" ;;
  uv-lock)
    $uv export --quiet --directory $tools/project --python /opt/venv/bin/python --frozen --no-emit-project --no-dev \
      --no-header --no-annotate --format pylock.toml --output-file $tools/pylock.toml > /dev/null
    set -- --requirements $tools/pylock.toml "$@"
    ;;
esac
# Conda's Python may say that it is managed by conda alone.
$uv pip install --python /opt/venv/bin/python --break-system-packages --compile-bytecode "$@"
rm -rf /opt/venv/.lock $TMPDIR
