package org.pytorch.executorch

abstract class Tensor {
  companion object {
    @JvmStatic fun fromBlob(data: FloatArray, shape: LongArray): Tensor = throw NotImplementedError()

    @JvmStatic fun fromBlob(data: LongArray, shape: LongArray): Tensor = throw NotImplementedError()

    @JvmStatic fun fromBlob(data: IntArray, shape: LongArray): Tensor = throw NotImplementedError()

    @JvmStatic fun fromBlob(data: ByteArray, shape: LongArray): Tensor = throw NotImplementedError()
  }
}

abstract class EValue {
  companion object {
    @JvmStatic fun from(tensor: Tensor): EValue = throw NotImplementedError()
  }
}

abstract class Module {
  abstract fun forward(vararg inputs: EValue): Array<EValue>

  companion object {
    const val LOAD_MODE_FILE = 0

    @JvmStatic
    @JvmOverloads
    fun load(modelPath: String?, loadMode: Int = LOAD_MODE_FILE, numThreads: Int = 0): Module =
      throw NotImplementedError()
  }
}
