package dev.edgeprune.bench

import android.content.Context
import android.os.Bundle
import android.os.Debug
import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import java.io.File
import java.security.MessageDigest
import kotlin.random.Random
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Test
import org.junit.runner.RunWith
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/**
 * Times the programs among the test's assets and writes `result.json` into the app's files.
 *
 * One run is one process; `-e process N` keeps those before it (N from 0) and adds its own. Further
 * arguments: threads, rounds.
 */
@RunWith(AndroidJUnit4::class)
class ProgramBenchmark {
  private val arguments: Bundle = InstrumentationRegistry.getArguments()
  private val app: Context = InstrumentationRegistry.getInstrumentation().targetContext
  private val assets = InstrumentationRegistry.getInstrumentation().context.assets
  private val device = Device(app)

  @Test
  fun timePrograms() {
    val process = number("process", 0)
    val threads = number("threads", 1)
    val names = (assets.list(PROGRAMS) ?: emptyArray()).filter { it.endsWith(".pte") }.sorted()
    check(names.isNotEmpty()) { "no programs among the assets: bench_app.sh puts them there" }
    device.cool()
    val before = device.circumstances()
    val measured = measured(names, threads)
    File(app.filesDir, "process.$process.json").writeText(measured)
    val document =
      Result.document(
        device.phone(),
        threads,
        names.map { Result.Named(it, sha256(asset("$PROGRAMS/$it"))) },
        before to device.circumstances(),
        (0..process).map { File(app.filesDir, "process.$it.json").readText() },
        runCatching { asset("kit.json").decodeToString() }.getOrNull(),
      )
    File(app.filesDir, "result.json").writeText(document)
  }

  private fun measured(names: List<String>, threads: Int): String {
    val programs = names.map { loaded(it, threads) }
    // Debug's clock is this thread's own; with several threads it tells nothing of the others.
    val timing = Timing(System::nanoTime, Debug::threadCpuTimeNanos)
    val executions = programs.map { timing.calibrated(it, MIN_BLOCK_MS) }
    val settled =
      programs.zip(executions).map { (program, n) -> timing.warmedUp(program, n, WARM_UP_MS) }
    val before = device.state()
    val blocks = timing.interleaved(programs, executions, number("rounds", 20))
    val runs =
      blocks.zip(settled).map { (taken, calm) ->
        val cpu = if (threads == 1) taken.map { it.cpuMs } else emptyList()
        Result.ProgramRun(taken.map { it.wallMs }, cpu, calm)
      }
    val machine = device.machine()
    val peak = if (names.size == 1) device.peakRssBytes() else null
    return Result.process(
      Result.Process(BuildConfig.EXECUTORCH, machine, before, device.state(), runs, peak)
    )
  }

  /** One execution of a program on random inputs of the shapes that its manifest tells. */
  private fun loaded(name: String, threads: Int): () -> Unit {
    val file = File(app.filesDir, name)
    file.writeBytes(asset("$PROGRAMS/$name"))
    val manifest = JSONObject(asset("$PROGRAMS/$name.json").decodeToString())
    val inputs = manifest.getJSONArray("inputs")
    val values =
      Array(inputs.length()) { i -> EValue.from(tensor(inputs.getJSONObject(i), Random(0))) }
    val module = Module.load(file.path, Module.LOAD_MODE_FILE, threads)
    return { module.forward(*values) }
  }

  private fun tensor(port: JSONObject, random: Random): Tensor {
    val shape = longs(port.getJSONArray("shape"))
    val count = shape.fold(1L, Long::times).toInt()
    return when (val dtype = port.getString("dtype")) {
      "float32" -> Tensor.fromBlob(FloatArray(count) { random.nextFloat() }, shape)
      // 0 and 1 are valid whatever whole numbers mean: tokens, indices, masks.
      "int64" -> Tensor.fromBlob(LongArray(count) { random.nextLong(2) }, shape)
      "int32" -> Tensor.fromBlob(IntArray(count) { random.nextInt(2) }, shape)
      "int8" -> Tensor.fromBlob(ByteArray(count) { random.nextInt(2).toByte() }, shape)
      else -> error("inputs of $dtype are not made here")
    }
  }

  private fun longs(array: JSONArray): LongArray = LongArray(array.length()) { array.getLong(it) }

  private fun asset(path: String): ByteArray = assets.open(path).use { it.readBytes() }

  private fun sha256(data: ByteArray): String =
    MessageDigest.getInstance("SHA-256").digest(data).joinToString("") { "%02x".format(it) }

  private fun number(name: String, otherwise: Int): Int =
    arguments.getString(name)?.toInt() ?: otherwise

  private companion object {
    const val PROGRAMS = "programs"
    const val MIN_BLOCK_MS = 5.0
    const val WARM_UP_MS = 1000.0
  }
}
