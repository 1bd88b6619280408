/// Warm, calibrated blocks of executions, programs taking turns: the method of edgeprune's own
/// workers (edgeprune/measuring/timing.py), so that samples compare.
public struct Timing {
  /// Milliseconds of one execution.
  public struct Block {
    public let wallMs: Double
    public let cpuMs: Double
  }

  public typealias Execute = () throws -> Void

  private let wallNs: () -> UInt64
  private let cpuNs: () -> UInt64
  private let settled = 0.02
  private let leastMs = 100.0
  private let window = 4

  public init(wallNs: @escaping () -> UInt64, cpuNs: @escaping () -> UInt64) {
    self.wallNs = wallNs
    self.cpuNs = cpuNs
  }

  public func timed(_ execute: Execute, _ executions: Int) throws -> Block {
    let wall = wallNs()
    let cpu = cpuNs()
    for _ in 0..<executions {
      try execute()
    }
    let spent = Double(cpuNs() - cpu)
    let passed = Double(wallNs() - wall)
    return Block(
      wallMs: passed / 1e6 / Double(executions), cpuMs: spent / 1e6 / Double(executions))
  }

  /// How many executions make a block of about `minBlockMs` or more.
  public func calibrated(_ execute: Execute, minBlockMs: Double) throws -> Int {
    var executions = 1
    while true {
      let blockMs = try timed(execute, executions).wallMs * Double(executions)
      if blockMs >= minBlockMs {
        return executions
      }
      let wanted = Int((Double(executions) * minBlockMs / max(blockMs, 1e-6)).rounded(.up))
      // At most tenfold: the first executions are slow and say little about the rest.
      executions = max(executions + 1, min(wanted, executions * 10))
    }
  }

  /// Blocks until the last few are as fast as the few before; false at the limit.
  public func warmedUp(_ execute: Execute, _ executions: Int, limitMs: Double) throws -> Bool {
    var times: [Double] = []
    let started = wallNs()
    while true {
      let passed = Double(wallNs() - started) / 1e6
      if passed >= limitMs {
        return false
      }
      times.append(try timed(execute, executions).wallMs)
      if times.count < 2 * window || passed < min(leastMs, limitMs / 2) {
        continue
      }
      let last = median(Array(times.suffix(window)))
      let before = median(Array(times.dropLast(window).suffix(window)))
      if abs(last - before) <= settled * before {
        return true
      }
    }
  }

  /// `rounds` blocks of each program; each is first run untimed, so that its weights are back.
  public func interleaved(_ programs: [Execute], _ executions: [Int], rounds: Int) throws
    -> [[Block]]
  {
    var blocks: [[Block]] = programs.map { _ in [] }
    for first in 0..<rounds {
      for turn in programs.indices {
        let i = (first + turn) % programs.count
        if programs.count > 1 {
          _ = try timed(programs[i], executions[i])
        }
        blocks[i].append(try timed(programs[i], executions[i]))
      }
    }
    return blocks
  }

  private func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}
