// The parts of the app that know nothing of Android, run on a computer: a result on stdout.
package dev.edgeprune.bench

fun main() {
  val clock = object {
    var now = 0L
  }
  // Time that only passes while programs run: 2 ms and 1 ms an execution.
  val timing = Timing({ clock.now }, { clock.now / 2 })
  val programs = listOf<() -> Unit>({ clock.now += 2_000_000L }, { clock.now += 1_000_000L })
  val executions = programs.map { timing.calibrated(it, 5.0) }
  check(executions == listOf(3, 5)) { "$executions" }
  val settled = programs.zip(executions).map { (program, n) -> timing.warmedUp(program, n, 1e3) }
  val blocks = timing.interleaved(programs, executions, 4)
  val runs =
    blocks.zip(settled).map { (taken, calm) ->
      Result.ProgramRun(taken.map { it.wallMs }, taken.map { it.cpuMs }, calm)
    }
  val machine = Result.Machine("chip \"A\\1\"\n", "aarch64", null, 0.5, "2026-01-02T03:04:05+00:00")
  val state = Result.State(null, 1800.0)
  val process =
    Result.process(Result.Process("executorch 1.5.1", machine, state, state, runs, 12345L))
  val now = Result.Circumstances(0, 80, true, false, "Awake")
  print(
    Result.document(
      Result.Phone("Maker Phone", "chip", "Android 15"),
      1,
      listOf(Result.Named("baseline.pte", "0".repeat(64)), Result.Named("model.pte", "1".repeat(64))),
      now to now,
      listOf(process, process),
      null,
    )
  )
}
