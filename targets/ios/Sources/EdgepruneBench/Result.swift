/// The result as `edgeprune report --import` reads it (docs/result-schema.md). A test of edgeprune
/// compares the names below with those that it reads.
public enum BenchResult {
  public static let format = "edgeprune-bench/1"
  public static let runner = "ios-xctest"

  /// Samples of one program in one process.
  public struct ProgramRun: Encodable {
    public let wall_ms: [Double]
    public let cpu_ms: [Double]
    public let settled: Bool

    public init(wallMs: [Double], cpuMs: [Double], settled: Bool) {
      wall_ms = wallMs
      cpu_ms = cpuMs
      self.settled = settled
    }
  }

  public struct State: Encodable {
    public let temperature_c: Double?
    public let frequency_mhz: Double?

    /// iOS lets no app read either.
    public init() {
      temperature_c = nil
      frequency_mhz = nil
    }
  }

  public struct Machine: Encodable {
    public let cpu: String
    public let architecture: String
    public let date: String

    public init(cpu: String, architecture: String, date: String) {
      self.cpu = cpu
      self.architecture = architecture
      self.date = date
    }
  }

  /// What one process answers.
  public struct Process: Encodable {
    public let runner = BenchResult.runner
    public let runtime: String
    public let machine: Machine
    public let before: State
    public let after: State
    public let programs: [ProgramRun]
    public let peak_rss_bytes: UInt64?

    public init(runtime: String, machine: Machine, programs: [ProgramRun], peakRssBytes: UInt64?) {
      self.runtime = runtime
      self.machine = machine
      before = State()
      after = State()
      self.programs = programs
      peak_rss_bytes = peakRssBytes
    }
  }

  public struct Named: Encodable {
    public let name: String
    public let sha256: String

    public init(name: String, sha256: String) {
      self.name = name
      self.sha256 = sha256
    }
  }

  /// What the system says of itself: ProcessInfo's thermal state from 0, low power mode, battery.
  public struct Circumstances: Encodable {
    public let thermal_status: Int
    public let battery_percent: Int?
    public let power_save: Bool

    public init(thermalStatus: Int, batteryPercent: Int?, powerSave: Bool) {
      thermal_status = thermalStatus
      battery_percent = batteryPercent
      power_save = powerSave
    }
  }

  /// The document without its processes, which the script adds: each is another run of the test.
  public struct Head: Encodable {
    public let format = BenchResult.format
    public let runner = BenchResult.runner
    public let device: String
    public let soc: String
    public let system: String
    public let threads: Int
    public let programs: [Named]
    public let before: Circumstances
    public let after: Circumstances
    public let warnings: [String]

    public init(
      device: String, system: String, programs: [Named], before: Circumstances, after: Circumstances
    ) {
      self.device = device
      soc = device
      self.system = system
      // The Swift package does not let us choose: 0 is the runtime's own choice.
      threads = 0
      self.programs = programs
      self.before = before
      self.after = after
      warnings = [
        "timed through Swift: copies of inputs and outputs are in it",
        "the runtime chose its number of threads",
      ]
    }
  }
}
