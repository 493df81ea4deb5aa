
# Arguments up to `--`: where the secrets of this step go. Files lie there for as long as it runs.
placed=
newline='
'
remove_placed() {
  code=$?
  printf '%s' "$placed" | while IFS= read -r folder && IFS= read -r below; do
    cd "$folder"
    rm -f "$below"
    case $below in */*) rmdir -p "${below%/*}" 2> /dev/null || : ;; esac
  done
  exit $code
}
place() {
  if [ -e "$2" ] || [ -L "$2" ]; then
    printf 'imagespec: secret `%s` is to lie at `%s`, where the image has something\n' "${1##*/}" "$2" >&2
    exit 95
  fi
  folder=${2%/*} below=${2##*/}
  while [ -n "$folder" ] && [ ! -d "$folder" ]; do
    below=${folder##*/}/$below folder=${folder%/*}
  done
  placed="$placed${folder:-/}$newline$below$newline"
  mkdir -p "${2%/*}/"
  ln -s "$1" "$2"
}
trap remove_placed EXIT
while [ "$1" != -- ]; do
  secret=/dev/imagespec/secrets/$2
  case $1 in
    --file) place "$secret" "$3" ;;
    --netrc) export NETRC="$secret" ;;
    --variable)
      value=$(cat "$secret")
      export "$3=${value%"$(printf '\r')"}"
      ;;
  esac
  shift 3
done
shift
