# Runs on the image so far. Arguments: packages as apt-get takes them. Prints what would be fetched to install them.
command -v apt-get >/dev/null && command -v dpkg >/dev/null || exit 90
options="-qq -o APT::Sandbox::User=root -o Acquire::Retries=3"
[ -e /run/imagespec/offline ] || apt-get $options update
mkdir -p /run/imagespec/none/partial
# What was fetched already would not be printed.
apt-get $options install --yes --no-install-recommends --print-uris -o Acquire::ForceHash=SHA256 \
  -o Dir::Cache::archives=/run/imagespec/none -- "$@"
