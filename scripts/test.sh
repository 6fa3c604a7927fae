#!/usr/bin/env bash
# Runs test suites that are built already, all of them even if one fails, and ends with a summary:
# test.sh SUITE... [arguments for pytest]. Called by the Makefile.
set -uo pipefail
cd "$(dirname "$0")/.."

run_suite() {
  case $1 in
    cpp) ctest --test-dir build -j 2 --output-on-failure --progress ;;
    cpp-fast) ctest --test-dir build -L '^fast$' -j 2 --output-on-failure --progress ;;
    python) .venv/bin/python -m pytest -q "${arguments[@]}" ;;
    python-fast) .venv/bin/python -m pytest -q -m 'not slow' "${arguments[@]}" ;;
    sanitize) ctest --test-dir build/asan -L '^fast$' -j 2 --output-on-failure --progress ;;
  esac
}

suites=()
while [[ $# -gt 0 && $1 =~ ^(cpp|cpp-fast|python|python-fast|sanitize)$ ]]; do
  suites+=("$1")
  shift
done
arguments=("$@")

failed=0
summary=""
for suite in "${suites[@]}"; do
  echo "==> test: $suite"
  # --progress rewrites its line on a terminal; in a log each line would stay.
  if [[ -t 1 ]]; then run_suite "$suite"; else run_suite "$suite" 2>&1 | tr '\r' '\n' |
    grep -v -E '^Test [0-9]+/|^$'; fi
  if [[ ${PIPESTATUS[0]} -eq 0 ]]; then
    summary+="    $suite: passed"$'\n'
  else
    failed=1
    summary+="    $suite: FAILED (run again: scripts/test.sh $suite)"$'\n'
  fi
done
printf '==> tests: summary\n%s' "$summary"
[[ $failed -eq 0 ]] && echo "==> tests: all passed" || echo "==> tests: FAILED"
exit "$failed"
