#!/bin/sh
# Time ExecuTorch programs on this machine, and write one JSON result.
#
#   bench_linux.sh [-r RUNNER_DIR] [-t THREADS] [-c CPUS] [-n ROUNDS] [-p PROCESSES]
#                  [-C CELSIUS] [-k KIT_DIR] [-o result.json] PROGRAM.pte...
#
#   -r  folder with edgeprune_runner and its libraries; by default bin/ beside this script, which is
#       built first where it is not there and cmake, a C++ compiler and the executorch wheel are
#       (EXECUTORCH_ROOT names the wheel's executorch folder, else the one that python3 has); where
#       it cannot be built, bench.pyz beside this script and python3 ($PYTHON names another) with
#       executorch and torch
#   -c  processors to run on, as in 2,3
#   -C  wait before each process until the processor is cooler than this
#   -k  folder of a kit: its kernels are traced, and its inputs are run through every program
#
# README.md beside this file tells the rest.
set -eu

die() {
  echo "bench_linux.sh: $*" >&2
  exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
runners=
python=${PYTHON:-python3}
threads=1
cpus=
rounds=20
processes=3
cool=
kit=
out=result.json
while getopts r:t:c:n:p:C:k:o: option; do
  case $option in
  r) runners=$OPTARG ;;
  t) threads=$OPTARG ;;
  c) cpus=$OPTARG ;;
  n) rounds=$OPTARG ;;
  p) processes=$OPTARG ;;
  C) cool=$OPTARG ;;
  k) kit=$OPTARG ;;
  o) out=$OPTARG ;;
  *) die "see the head of this file for its options" ;;
  esac
done
shift $((OPTIND - 1))
for number in "$threads" "$rounds" "$processes"; do
  case $number in '' | *[!0-9]*) die "$number is not a whole number" ;; esac
