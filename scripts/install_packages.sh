#!/usr/bin/env bash
# Installs the Debian packages of packages.txt that are missing: install_packages.sh USE...
# Calls apt only if something is missing, so the usual run needs no rights and no network.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=()
while read -r name use _; do
  [[ -z "$name" || "$name" == \#* ]] && continue
  for use_asked in "$@"; do
    [[ "$use" == "$use_asked" ]] && wanted+=("$name")
  done
done < packages.txt

if ! command -v dpkg-query > /dev/null; then
  echo "==> packages: not a Debian system; these must be there already: ${wanted[*]}" >&2
  exit 0
fi

missing=()
for name in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2> /dev/null || true)
  [[ "$status" == installed ]] || missing+=("$name")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $EUID -ne 0 ]]; then
  if ! command -v sudo > /dev/null; then
    echo "error: these Debian packages are missing, and this user is neither root nor has sudo;" \
      "have an administrator run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
  [[ -t 0 ]] || as_root=(sudo -n)
fi

mkdir -p build/logs
log=build/logs/packages.log
echo "==> packages: apt-get install ${missing[*]} (log: $log)"
run_apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" < /dev/null >> "$log" 2>&1
}
: > "$log"
# The package lists of a fresh image are empty or old: a first failure only means `update`.
if ! run_apt install --no-install-recommends "${missing[@]}"; then
  if ! { run_apt update && run_apt install --no-install-recommends "${missing[@]}"; }; then
    tail -n 20 "$log" >&2
    echo "error: apt-get could not install ${missing[*]}; the whole log is $log" >&2
    exit 1
  fi
fi
