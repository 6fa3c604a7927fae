#!/usr/bin/env bash
# Runs test suites that are built already, all of them even if one fails, and ends with a summary:
# test.sh SUITE... [arguments for pytest]. Called by the Makefile.
set -uo pipefail
cd "$(dirname "$0")/.."

run_ctest() {
  local folder=$1
  shift
  if [[ -t 1 ]]; then
    ctest --test-dir "$folder" -j 2 --no-tests=error --output-on-failure --progress "$@"
  else
    # A log keeps failures and the summary, not a line for each test that passed.
    ctest --test-dir "$folder" -j 2 --no-tests=error --output-on-failure "$@" |
      grep -v -E '^ *Start +[0-9]+:|\.\.\. +Passed +[0-9.]+ sec$|^Internal ctest|^$'
    return "${PIPESTATUS[0]}"
  fi
}

run_suite() {
  case $1 in
    cpp) run_ctest build ;;
    cpp-fast) run_ctest build -L '^fast$' ;;
    python) .venv/bin/python -m pytest -q "${arguments[@]}" ;;
    python-fast) .venv/bin/python -m pytest -q -m 'not slow' "${arguments[@]}" ;;
    sanitize) run_ctest build/asan -L '^fast$' ;;
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
  if run_suite "$suite"; then
    summary+="    $suite: passed"$'\n'
  else
    failed=1
    summary+="    $suite: FAILED (run again: scripts/test.sh $suite)"$'\n'
  fi
done
printf '==> tests: summary\n%s' "$summary"
[[ $failed -eq 0 ]] && echo "==> tests: all passed" || echo "==> tests: FAILED"
exit "$failed"
