"""The README of a kit: for whoever has the device and has never heard of us."""

from __future__ import annotations

from edgeprune.kit.records import Kit

_NEEDS = {
    "linux": """It needs Linux and one of these:

- `cmake`, a C++ compiler and the ExecuTorch wheel (`pip install executorch==1.5.1`, or an
  unpacked wheel that `EXECUTORCH_ROOT` names): the runner is built once, in about half a minute;
- a runner that was built for this machine: `./run.sh -r FOLDER` (runner/README.md tells how),
  or in `runner/bin` already;
- Python 3.10 or newer with `executorch` and `torch`: `PYTHON=... ./run.sh` (times only: nothing
  is compared, and kernels are not timed).

Let the machine rest, plug it in, and close what else runs. Nothing is installed, and nothing
outside of this folder and the system's temporary one is written.""",
    "android": """It needs `adb` on this computer, a phone with USB debugging, and a runner built
for Android in `runner/` (runner/README.md tells how). Leave the phone on its charger and alone: the
screen is switched on, and put back as it was afterwards. Files lie in `/data/local/tmp`
meanwhile; nothing is installed. Where nothing may be executed from the shell, or no runner is at
hand, `app/bench_app.sh -k . programs/*.pte` does it with an app (runner/README.md tells more).""",
    "ios": """It needs a Mac with Xcode and an iPhone that is trusted by it (runner/README.md tells
how). Let the phone cool and keep it on its charger.""",
}

_OPTIONS = {
    "linux": "`-t THREADS`, `-c 2,3` (processors), `-C 60` (wait until cooler), `-p PROCESSES`",
    "android": "`-s SERIAL`, `-t THREADS`, `-c 4,5,6,7` (processors), `-p PROCESSES`",
    "ios": "`-d 'platform=iOS,id=...'`, `-m TEAM_ID`, `-p PROCESSES`",
}


def readme(kit: Kit) -> dict[str, bytes]:
    """README.md of a kit, for its platform."""
    held = [f"- `{p.file}`, with what it takes and gives in `{p.file}.json`" for p in kit.programs]
    if kit.kernels:
        count = sum(len(kernels.keys) for kernels in kit.kernels)
        held.append(f"- `kernels/`: {count} small kernels, to be timed one by one")
    if any(program.expected for program in kit.programs):
        held.append("- `inputs/`: what the programs are run on, to compare what they compute")
    text = f"""# How fast do these programs run here?

This kit times neural networks for {kit.target}
({kit.backend}, {kit.dtype}, {kit.threads} thread{"s" if kit.threads > 1 else ""}). Run

    ./run.sh

and send back `result.json`, which it writes beside itself. It takes a few minutes.

{_NEEDS[kit.platform]}

`run.sh` takes options: {_OPTIONS[kit.platform]}.

## What is in it

{chr(10).join(held)}
- `runner/`: what runs them, with its own README
- `kit.json`: what this kit was made for, by edgeprune {kit.edgeprune} with {kit.runtime}

`result.json` holds times, the device's name, processor, system, temperature and load, and what the
programs computed from the inputs of this kit. Nothing else of the device is read.

## Whoever made this kit

    edgeprune report RUN --import result.json{" --as-table" if kit.kernels else ""}
"""
    return {"README.md": text.encode()}
