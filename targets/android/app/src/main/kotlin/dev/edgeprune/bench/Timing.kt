package dev.edgeprune.bench

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min

/**
 * Warm, calibrated blocks of executions, programs taking turns: the method of edgeprune's own
 * workers (edgeprune/measuring/timing.py), so that samples compare. Nothing of Android is in here.
 */
class Timing(private val wallNs: () -> Long, private val cpuNs: () -> Long) {
  /** `executions` back to back; times are of one execution. */
  data class Block(val wallMs: Double, val cpuMs: Double)

  fun timed(execute: () -> Unit, executions: Int): Block {
    val wall = wallNs()
    val cpu = cpuNs()
    repeat(executions) { execute() }
    val spent = cpuNs() - cpu
    return Block((wallNs() - wall) / 1e6 / executions, spent / 1e6 / executions)
  }

  /** How many executions make a block of about `minBlockMs` or more. */
  fun calibrated(execute: () -> Unit, minBlockMs: Double): Int {
    var executions = 1
    while (true) {
      val blockMs = timed(execute, executions).wallMs * executions
      if (blockMs >= minBlockMs) return executions
      val wanted = ceil(executions * minBlockMs / max(blockMs, 1e-6)).toInt()
      // At most tenfold: the first executions are slow and say little about the rest.
      executions = max(executions + 1, min(wanted, executions * 10))
    }
  }

  /** Blocks until the last few are as fast as the few before; false at the limit. */
  fun warmedUp(execute: () -> Unit, executions: Int, limitMs: Double): Boolean {
    val times = mutableListOf<Double>()
    val started = wallNs()
    while (true) {
      val passed = (wallNs() - started) / 1e6
      if (passed >= limitMs) return false
      times += timed(execute, executions).wallMs
      if (times.size < 2 * WINDOW || passed < min(LEAST_MS, limitMs / 2)) continue
      val last = median(times.takeLast(WINDOW))
      val before = median(times.dropLast(WINDOW).takeLast(WINDOW))
      if (abs(last - before) <= SETTLED * before) return true
    }
  }

  /** `rounds` blocks of each program; each is first run untimed, so that its weights are back. */
  fun interleaved(
    programs: List<() -> Unit>,
    executions: List<Int>,
    rounds: Int,
  ): List<List<Block>> {
    val blocks = programs.map { mutableListOf<Block>() }
    for (first in 0 until rounds) {
      for (turn in programs.indices) {
        val i = (first + turn) % programs.size
        if (programs.size > 1) timed(programs[i], executions[i])
        blocks[i] += timed(programs[i], executions[i])
      }
    }
    return blocks
  }

  private fun median(values: List<Double>): Double {
    val sorted = values.sorted()
    val middle = sorted.size / 2
    return if (sorted.size % 2 == 1) sorted[middle] else (sorted[middle - 1] + sorted[middle]) / 2
  }

  private companion object {
    const val SETTLED = 0.02
    const val LEAST_MS = 100.0
    const val WINDOW = 4
  }
}
