package dev.edgeprune.bench

/**
 * The result as `edgeprune report --import` reads it (docs/result-schema.md). Nothing of Android is
 * in here; a test of edgeprune's compares the names below with those that it reads.
 */
object Result {
  const val FORMAT = "edgeprune-bench/1"
  const val RUNNER = "android-app"

  /** Samples of one program in one process. */
  data class ProgramRun(
    val wallMs: List<Double>,
    val cpuMs: List<Double>,
    val settled: Boolean,
  )

  data class State(val temperatureC: Double?, val frequencyMhz: Double?)

  data class Machine(
    val cpu: String,
    val architecture: String,
    val governor: String?,
    val load: Double?,
    val date: String,
  )

  data class Phone(val device: String, val soc: String, val system: String)

  /** What Android says of itself before and after. */
  data class Circumstances(
    val thermalStatus: Int?,
    val batteryPercent: Int?,
    val charging: Boolean,
    val powerSave: Boolean,
    val screen: String,
  )

  data class Named(val name: String, val sha256: String)

  data class Process(
    val runtime: String,
    val machine: Machine,
    val before: State,
    val after: State,
    val programs: List<ProgramRun>,
    val peakRssBytes: Long?,
  )

  fun process(process: Process): String =
    Json.record(
      "runner" to Json.text(RUNNER),
      "runtime" to Json.text(process.runtime),
      "machine" to machine(process.machine),
      "before" to state(process.before),
      "after" to state(process.after),
      "programs" to Json.list(process.programs.map(::run)),
      "peak_rss_bytes" to Json.number(process.peakRssBytes),
    )

  /** The whole document; `processes` are texts that [process] made, `kit` is kit.json or null. */
  fun document(
    phone: Phone,
    threads: Int,
    programs: List<Named>,
    circumstances: Pair<Circumstances, Circumstances>,
    processes: List<String>,
    kit: String?,
  ): String =
    Json.record(
      "format" to Json.text(FORMAT),
      "runner" to Json.text(RUNNER),
      "device" to Json.text(phone.device),
      "soc" to Json.text(phone.soc),
      "system" to Json.text(phone.system),
      "threads" to threads.toString(),
      "programs" to
        Json.list(
          programs.map {
            Json.record("name" to Json.text(it.name), "sha256" to Json.text(it.sha256))
          }
        ),
      "before" to circumstances(circumstances.first),
      "after" to circumstances(circumstances.second),
      "processes" to Json.list(processes),
      "warnings" to
        Json.list(listOf(Json.text("timed through Java: copies of inputs and outputs are in it"))),
      "kit" to (kit ?: "null"),
    )

  private fun run(run: ProgramRun): String =
    Json.record(
      "wall_ms" to Json.list(run.wallMs.map(Json::number)),
      "cpu_ms" to Json.list(run.cpuMs.map(Json::number)),
      "settled" to run.settled.toString(),
    )

  private fun state(state: State): String =
    Json.record(
      "temperature_c" to Json.number(state.temperatureC),
      "frequency_mhz" to Json.number(state.frequencyMhz),
    )

  private fun machine(machine: Machine): String =
    Json.record(
      "cpu" to Json.text(machine.cpu),
      "architecture" to Json.text(machine.architecture),
      "governor" to (machine.governor?.let(Json::text) ?: "null"),
      "load" to Json.number(machine.load),
      "date" to Json.text(machine.date),
    )

  private fun circumstances(now: Circumstances): String =
    Json.record(
      "thermal_status" to Json.number(now.thermalStatus),
      "battery_percent" to Json.number(now.batteryPercent),
      "charging" to now.charging.toString(),
      "power_save" to now.powerSave.toString(),
      "screen" to Json.text(now.screen),
    )
}

/** JSON texts; values that are no numbers are null. */
object Json {
  fun text(value: String): String {
    val escaped = StringBuilder("\"")
    for (character in value) {
      when {
        character == '"' || character == '\\' -> escaped.append('\\').append(character)
        character < ' ' -> escaped.append("\\u%04x".format(character.code))
        else -> escaped.append(character)
      }
    }
    return escaped.append('"').toString()
  }

  fun number(value: Number?): String =
    if (value == null || !value.toDouble().isFinite()) "null" else value.toString()

  fun list(values: List<String>): String = values.joinToString(", ", "[", "]")

  fun record(vararg fields: Pair<String, String>): String =
    fields.joinToString(", ", "{", "}") { (name, value) -> "${text(name)}: $value" }
}
