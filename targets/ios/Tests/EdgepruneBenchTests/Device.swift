import Foundation

#if SWIFT_PACKAGE
  import EdgepruneBench
#endif
#if canImport(UIKit)
  import UIKit
#endif

/// What Apple's systems let an app read of the device.
struct Device {
  /// As in "iPhone16,2".
  func model() -> String {
    var name = utsname()
    uname(&name)
    return withUnsafeBytes(of: &name.machine) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  func system() -> String {
    #if os(iOS)
      let name = "iOS"
    #else
      let name = "macOS"
    #endif
    let version = ProcessInfo.processInfo.operatingSystemVersion
    return "\(name) \(version.majorVersion).\(version.minorVersion)"
  }

  func machine() -> BenchResult.Machine {
    let date = ISO8601DateFormatter().string(from: Date())
    return BenchResult.Machine(cpu: model(), architecture: "arm64", date: date)
  }

  func circumstances() -> BenchResult.Circumstances {
    let info = ProcessInfo.processInfo
    return BenchResult.Circumstances(
      thermalStatus: info.thermalState.rawValue,
      batteryPercent: batteryPercent(),
      powerSave: info.isLowPowerModeEnabled
    )
  }

  /// Waits until the system calls the device cool, for ten minutes at most.
  func cool() {
    let until = Date().addingTimeInterval(600)
    while ProcessInfo.processInfo.thermalState != .nominal && Date() < until {
      Thread.sleep(forTimeInterval: 5)
    }
  }

  /// The most memory that this process has held so far, as the system charges it.
  func peakRssBytes() -> UInt64? {
    var info = task_vm_info_data_t()
    let words = MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size
    var count = mach_msg_type_number_t(words)
    let told = withUnsafeMutablePointer(to: &info) {
      $0.withMemoryRebound(to: integer_t.self, capacity: words) {
        task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
      }
    }
    return told == KERN_SUCCESS ? UInt64(max(0, info.ledger_phys_footprint_peak)) : nil
  }

  private func batteryPercent() -> Int? {
    #if canImport(UIKit)
      UIDevice.current.isBatteryMonitoringEnabled = true
      let level = UIDevice.current.batteryLevel
      return level < 0 ? nil : Int((level * 100).rounded())
    #else
      return nil
    #endif
  }
}
