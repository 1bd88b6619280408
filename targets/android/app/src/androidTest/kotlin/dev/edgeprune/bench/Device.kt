package dev.edgeprune.bench

import android.content.Context
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import android.system.Os
import java.io.File
import java.text.SimpleDateFormat
import java.util.Date
import java.util.Locale
import java.util.TimeZone

/** What Android lets an app read of the phone; what it refuses is null. */
class Device(private val context: Context) {
  private val power = context.getSystemService(Context.POWER_SERVICE) as PowerManager
  private val battery = context.getSystemService(Context.BATTERY_SERVICE) as BatteryManager

  fun phone(): Result.Phone =
    Result.Phone("${Build.MANUFACTURER} ${Build.MODEL}", soc(), "Android ${Build.VERSION.RELEASE}")

  fun machine(): Result.Machine =
    Result.Machine(
      cpu = soc().ifEmpty { Build.HARDWARE },
      architecture = Os.uname().machine,
      governor = line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
      load = line("/proc/loadavg")?.substringBefore(' ')?.toDoubleOrNull(),
      date = date(),
    )

  fun circumstances(): Result.Circumstances =
    Result.Circumstances(
      thermalStatus = if (Build.VERSION.SDK_INT >= 29) power.currentThermalStatus else null,
      batteryPercent = battery.getIntProperty(BatteryManager.BATTERY_PROPERTY_CAPACITY),
      charging = battery.isCharging,
      powerSave = power.isPowerSaveMode,
      screen = if (power.isInteractive) "Awake" else "Asleep",
    )

  /** The mean clock of the processors, where it can be read; temperatures are not for apps. */
  fun state(): Result.State {
    val khz =
      (0 until Runtime.getRuntime().availableProcessors()).mapNotNull {
        line("/sys/devices/system/cpu/cpu$it/cpufreq/scaling_cur_freq")?.toDoubleOrNull()
      }
    return Result.State(null, if (khz.isEmpty()) null else khz.average() / 1000)
  }

  /** The most memory that this process has held so far. */
  fun peakRssBytes(): Long? =
    File("/proc/self/status")
      .readLines()
      .firstOrNull { it.startsWith("VmHWM:") }
      ?.filter(Char::isDigit)
      ?.toLongOrNull()
      ?.times(1024)

  /** Waits until Android calls the phone cool, for ten minutes at most. */
  fun cool() {
    val until = System.nanoTime() + COOL_NS
    while ((circumstances().thermalStatus ?: 0) > 0 && System.nanoTime() < until) {
      Thread.sleep(PAUSE_MS)
    }
  }

  private fun soc(): String =
    if (Build.VERSION.SDK_INT >= 31) "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}" else ""

  private fun date(): String {
    val format = SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss'+00:00'", Locale.ROOT)
    format.timeZone = TimeZone.getTimeZone("UTC")
    return format.format(Date())
  }

  private fun line(path: String): String? =
    runCatching { File(path).readLines().first().trim() }.getOrNull()?.ifEmpty { null }

  private companion object {
    const val COOL_NS = 600_000_000_000L
    const val PAUSE_MS = 5_000L
  }
}
