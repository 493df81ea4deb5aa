
# Arguments: the version that is wanted or nothing, the path of the interpreter that is wanted or nothing.
wanted=$1 executable=$2 found= path= others=

# Whether a program is a Python of the wanted version. Its version and true path are then `found` and `path`.
is_python() {
  said=$("$1" -I -c 'import os, sys; print("%d.%d.%d" % sys.version_info[:3], os.path.realpath(sys.executable))' 2> /dev/null) ||
    return 1
  found=${said%% *} path=${said#* }
  case $wanted in
    '' | "$found" | "${found%.*}") return 0 ;;
  esac
  case " $others " in
    *" $found "*) ;;
    *) others="${others:+$others }$found" ;;
  esac
  return 1
}

find_python() {
  names= others= minor=30
  if [ -n "$wanted" ]; then
    names=${wanted#*.}
    names=python3.${names%%.*}
  fi
  names="$names python3 python"
  while [ $minor -ge 6 ]; do
    names="$names python3.$minor"
    minor=$((minor - 1))
  done
  for name in $names; do
    IFS=:
    for folder in $PATH; do
      unset IFS
      case $folder in /*) [ ! -x "$folder/$name" ] || ! is_python "$folder/$name" || return 0 ;; esac
    done
    unset IFS
  done
  return 1
}

# Debian's package of it, if it has one.
install_by_apt() {
  command -v apt-get > /dev/null && command -v dpkg > /dev/null || return 0
  package=python3
  if [ -n "$wanted" ]; then
    package=${wanted#*.}
    package=python3.${package%%.*}
  fi
  apt_update -o APT::Update::Error-Mode=any
  if [ -n "$(apt-cache $apt_options madison "$package")" ]; then
    apt_install "$package"
  fi
}

# A build of python-build-standalone at /opt/python/cpython-VERSION.
install_by_uv() {
  known=$($uv python list --only-downloads "$wanted" 2> /dev/null) || known=unknown
  if [ -z "$known" ]; then
    known=$($uv python list --only-downloads | sed -n 's/^cpython-\(3\.[0-9]*\)\.[0-9]*-.*/\1/p' | sort -u -t . -k 2 -n | tr '\n' ' ')
    fail 93 "there is no Python $wanted: the base has ${others:-none}, and uv brings ${known% }"
  fi
  export UV_PYTHON_INSTALL_DIR=/opt/python
  $uv python install --no-bin "$wanted"
  is_python "$($uv python find --managed-python "$wanted")" ||
    fail 93 "the build of Python $wanted does not run on the base"
  from=${path%/bin/*} to=/opt/python/cpython-$found
  mv "$from" "$to"
  # uv wrote down where it lay.
  grep -rlIF "$from" "$to/bin" "$to"/lib/python3.*/_sysconfigdata* "$to"/lib/python3.*/config-* "$to/lib/pkgconfig" 2> /dev/null |
    while IFS= read -r file; do
      sed -i "s|$from|$to|g" "$file"
    done
  find /opt/python -mindepth 1 -maxdepth 1 ! -path "$to" -exec rm -rf {} +
  path=$to/bin/${path##*/}
  "$path" -I -m compileall -q --invalidation-mode checked-hash "$to/lib" > /dev/null || :
}

if [ -n "$executable" ]; then
  if ! is_python "$executable"; then
    [ -z "$found" ] || fail 93 "the base has Python $found, and \`python_version\` asks for $wanted"
    fail 92 "the base has no Python at \`$executable\`"
  fi
elif ! find_python; then
  install_by_apt
  if ! find_python; then
    [ -n "$wanted" ] || fail 91 'no Python was found in the base'
    install_by_uv
  fi
fi
# The base's environment may be that of conda, or one like this.
case $path in /opt/venv/*) exit 0 ;; esac
if [ -e /opt/venv/pyvenv.cfg ] && [ "$(readlink -f /opt/venv/bin/python)" = "$path" ]; then
  exit 0
fi
$uv venv --quiet --allow-existing --system-site-packages --python "$path" /opt/venv
# PATH does what these do.
rm -f /opt/venv/bin/activate* /opt/venv/bin/*.bat /opt/venv/CACHEDIR.TAG /opt/venv/.gitignore /opt/venv/.lock
# Another uv would make the same of it.
sed -i '/^uv = /d' /opt/venv/pyvenv.cfg
rm -rf $TMPDIR
