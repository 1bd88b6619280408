package dev.edgeprune.bench

object BuildConfig {
  const val EXECUTORCH = "executorch 1.5.1"
}
