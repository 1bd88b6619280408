package android.system

class StructUtsname(@JvmField val machine: String)

object Os {
  @JvmStatic fun uname(): StructUtsname = StructUtsname("aarch64")
}
