# Runs while the image is built. What lies beneath /dev/imagespec reaches no layer: /dev is memory of the build.
set -eu
umask 022
tools=/dev/imagespec

# Ends the step: fail CODE TEXT
fail() {
  printf 'imagespec: %s\n' "$2" >&2
  exit "$1"
}

# Whom the image trusts, and whom the machine that builds it trusts.
authorities=
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
  if [ -s "$bundle" ]; then
    authorities=$bundle
    break
  fi
done
if [ -s $tools/authorities.pem ]; then
  { [ -z "$authorities" ] || cat "$authorities"; echo; cat $tools/authorities.pem; } > $tools/bundle.pem
  authorities=$tools/bundle.pem
fi
