import SwiftUI

/// An empty app: on a phone, tests run inside of one.
@main
struct HostApp: App {
  var body: some Scene {
    WindowGroup { Text("edgeprune bench") }
  }
}
