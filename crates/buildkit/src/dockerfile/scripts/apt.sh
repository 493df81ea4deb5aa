
# The lists and packages of apt lie in caches, so that no layer holds them.
apt_options="-qq -o APT::Sandbox::User=root -o Acquire::Retries=3 -o Dpkg::Use-Pty=0
  -o APT::Keep-Downloaded-Packages=true -o Binary::apt-get::APT::Keep-Downloaded-Packages=true
  -o Dir::State::lists=$tools/apt/lists -o Dir::Cache::archives=$tools/apt/archives
  -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="
if [ -s $tools/authorities.pem ]; then
  apt_options="$apt_options -o Acquire::https::CAInfo=$authorities"
fi

apt_update() {
  apt-get $apt_options "$@" update
}

# Installs packages, named as apt-get takes them, and removes what says when, how often or where that was done.
apt_install() (
  unset LD_LIBRARY_PATH LD_PRELOAD PYTHONHOME PYTHONPATH
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
  export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true PERL_HASH_SEED=0 PYTHONHASHSEED=0
  [ -r /etc/shadow ] && cp /etc/shadow $tools/shadow.before || : > $tools/shadow.before
  [ -e /etc/machine-id ] && had_id=yes || had_id=
  # Keeps services from being started (Debian's invoke-rc.d).
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 0755 $policy
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  apt-get $apt_options install --yes --no-install-recommends \
    -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io -- "$@"
  # The day on which a user was made differs from run to run.
  if [ -e /etc/shadow ] && ! cmp -s /etc/shadow $tools/shadow.before; then
    awk -F: -v OFS=: -v day=$((SOURCE_DATE_EPOCH / 86400)) \
      'NR == FNR { old[$0] = 1; next } !($0 in old) && $3 != "" { $3 = day } { print }' \
      $tools/shadow.before /etc/shadow > $tools/shadow.after
    cat $tools/shadow.after > /etc/shadow
  fi
  cd /
  [ -n "$had_id" ] || rm -f etc/machine-id var/lib/dbus/machine-id
  rm -f etc/.pwd.lock etc/group- etc/gshadow- etc/passwd- etc/shadow- etc/subgid- etc/subuid- \
    var/cache/apt/pkgcache.bin var/cache/apt/srcpkgcache.bin \
    var/cache/debconf/config.dat-old var/cache/debconf/passwords.dat-old var/cache/debconf/templates.dat-old \
    var/cache/ldconfig/aux-cache var/lib/dpkg/diversions-old var/lib/dpkg/lock var/lib/dpkg/lock-frontend \
    var/lib/dpkg/statoverride-old var/lib/dpkg/status-old var/lib/dpkg/triggers/Lock var/lib/systemd/random-seed \
    var/log/alternatives.log var/log/apt/* var/log/dpkg.log var/log/fontconfig.log
  rm -rf var/cache/fontconfig/* var/cache/man/*
)
