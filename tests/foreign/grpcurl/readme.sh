#!/usr/bin/env bash
# Runs the grpcurl commands of README.md as they are written, against a server on the default port.
#
# Every fenced block that opens with ```bash grpcurl is run, in order, in one shell: a variable that one block sets
# is there in the next. The first command that fails, an answer that does not come in time, or a README without such
# a block fails the run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
readme=${1:-$root/README.md}
script=$(mktemp)
trap 'rm -f "$script"' EXIT

[ -f "$readme" ] || { echo "$readme is not there" >&2; exit 1; }
awk '
  !inside && /^```bash grpcurl[ \t]*$/ { inside = 1; printf "block=%d\n", NR; next }
  inside && /^```[ \t]*$/ { inside = 0; blocks++; printf "passed=$((passed + 1)); echo \"ok README.md:$block\"\n"; next }
  inside { print }
  END { if (inside) { print FILENAME ": the last block is not closed" >"/dev/stderr"; exit 1 } }
' "$readme" >"$script"

blocks=$(grep -c '^passed=' "$script" || true)
if [ "$blocks" -eq 0 ]; then
  echo "$readme has no block that opens with \`\`\`bash grpcurl" >&2
  exit 1
fi

prologue='set -euo pipefail; passed=0; block=0
trap '\''code=$?; [ $code -eq 0 ] || echo "not ok README.md:$block (exit code $code)"
echo "$passed passed, $(('"$blocks"' - passed)) failed"'\'' EXIT
'
place=$(mktemp -d)
trap 'rm -rf "$script" "$place"' EXIT
cd "$place"
timeout 120 bash -c "$prologue$(cat "$script")" </dev/null | tee answers
# On an open stream a refused command is an event, and the exit code of grpcurl says nothing of it.
if grep -q '^  "error": {' answers; then
  echo "the server has refused a command of README.md:" >&2
  grep -A 6 '^  "error": {' answers >&2
  exit 1
fi
