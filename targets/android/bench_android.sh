#!/bin/sh
# Time ExecuTorch programs on an Android device over adb, and write one JSON result.
#
#   bench_android.sh [-s SERIAL] [-r RUNNER_DIR] [-t THREADS] [-c CPUS] [-n ROUNDS] [-p PROCESSES]
#                    [-w MINUTES] [-d FOLDER] [-k KIT_DIR] [-o result.json] PROGRAM.pte...
#
#   -r  folder with edgeprune_runner (and its libraries) or the SDK's executor_runner, built for
#       the device by the NDK; by default the folder of this script
#   -c  processors to run on, as in 4,5,6,7 (edgeprune_runner pins itself, executor_runner by taskset)
#   -w  how long to wait for the device to cool, at most (10 minutes)
#   -d  folder on the device that is ours while this runs, removed afterwards
#   -k  folder of a kit: its kernels are traced, and its inputs are run through every program
#       (by edgeprune_runner; executor_runner only times)
#
# The screen is switched on and kept on, and put back as it was. Battery, screen, thermal status and
# core affinity before and after are in the result. README.md beside this file tells the rest.
set -eu

die() {
  echo "bench_android.sh: $*" >&2
  exit 2
}

serial=
runners=$(dirname "$0")
threads=1
cpus=
rounds=20
processes=3
cool_minutes=10
kit=
out=result.json
folder=/data/local/tmp/edgeprune-bench
while getopts s:r:t:c:n:p:w:d:k:o: option; do
  case $option in
  s) serial=$OPTARG ;;
  r) runners=$OPTARG ;;
  t) threads=$OPTARG ;;
  c) cpus=$OPTARG ;;
  n) rounds=$OPTARG ;;
  p) processes=$OPTARG ;;
  w) cool_minutes=$OPTARG ;;
  d) folder=$OPTARG ;;
  k) kit=$OPTARG ;;
  o) out=$OPTARG ;;
  *) die "see the head of this file for its options" ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || [ -d "$kit/kernels" ] || die "no program given"
for number in "$threads" "$rounds" "$processes" "$cool_minutes"; do
  case $number in '' | *[!0-9]*) die "$number is not a whole number" ;; esac
done
case $cpus in *[!0-9,]*) die "-c takes numbers with commas, as in 4,5" ;; esac
command -v adb >/dev/null || die "adb is not installed (Android's platform-tools)"
if [ -x "$runners/edgeprune_runner" ]; then
  kind=edgeprune_runner
elif [ -x "$runners/executor_runner" ]; then
  kind=executor_runner
else
  die "$runners has neither edgeprune_runner nor executor_runner; see README.md"
fi

device() {
  if [ -n "$serial" ]; then adb -s "$serial" "$@"; else adb "$@"; fi
}

# Words for the device's shell, quoted one by one.
quoted() {
  for word in "$@"; do
    printf "'%s' " "$(printf %s "$word" | sed "s/'/'\\\\''/g")"
  done
}

on_device() {
  device shell -T -n "$(quoted "$@")" </dev/null
}

json_text() {
  printf '"%s"' "$(printf %s "$1" | tr -d '\r' | sed 's/\\/\\\\/g; s/"/\\"/g' | tr '\n' ' ')"
}

# --- the state of the device ---------------------------------------------------------------------

field() { # FIELD COMMAND...: the value after "FIELD:" or "FIELD=" in what a command says
  name=$1
  shift
  on_device "$@" 2>/dev/null | tr -d '\r' | sed -n "s/^ *${name}[:=] *//p" | head -n 1
}

thermal_status() {
  field 'Thermal Status' dumpsys thermalservice
}

screen() {
  on_device dumpsys power 2>/dev/null | tr -d '\r' | sed -n 's/.*mWakefulness=//p' | head -n 1
}

state() { # one JSON object
  printf '{"thermal_status": %s, ' "$(number_or_null "$(thermal_status)")"
  printf '"battery_percent": %s, ' "$(number_or_null "$(field level dumpsys battery)")"
  printf '"battery_tenths_c": %s, ' "$(number_or_null "$(field temperature dumpsys battery)")"
  printf '"charging": %s, ' "$(json_text "$(field 'USB powered' dumpsys battery)")"
  printf '"power_save": %s, ' "$(json_text "$(on_device settings get global low_power 2>/dev/null || true)")"
  printf '"screen": %s}' "$(json_text "$(screen)")"
}

