# Runs on the image so far. Arguments: lines for sha256sum, of the files to install; the packages that nobody asked for by name.
umask 022
command -v apt-get >/dev/null && command -v dpkg >/dev/null || exit 90
sums="$1"
shift
[ -r /etc/shadow ] && cp /etc/shadow /run/shadow.before || : > /run/shadow.before
# Everything may be there already. Then apt has nothing to do but to note who asked for what.
[ -z "$sums" ] || printf '%s\n' "$sums" | sha256sum --check --quiet --strict
automatic="$(apt-mark showauto)"
for name in "$@"; do
  dpkg-query -W -f '${Status}\n' "$name" 2>/dev/null | grep -q ' installed$' || automatic="$automatic $name"
done
options="-qq -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0"
[ -z "$sums" ] || apt-get $options install --yes --no-install-recommends --allow-downgrades \
  -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io -- $(printf '%s\n' "$sums" | cut -c 67-)
[ -z "$automatic" ] || apt-mark $options auto $automatic >/dev/null
# The day on which a user was made differs from run to run.
if [ -e /etc/shadow ] && ! cmp -s /etc/shadow /run/shadow.before; then
  awk -F: -v OFS=: -v day=$((SOURCE_DATE_EPOCH / 86400)) \
    'NR == FNR { old[$0] = 1; next } !($0 in old) && $3 != "" { $3 = day } { print }' /run/shadow.before /etc/shadow > /run/shadow.after
  cat /run/shadow.after > /etc/shadow
fi
