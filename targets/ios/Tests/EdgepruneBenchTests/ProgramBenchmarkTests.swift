import CryptoKit
import ExecuTorch
import Foundation
import XCTest

#if SWIFT_PACKAGE
  import EdgepruneBench
#endif

/// Times the programs among the test's resources. What it finds goes to the log, one line each of
/// base64, which bench_ios.sh reads: a test on a phone has no other way out that needs no tools.
final class ProgramBenchmarkTests: XCTestCase {
  private let device = Device()

  func testTimePrograms() throws {
    let paths = programs()
    XCTAssertFalse(paths.isEmpty, "no programs among the resources: bench_ios.sh puts them there")
    device.cool()
    let before = device.circumstances()
    let process = try measured(paths)
    let head = BenchResult.Head(
      device: device.model(),
      system: device.system(),
      programs: try paths.map {
        BenchResult.Named(name: $0.lastPathComponent, sha256: try sha256($0))
      },
      before: before,
      after: device.circumstances()
    )
    try tell("EDGEPRUNE-PROCESS", process)
    try tell("EDGEPRUNE-HEAD", head)
  }

  private func measured(_ paths: [URL]) throws -> BenchResult.Process {
    let programs = try paths.map(loaded)
    let timing = Timing(
      wallNs: { clock_gettime_nsec_np(CLOCK_UPTIME_RAW) },
      cpuNs: { clock_gettime_nsec_np(CLOCK_THREAD_CPUTIME_ID) }
    )
    let executions = try programs.map { try timing.calibrated($0, minBlockMs: 5) }
    let settled = try zip(programs, executions).map { program, count in
      try timing.warmedUp(program, count, limitMs: 1000)
    }
    let blocks = try timing.interleaved(programs, executions, rounds: number("ROUNDS", 20))
    let runs = zip(blocks, settled).map { taken, calm in
      // Several threads have CPU times of their own, so only the wall's are told.
      BenchResult.ProgramRun(wallMs: taken.map(\.wallMs), cpuMs: [], settled: calm)
    }
    return BenchResult.Process(
      runtime: "executorch " + (environment("EXECUTORCH") ?? "not told"),
      machine: device.machine(),
      programs: runs,
      peakRssBytes: paths.count == 1 ? device.peakRssBytes() : nil
    )
  }

  /// One execution of a program on inputs of the shapes that it declares.
  private func loaded(_ path: URL) throws -> Timing.Execute {
    let module = Module(filePath: path.path)
    try module.load("forward")
    let metadata = try module.methodMetadata("forward")
    let tensors = metadata.inputTensorMetadata
    for index in tensors.keys.sorted() {
      guard let tensor = tensors[index] else { continue }
      try module.setInput(try made(tensor), at: index)
    }
    return { let _: [Value] = try module.forward([]) }
  }

  private func made(_ metadata: TensorMetadata) throws -> ValueConvertible {
    let shape = metadata.shape
    let count = shape.reduce(1, *)
    switch metadata.dataType {
    case .float:
      return Tensor<Float>((0..<count).map { _ in Float.random(in: -1...1) }, shape: shape)
    // 0 and 1 are valid whatever whole numbers mean: tokens, indices, masks.
    case .long:
      return Tensor<Int64>((0..<count).map { _ in Int64.random(in: 0...1) }, shape: shape)
    case .int:
      return Tensor<Int32>((0..<count).map { _ in Int32.random(in: 0...1) }, shape: shape)
    case .char:
      return Tensor<Int8>((0..<count).map { _ in Int8.random(in: 0...1) }, shape: shape)
    default:
      throw XCTSkip("inputs of type \(metadata.dataType) are not made here")
    }
  }

  private func programs() -> [URL] {
    #if SWIFT_PACKAGE
      let bundle = Bundle.module
    #else
      let bundle = Bundle(for: type(of: self))
    #endif
    let inFolder = bundle.urls(forResourcesWithExtension: "pte", subdirectory: "Programs") ?? []
    let beside = bundle.urls(forResourcesWithExtension: "pte", subdirectory: nil) ?? []
    return (inFolder + beside).sorted { $0.lastPathComponent < $1.lastPathComponent }
  }

  private func sha256(_ path: URL) throws -> String {
    SHA256.hash(data: try Data(contentsOf: path)).map { String(format: "%02x", $0) }.joined()
  }

  private func tell(_ mark: String, _ value: some Encodable) throws {
    print("\(mark) \(try JSONEncoder().encode(value).base64EncodedString())")
  }

  private func number(_ name: String, _ otherwise: Int) -> Int {
    environment(name).flatMap(Int.init) ?? otherwise
  }

  private func environment(_ name: String) -> String? {
    ProcessInfo.processInfo.environment[name]
  }
}
