// An app without a screen: its instrumentation test times the programs among its assets.
// `-Pexecutorch=VERSION` names the runtime; it must be the one that the programs were made for, or
// the next minor one.
plugins {
  id("com.android.application") version "8.7.3"
  id("org.jetbrains.kotlin.android") version "2.0.21"
}

val executorch = providers.gradleProperty("executorch").get()

android {
  namespace = "dev.edgeprune.bench"
  compileSdk = 35

  defaultConfig {
    applicationId = "dev.edgeprune.bench"
    minSdk = 23
    targetSdk = 35
    testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    buildConfigField("String", "EXECUTORCH", "\"executorch $executorch\"")
  }

  buildFeatures { buildConfig = true }

  // Programs are read as files: compressing them would only cost time.
  androidResources { noCompress += "pte" }

  compileOptions {
    sourceCompatibility = JavaVersion.VERSION_17
    targetCompatibility = JavaVersion.VERSION_17
  }
  kotlinOptions { jvmTarget = "17" }
}

dependencies {
  implementation("org.pytorch:executorch-android:$executorch")
  androidTestImplementation("androidx.test:runner:1.6.2")
  androidTestImplementation("androidx.test.ext:junit:1.2.1")
}
