package android.os

abstract class BatteryManager {
  abstract val isCharging: Boolean

  abstract fun getIntProperty(id: Int): Int

  companion object {
    const val BATTERY_PROPERTY_CAPACITY = 4
  }
}

abstract class PowerManager {
  abstract val currentThermalStatus: Int
  abstract val isPowerSaveMode: Boolean
  abstract val isInteractive: Boolean
}

abstract class Bundle {
  abstract fun getString(key: String): String?
}

object Debug {
  @JvmStatic fun threadCpuTimeNanos(): Long = System.nanoTime()
}

object Build {
  const val MANUFACTURER = ""
  const val MODEL = ""
  const val HARDWARE = ""
  const val SOC_MANUFACTURER = ""
  const val SOC_MODEL = ""

  object VERSION {
    @JvmField val SDK_INT = 35
    const val RELEASE = ""
  }
}
