# Runs inside the new tree. Arguments: PACKAGE/FILE of each package that has a script for before its unpacking.
umask 022
# Scripts of other packages look for users and for awk before the packages that bring them are configured.
for name in passwd group; do
  [ -e "/etc/$name" ] || cp "/usr/share/base-passwd/$name.master" "/etc/$name"
done
[ -e /usr/bin/awk ] || ln -s mawk /usr/bin/awk
ldconfig
# There is no init to be restarted here, for which libc6 would wait a second.
mkdir -p /run/imagespec
printf '#!/bin/sh\nexit 0\n' > /run/imagespec/ischroot
chmod 755 /run/imagespec/ischroot
PATH="/run/imagespec:$PATH"
for argument in "$@"; do
  DPKG_MAINTSCRIPT_PACKAGE="${argument%%/*}" DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_ARCH="$(dpkg --print-architecture)" \
    DPKG_ROOT= DPKG_ADMINDIR=/var/lib/dpkg "/var/lib/dpkg/info/${argument#*/}.preinst" install
done
dpkg --force-unsafe-io --force-confold --configure -a
ldconfig
# Pythons before 3.11 write sets in an order of chance, and Debian's scripts compile with `-E`, which ignores PYTHONHASHSEED.
for python in /usr/bin/python3.[0-9]; do
  [ -x "$python" ] || continue
  find /usr -name '*.cpython-3[0-9].pyc' | LC_ALL=C sort | "$python" -c 'if True:
    import os, py_compile, sys
    for line in sys.stdin:
      compiled = line.rstrip("\n")
      folder, name = os.path.split(compiled)
      source = os.path.join(os.path.dirname(folder), name.rsplit(".", 2)[0] + ".py")
      py_compile.compile(source, compiled, doraise=True)'
done
# What differs from run to run, or is of no use in an image.
if [ -e /etc/shadow ]; then
  sed -i "s/^\([^:]*:[^:]*:\)[0-9][0-9]*:/\1$((SOURCE_DATE_EPOCH / 86400)):/" /etc/shadow
fi
: > /etc/machine-id
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/.pwd.lock /etc/hostname /etc/resolv.conf
rm -f /var/lib/dpkg/*-old /var/lib/dpkg/lock* /var/lib/dpkg/triggers/Lock /var/cache/debconf/*-old /var/lib/systemd/random-seed
rm -rf /var/cache/ldconfig/aux-cache /var/cache/apt/*.bin /var/lib/apt/lists/* /tmp/* /var/tmp/* /run/*
find /var/log -type f -delete
