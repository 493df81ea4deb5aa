
# What the base says to uv and Python is for its own programs.
for name in $(env | sed -n 's/^\(UV_[A-Z0-9_]*\)=.*/\1/p'); do
  unset "$name"
done
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV
uv=$tools/uv
[ -e $uv ] || uv=$uv-$(uname -m)
[ -e $uv ] || fail 94 "there is no uv for the processor $(uname -m)"
export HOME=$tools/home LANG=C.UTF-8 LC_ALL=C.UTF-8 TZ=UTC NO_COLOR=1 PYTHONHASHSEED=0
export UV_CACHE_DIR=$tools/cache/uv UV_PYTHON_CACHE_DIR=$tools/cache/python UV_LINK_MODE=copy
export UV_NO_CONFIG=1 UV_NO_PROGRESS=1
# Where there is no network, nobody waits for one: no address but that of this machine.
if [ -r /proc/net/route ] && [ "$(wc -l < /proc/net/route)" -le 1 ] && ! grep -qv ' lo$' /proc/net/if_inet6 2> /dev/null; then
  export UV_OFFLINE=1
fi
# Compilers and build backends write more than fits into memory.
export TMPDIR=$tools/cache/tmp
rm -rf $TMPDIR
mkdir -p $TMPDIR $HOME
if [ -n "$authorities" ]; then
  export SSL_CERT_FILE=$authorities GIT_SSL_CAINFO=$authorities
fi
# How the machine that builds reaches the network.
[ ! -r $tools/variables.sh ] || . $tools/variables.sh
