// swift-tools-version:5.9
import PackageDescription

// The branch must be of the ExecuTorch that the programs were made for, or of the next minor one.
let executorch = "swiftpm-1.5.1"
let products = [
  "executorch", "backend_coreml", "backend_xnnpack", "kernels_optimized", "kernels_quantized",
]

let package = Package(
  name: "EdgepruneBench",
  platforms: [.iOS(.v17), .macOS(.v14)],
  products: [.library(name: "EdgepruneBench", targets: ["EdgepruneBench"])],
  dependencies: [
    .package(url: "https://github.com/pytorch/executorch.git", branch: executorch)
  ],
  targets: [
    .target(name: "EdgepruneBench"),
    .testTarget(
      name: "EdgepruneBenchTests",
      dependencies: ["EdgepruneBench"] + products.map { .product(name: $0, package: "executorch") },
      resources: [.copy("Programs")],
      // Backends and kernels register themselves when they are loaded; nothing of ours names them.
      linkerSettings: [.linkedLibrary("c++"), .unsafeFlags(["-Xlinker", "-all_load"])]
    ),
  ]
)
