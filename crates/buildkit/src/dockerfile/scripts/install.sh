
# Arguments: packages as apt-get takes them.
command -v apt-get > /dev/null && command -v dpkg > /dev/null ||
  fail 90 'the base has no apt-get: `apt_packages` needs a Debian or an Ubuntu'
apt_update
apt_install "$@"
