#!/bin/sh
# Runs a command apart from the connection that started it, so that a connection that drops loses
# nothing. Used by edgeprune's ssh and adb runners; POSIX sh, as busybox and toybox have it.
#
#   step.sh start NAME COMMAND...   start it, once: NAME becomes a folder with its pid, log and code
#   step.sh wait NAME SECONDS       prints "done CODE", "running" after so many seconds, or "lost"
#   step.sh stop NAME               end it
set -u

alive() {
  pid=$(cat "$1/pid" 2>/dev/null) || return 0 # not written yet: it is just starting
  [ -d /proc/self ] || { kill -0 "$pid" 2>/dev/null; return; }
  # After a reboot another process may have the number.
  grep -qF "$1" "/proc/$pid/cmdline" 2>/dev/null
}

action=$1
name=$2
shift 2
case $action in
start)
  # mkdir makes it or fails: a step that a lost connection had started is not begun again.
  mkdir "$name" 2>/dev/null || exit 0
  if command -v setsid >/dev/null 2>&1; then
    setsid sh "$0" hold "$name" "$@" </dev/null >/dev/null 2>&1 &
  else
    sh "$0" hold "$name" "$@" </dev/null >/dev/null 2>&1 &
  fi
  ;;
hold)
  trap '' HUP
  echo $$ >"$name/pid"
  "$@" </dev/null >"$name/log" 2>&1
  echo $? >"$name/code.part"
  mv "$name/code.part" "$name/code"
  ;;
wait)
  seconds=$1
  starting=5
  while :; do
    if [ -f "$name/code" ]; then
      echo "done $(cat "$name/code")"
      exit 0
    fi
    if [ ! -f "$name/pid" ]; then
      starting=$((starting - 1))
      [ "$starting" -gt 0 ] || break
    elif ! alive "$name"; then
      [ -f "$name/code" ] && continue
      break
    fi
    if [ "$seconds" -le 0 ]; then
      echo running
      exit 0
    fi
    seconds=$((seconds - 1))
    sleep 1
  done
  echo lost
  ;;
stop)
  pid=$(cat "$name/pid" 2>/dev/null) || exit 0
  kill -TERM "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null
  ;;
*)
  echo "usage: step.sh start|wait|stop NAME ..." >&2
  exit 2
  ;;
esac
