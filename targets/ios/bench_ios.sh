#!/bin/sh
# Time ExecuTorch programs on an iPhone, a simulator or this Mac, and write one JSON result.
#
#   bench_ios.sh [-d DESTINATION] [-m TEAM_ID] [-n ROUNDS] [-p PROCESSES] [-k KIT_DIR]
#                [-o result.json] PROGRAM.pte...
#
#   -d  as xcodebuild takes it: 'platform=iOS,id=...' (`xcrun xctrace list devices` tells the id);
#       by default this Mac
#   -m  the team that signs the app for a phone
#
# It takes a Mac with Xcode 16. README.md beside this file tells what has been run.
set -eu

die() {
  echo "bench_ios.sh: $*" >&2
  exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
destination='platform=macOS'
team=
rounds=20
processes=3
kit=
out=result.json
while getopts d:m:n:p:k:o: option; do
  case $option in
  d) destination=$OPTARG ;;
  m) team=$OPTARG ;;
  n) rounds=$OPTARG ;;
  p) processes=$OPTARG ;;
  k) kit=$OPTARG ;;
  o) out=$OPTARG ;;
  *) die "see the head of this file for its options" ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || die "no program given"
for number in "$rounds" "$processes"; do
  case $number in '' | *[!0-9]*) die "$number is not a whole number" ;; esac
done
command -v xcodebuild >/dev/null || die "xcodebuild is not here: this takes a Mac with Xcode"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
resources=$here/Tests/EdgepruneBenchTests/Programs
rm -f "$resources"/*.pte
for program in "$@"; do
  [ -f "$program" ] || die "no such program: $program"
  cp "$program" "$resources/"
done

run() { # one process: a run of the test, whose log tells the result
  set -- test -destination "$destination" -derivedDataPath "$scratch/derived"
  case $destination in
  *platform=iOS,*)
    # On a phone, tests run inside of an app; packages have none.
    set -- "$@" -project "$here/Host/Host.xcodeproj" -scheme HostTests -allowProvisioningUpdates
    [ -z "$team" ] || set -- "$@" "DEVELOPMENT_TEAM=$team"
    (cd "$here" && env TEST_RUNNER_ROUNDS="$rounds" TEST_RUNNER_EXECUTORCH="$(version)" \
      xcodebuild "$@")
    ;;
  *)
    (cd "$here" && env TEST_RUNNER_ROUNDS="$rounds" TEST_RUNNER_EXECUTORCH="$(version)" \
      xcodebuild "$@" -scheme EdgepruneBench -configuration Release ENABLE_TESTABILITY=YES)
    ;;
  esac
}

version() {
  sed -n 's/.*"swiftpm-\(.*\)".*/\1/p' "$here/Package.swift"
}

said() { # MARK LOG: the last line of it that the test printed, decoded
  sed -n "s/.*$1 \([A-Za-z0-9+\/=]*\).*/\1/p" "$2" | tail -n 1 | base64 -d
}

process=0
comma=
: >"$scratch/processes"
while [ "$process" -lt "$processes" ]; do
  echo "process $((process + 1)) of $processes" >&2
  run >"$scratch/log" 2>&1 || die "the test failed: $(tail -n 5 "$scratch/log")"
  grep -q EDGEPRUNE-HEAD "$scratch/log" || die "the test told nothing; see its log in Xcode"
  printf %s "$comma" >>"$scratch/processes"
  said EDGEPRUNE-PROCESS "$scratch/log" >>"$scratch/processes"
  comma=', '
  process=$((process + 1))
done

{
  said EDGEPRUNE-HEAD "$scratch/log" | sed 's/}$//'
  printf ', "processes": ['
  cat "$scratch/processes"
  printf '], "kit": '
  if [ -n "$kit" ] && [ -f "$kit/kit.json" ]; then tr -d '\r\n' <"$kit/kit.json"; else printf null; fi
  printf '}\n'
} >"$out"
echo "wrote $out" >&2
