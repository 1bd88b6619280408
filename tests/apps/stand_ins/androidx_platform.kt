package androidx.test.platform.app

import android.content.Context
import android.os.Bundle

abstract class Instrumentation {
  abstract val targetContext: Context
  abstract val context: Context
}

object InstrumentationRegistry {
  @JvmStatic fun getInstrumentation(): Instrumentation = throw NotImplementedError()

  @JvmStatic fun getArguments(): Bundle = throw NotImplementedError()
}