number_or_null() {
  case $1 in '' | *[!0-9-]*) printf null ;; *) printf %s "$1" ;; esac
}

cool() {
  waited=0
  while status=$(thermal_status) && [ "$(number_or_null "$status")" != null ] && [ "$status" -gt 0 ]; do
    [ "$waited" -lt $((cool_minutes * 60)) ] || break
    echo "thermal status $status: waiting for the device to cool" >&2
    sleep 5
    waited=$((waited + 5))
  done
}

# --- the runs ------------------------------------------------------------------------------------

device get-state >/dev/null || die "no device is ready: see \`adb devices\`"
stay_on=$(on_device settings get global stay_on_while_plugged_in 2>/dev/null | tr -d '\r' || true)
restore() {
  case $stay_on in
  '' | null | *[!0-9]*) ;;
  *) on_device settings put global stay_on_while_plugged_in "$stay_on" >/dev/null 2>&1 || true ;;
  esac
  on_device rm -rf "$folder" || true
  rm -rf "$scratch"
}
scratch=$(mktemp -d)
trap restore EXIT
trap 'exit 130' INT TERM

on_device settings put global stay_on_while_plugged_in 7 >/dev/null 2>&1 || true
on_device input keyevent KEYCODE_WAKEUP >/dev/null 2>&1 || true
on_device mkdir -p "$folder"
for file in "$runners"/*; do
  [ -f "$file" ] || continue
  case $file in *.sh | *.md) continue ;; esac
  device push "$file" "$folder/" >/dev/null
done
on_device chmod 755 "$folder/$kind"
count=0
for program in "$@"; do
  [ -f "$program" ] || die "no such program: $program"
  device push "$program" "$folder/$count.pte" >/dev/null
  count=$((count + 1))
done

ours() { # NAME TASK ARGUMENTS...: one process of the runner; its answer in a file of that name
  name=$1
  task=$2
  shift 2
  [ -z "$cpus" ] || set -- --cpus "$cpus" "$@"
  on_device "$folder/edgeprune_runner" "$task" --threads "$threads" "$@" \
    2>"$scratch/log" >"$scratch/$name" ||
    die "the runner failed: $(tail -n 1 "$scratch/log") $(cat "$scratch/$name")"
}

all_in_turns() { # NAME: all programs take turns in one process
  set -- "$1"
  n=0
  while [ "$n" -lt "$count" ]; do
    set -- "$@" "$folder/$n.pte"
    n=$((n + 1))
  done
  name=$1
  shift
  ours "$name" time --rounds "$rounds" "$@"
}

mask() { # processors 4,5 as the hexadecimal mask that toybox's taskset takes
  bits=0
  for cpu in $(printf %s "$cpus" | tr , ' '); do bits=$((bits | 1 << cpu)); done
  printf %x "$bits"
}

theirs() { # NAME: the SDK's runner prints a line an execution, one program at a time
  n=0
  printf '{"runner": "executor_runner", "programs": [' >"$scratch/$1"
  while [ "$n" -lt "$count" ]; do
    set -- "$1" "$folder/executor_runner" "--model_path=$folder/$n.pte" \
      "--num_executions=$((rounds + 5))" "--cpu_threads=$threads"
    name=$1
    shift
    [ -z "$cpus" ] || set -- taskset "$(mask)" "$@"
    on_device "$@" >"$scratch/said" 2>&1 || die "executor_runner failed: $(tail -n 1 "$scratch/said")"
    [ "$n" -eq 0 ] || printf ', ' >>"$scratch/$name"
    # "Iteration i of N: 1.234 ms"; the first five are warm-up.
    awk '/Iteration [0-9]+ of [0-9]+/ && match($0, /[0-9.]+ ms/) {
           if (++seen > 5) { printf "%s%s", (kept++ ? ", " : "{\"wall_ms\": ["), substr($0, RSTART, RLENGTH - 3) }
         } END { if (!kept) exit 1; printf "], \"cpu_ms\": []}" }' "$scratch/said" \
      >>"$scratch/$name" || die "executor_runner printed no times; is it the SDK's?"
    set -- "$name"
    n=$((n + 1))
  done
  printf ']}\n' >>"$scratch/$1"
}

listed() { # FILE...: JSON documents as the members of a list
  comma=
  for file in "$@"; do
    [ -f "$file" ] || continue
    printf %s "$comma"
    tr -d '\r\n' <"$file"
    comma=', '
  done
}

packed() { # FILE: its bytes, compressed, as a JSON text
  printf '"%s"' "$(gzip -9 -n -c "$1" | base64 | tr -d '\n')"
}

sum() { # macOS has no sha256sum
  if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1
}

outputs() { # NUMBER PROGRAM: what it computes there, to be compared with where the kit was made
  which=$1
  program=$2
  set --
  n=0
  while [ -f "$kit/inputs/x$n.bin" ]; do
    set -- "$@" --input "$folder/x$n.bin"
    n=$((n + 1))
  done
  on_device rm -f "$folder/y0.bin"
  ours ran execute "$@" --outputs "$folder/y" "$folder/$which.pte"
  n=0
  printf '{"program": "%s", "outputs": [' "$(sum "$program")"
  while device pull "$folder/y$n.bin" "$scratch/y" >/dev/null 2>&1; do
    [ "$n" -eq 0 ] || printf ', '
    packed "$scratch/y"
    on_device rm -f "$folder/y$n.bin"
    n=$((n + 1))
  done
  printf ']}'
}

traced() { # PROGRAM: the trace of a program of kernels
  device push "$1" "$folder/kernels.pte" >/dev/null
  ours answer trace --rounds 13 --etdump "$folder/dump" "$folder/kernels.pte"
  device pull "$folder/dump" "$scratch/dump" >/dev/null
  printf '{"program": "%s", "answer": ' "$(sum "$1")"
  tr -d '\r\n' <"$scratch/answer"
  printf ', "etdump": '
  packed "$scratch/dump"
  printf '}'
}

cool
before=$(state)
process=0
while [ $# -gt 0 ] && [ "$process" -lt "$processes" ]; do
  cool
  echo "process $((process + 1)) of $processes" >&2
  name=process.$(printf %03d "$process")
  if [ "$kind" = edgeprune_runner ]; then all_in_turns "$name"; else theirs "$name"; fi
  process=$((process + 1))
done
if [ "$kind" = edgeprune_runner ]; then
  number=0
  for program in "$@"; do # each by itself, for its memory
    [ $# -gt 1 ] || break
    ours "alone.$(printf %03d "$number")" time --rounds 1 "$folder/$number.pte"
    number=$((number + 1))
  done
  for input in "$kit"/inputs/x*.bin; do
    if [ -z "$kit" ] || [ ! -f "$input" ]; then break; fi
    device push "$input" "$folder/" >/dev/null
  done
  number=0
  for program in "$@"; do
    if [ -z "$kit" ] || [ ! -f "$kit/inputs/x0.bin" ]; then break; fi
    outputs "$number" "$program" >"$scratch/output.$(printf %03d "$number")"
    number=$((number + 1))
  done
  number=0
  for program in "$kit"/kernels/*.pte; do
    if [ -z "$kit" ] || [ ! -f "$program" ]; then break; fi
    cool
    echo "kernels: $(basename "$program")" >&2
    for turn in 0 1; do # two processes: what disturbs one is seldom there in the next
      traced "$program" >"$scratch/kernels.$(printf %03d "$number").$turn"
    done
    number=$((number + 1))
  done
fi
after=$(state)

{
  printf '{"format": "edgeprune-bench/1", "runner": "%s", "threads": %s, "cpus": %s, ' \
    "$kind" "$threads" "$(json_text "$cpus")"
  printf '"device": %s, ' "$(json_text "$(on_device getprop ro.product.model)")"
  printf '"soc": %s, ' "$(json_text "$(on_device getprop ro.soc.model)")"
  printf '"system": %s, ' "$(json_text "Android $(on_device getprop ro.build.version.release)")"
  printf '"programs": ['
  comma=
  for program in "$@"; do
    printf '%s{"name": %s, "sha256": "%s"}' "$comma" "$(json_text "$(basename "$program")")" \
      "$(sum "$program")"
    comma=', '
  done
  printf '], "before": %s, "after": %s, "processes": [' "$before" "$after"
  listed "$scratch"/process.*
  printf '], "alone": ['
  listed "$scratch"/alone.*
  printf '], "outputs": ['
  listed "$scratch"/output.*
  printf '], "kernels": ['
  listed "$scratch"/kernels.*
  printf '], "kit": '
  if [ -n "$kit" ] && [ -f "$kit/kit.json" ]; then tr -d '\r\n' <"$kit/kit.json"; else printf null; fi
  printf '}\n'
} >"$out"
echo "wrote $out" >&2