done
case $cpus in *[!0-9,]*) die "-c takes numbers with commas, as in 2,3" ;; esac
case $cool in *[!0-9.]*) die "-C takes degrees Celsius, as in 65" ;; esac
[ $# -gt 0 ] || [ -d "$kit/kernels" ] || die "no program given"
for program in "$@"; do
  [ -f "$program" ] || die "no such program: $program"
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

# --- what runs them ------------------------------------------------------------------------------

runs_here() { # FOLDER: without arguments the runner shows how it is used
  [ -x "$1/edgeprune_runner" ] || return 1
  "$1/edgeprune_runner" 2>&1 | grep -q '^usage'
}

wheel() { # the executorch folder to build against
  if [ -n "${EXECUTORCH_ROOT:-}" ]; then
    printf %s "$EXECUTORCH_ROOT"
  else
    "$python" -c 'from importlib.util import find_spec; print(list(find_spec("executorch").submodule_search_locations)[0])' 2>/dev/null
  fi
}

build() {
  [ -f "$here/CMakeLists.txt" ] || return 1
  command -v cmake >/dev/null && command -v c++ >/dev/null || return 1
  root=$(wheel) && [ -d "$root/lib/cmake/executorch" ] || return 1
  echo "building the runner, once" >&2
  { cmake -S "$here" -B "$scratch/build" "-DEXECUTORCH_ROOT=$root" &&
    cmake --build "$scratch/build" &&
    cmake --install "$scratch/build" --prefix "$here/bin"; } >"$scratch/build.log" 2>&1 ||
    { tail -n 5 "$scratch/build.log" >&2 && return 1; }
}

if [ -n "$runners" ]; then
  runs_here "$runners" || die "$runners has no edgeprune_runner that runs on this machine"
  runner=$runners/edgeprune_runner
elif runs_here "$here/bin" || { build && runs_here "$here/bin"; }; then
  runner=$here/bin/edgeprune_runner
elif [ -f "$here/bench.pyz" ] && "$python" -c 'import torch, executorch' 2>/dev/null; then
  runner=
  echo "measuring by Python: the C++ runner cannot be built here" >&2
else
  die "nothing here runs programs: install cmake, g++ and \`pip install executorch==1.5.1\`," \
    "or name a runner built for this machine with -r (README.md says how)"
fi

bench() { # TASK ARGUMENTS...: one process of it; its answer is on stdout
  task=$1
  shift
  [ -z "$cpus" ] || set -- --cpus "$cpus" "$@"
  [ -z "$cool" ] || [ "$task" != time ] || set -- --cool-below "$cool" "$@"
  if [ -n "$runner" ]; then
    "$runner" "$task" --threads "$threads" "$@"
  else
    "$python" "$here/bench.pyz" "$task" --threads "$threads" --out "$scratch/answer" "$@" >&2
    cat "$scratch/answer"
  fi
}

kept() { # NAME WHAT ARGUMENTS...: the answer of `bench WHAT ARGUMENTS` in a file of that name
  name=$1
  shift
  bench "$@" >"$scratch/$name" 2>"$scratch/log" ||
    die "the runner failed: $(tail -n 1 "$scratch/log") $(cat "$scratch/$name")"
}

# --- JSON ----------------------------------------------------------------------------------------

json_text() {
  printf '"%s"' "$(printf %s "$1" | sed 's/\\/\\\\/g; s/"/\\"/g' | tr '\n\t' '  ')"
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

sum() { sha256sum "$1" | cut -d ' ' -f 1; }

# --- the runs ------------------------------------------------------------------------------------

process=0
while [ $# -gt 0 ] && [ "$process" -lt "$processes" ]; do
  echo "process $((process + 1)) of $processes" >&2
  kept "process.$(printf %03d "$process")" time --rounds "$rounds" "$@"
  process=$((process + 1))
done
count=0
for program in "$@"; do # each by itself, for its memory
  [ $# -gt 1 ] || break
  kept "alone.$(printf %03d "$count")" time --rounds 1 "$program"
  count=$((count + 1))
done

# What the programs compute here, to be compared with what they compute where the kit was made.
count=0
for program in "$@"; do
  if [ -z "$runner" ] || [ -z "$kit" ] || [ ! -f "$kit/inputs/x0.bin" ]; then break; fi
  number=0
  arguments=
  while [ -f "$kit/inputs/x$number.bin" ]; do
    cp "$kit/inputs/x$number.bin" "$scratch/x$number.bin"
    arguments="$arguments --input x$number.bin"
    number=$((number + 1))
  done
  path=$(cd "$(dirname "$program")" && pwd)/$(basename "$program")
  # Names without spaces, in a folder of ours: they may be split into words.
  # shellcheck disable=SC2086
  (cd "$scratch" && kept ran execute $arguments --outputs y "$path")
  number=0
  {
    printf '{"program": "%s", "outputs": [' "$(sum "$program")"
    while [ -f "$scratch/y$number.bin" ]; do
      [ "$number" -eq 0 ] || printf ', '
      packed "$scratch/y$number.bin"
      rm "$scratch/y$number.bin"
      number=$((number + 1))
    done
    printf ']}'
  } >"$scratch/output.$(printf %03d "$count")"
  count=$((count + 1))
done

count=0
for program in "$kit"/kernels/*.pte; do
  if [ -z "$kit" ] || [ ! -f "$program" ]; then break; fi
  if [ -z "$runner" ]; then
    echo "kernels are left out: only the C++ runner traces them" >&2
    break
  fi
  echo "kernels: $(basename "$program")" >&2
  for turn in 0 1; do # two processes: what disturbs one is seldom there in the next
    turned=$(printf %03d "$count").$turn
    kept "trace.$turned" trace --rounds 13 --etdump "$scratch/dump" "$program"
    {
      printf '{"program": "%s", "answer": ' "$(sum "$program")"
      tr -d '\r\n' <"$scratch/trace.$turned"
      printf ', "etdump": '
      packed "$scratch/dump"
      printf '}'
    } >"$scratch/kernels.$turned"
  done
  count=$((count + 1))
done

# --- the result ----------------------------------------------------------------------------------

machine() { # what the machine calls itself: boards say it in the device tree, PCs in DMI
  for file in /proc/device-tree/model /sys/class/dmi/id/product_name; do
    if [ -r "$file" ] && [ -s "$file" ]; then
      tr -d '\000\n' <"$file"
      return
    fi
  done
  uname -n
}

{
  kind=python
  [ -z "$runner" ] || kind=edgeprune_runner
  printf '{"format": "edgeprune-bench/1", "runner": "%s", "threads": %s, "cpus": %s, ' \
    "$kind" "$threads" "$(json_text "$cpus")"
  printf '"device": %s, "system": %s, ' "$(json_text "$(machine)")" "$(json_text "$(uname -srm)")"
  printf '"programs": ['
  comma=
  for program in "$@"; do
    printf '%s{"name": %s, "sha256": "%s"}' "$comma" "$(json_text "$(basename "$program")")" \
      "$(sum "$program")"
    comma=', '
  done
  printf '], "processes": ['
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
} >"$scratch/result"
mv "$scratch/result" "$out"
echo "wrote $out" >&2
