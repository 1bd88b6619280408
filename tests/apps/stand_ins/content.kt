// Stand-ins with the signatures of Android's documentation: enough for a compiler to check the app.
package android.content

abstract class Context {
  abstract val filesDir: java.io.File
  abstract val assets: android.content.res.AssetManager

  abstract fun getSystemService(name: String): Any?

  companion object {
    const val POWER_SERVICE = "power"
    const val BATTERY_SERVICE = "batterymanager"
  }
}
