#!/bin/sh
# Build the app, put programs into it, run it on a phone, and fetch its result.
#
#   bench_app.sh [-s SERIAL] [-t THREADS] [-n ROUNDS] [-p PROCESSES] [-k KIT_DIR] [-o result.json]
#                PROGRAM.pte...
#
# Each program needs its manifest (PROGRAM.pte.json) beside it. It takes a JDK 17, the Android SDK
# (ANDROID_HOME) and Gradle, or a ./gradlew beside this script. README.md tells what has been run.
set -eu

die() {
  echo "bench_app.sh: $*" >&2
  exit 2
}

app=$(cd "$(dirname "$0")" && pwd)
threads=1
rounds=20
processes=3
kit=
out=result.json
while getopts s:t:n:p:k:o: option; do
  case $option in
  s) export ANDROID_SERIAL="$OPTARG" ;;
  t) threads=$OPTARG ;;
  n) rounds=$OPTARG ;;
  p) processes=$OPTARG ;;
  k) kit=$OPTARG ;;
  o) out=$OPTARG ;;
  *) die "see the head of this file for its options" ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || die "no program given"
for number in "$threads" "$rounds" "$processes"; do
  case $number in '' | *[!0-9]*) die "$number is not a whole number" ;; esac
done
command -v adb >/dev/null || die "adb is not installed (Android's platform-tools)"
gradle=$app/gradlew
[ -x "$gradle" ] || gradle=$(command -v gradle) || die "gradle is not installed"

assets=$app/src/androidTest/assets
rm -rf "$assets"
mkdir -p "$assets/programs"
for program in "$@"; do
  [ -f "$program" ] || die "no such program: $program"
  [ -f "$program.json" ] || die "$program has no manifest beside it: lower it with edgeprune"
  cp "$program" "$program.json" "$assets/programs/"
done
if [ -n "$kit" ] && [ -f "$kit/kit.json" ]; then cp "$kit/kit.json" "$assets/"; fi

(cd "$app" && "$gradle" installDebug installDebugAndroidTest) >&2
package=dev.edgeprune.bench
trap 'adb uninstall $package.test >/dev/null 2>&1; adb uninstall $package >/dev/null 2>&1' EXIT
process=0
while [ "$process" -lt "$processes" ]; do
  echo "process $((process + 1)) of $processes" >&2
  said=$(adb shell am instrument -w -r -e process "$process" -e threads "$threads" \
    -e rounds "$rounds" "$package.test/androidx.test.runner.AndroidJUnitRunner" </dev/null)
  case $said in
  *'OK (1 test)'*) ;;
  *) die "the test failed: $said" ;;
  esac
  process=$((process + 1))
done
adb exec-out run-as "$package" cat files/result.json >"$out"
echo "wrote $out" >&2
