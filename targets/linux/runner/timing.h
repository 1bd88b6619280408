// How long one execution takes: warm, calibrated blocks of it, programs taking turns. The method and
// its constants are those of edgeprune/measuring/timing.py, so that samples mean the same everywhere.
#pragma once

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

namespace timing {

using Execute = std::function<void()>;

struct Block {
  int64_t executions;
  double wall_ns;
  double cpu_ns;  // of the calling thread only
  double wall_ms() const { return wall_ns / executions / 1e6; }
  double cpu_ms() const { return cpu_ns / executions / 1e6; }
};

inline double now_ns(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

inline Block timed(const Execute& execute, int64_t executions) {
  const double wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
  for (int64_t i = 0; i < executions; ++i) execute();
  const double cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
  return {executions, now_ns(CLOCK_MONOTONIC) - wall, cpu_ns};
}

// How many executions make a block of at least about `min_block_ms`.
inline int64_t calibrated(const Execute& execute, double min_block_ms) {
  int64_t executions = 1;
  while (true) {
    const Block block = timed(execute, executions);
    if (block.wall_ns >= min_block_ms * 1e6) return executions;
    const double wanted = std::ceil(executions * min_block_ms * 1e6 / std::max(block.wall_ns, 1.0));
    // At most tenfold: the first executions are slow and say little about the rest.
    executions = std::max<int64_t>(
        executions + 1, static_cast<int64_t>(std::min(wanted, executions * 10.0)));
  }
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

// Run blocks until the median of the last few is that of the few before; false at the limit.
inline bool warmed_up(const Execute& execute, int64_t executions, double limit_ms) {
  constexpr size_t window = 4;
  constexpr double settled = 0.02;
  std::vector<double> times;
  const double started = now_ns(CLOCK_MONOTONIC);
  while (now_ns(CLOCK_MONOTONIC) - started < limit_ms * 1e6) {
    times.push_back(timed(execute, executions).wall_ms());
    if (times.size() >= 2 * window) {
      const double last = median({times.end() - window, times.end()});
      const double before = median({times.end() - 2 * window, times.end() - window});
      if (std::abs(last - before) <= settled * before) return true;
    }
  }
  return false;
}

// `rounds` blocks of each program, taken in turns, each first equally often. Where programs take
// turns each block is first run untimed, so that its weights are back in the caches.
inline std::vector<std::vector<Block>> interleaved(
    const std::vector<Execute>& programs, const std::vector<int64_t>& executions, int rounds) {
  const size_t n = programs.size();
  std::vector<std::vector<Block>> blocks(n);
  for (int round = 0; round < rounds; ++round) {
    for (size_t k = 0; k < n; ++k) {
      const size_t i = (round + k) % n;
      if (n > 1) timed(programs[i], executions[i]);
      blocks[i].push_back(timed(programs[i], executions[i]));
    }
  }
  return blocks;
}

}  // namespace timing
