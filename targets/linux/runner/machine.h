// What Linux and Android let us read of the machine: processor, clock, temperature, memory, load.
// Whatever cannot be read is left out of the answer as null, never guessed.
#pragma once

#include <dirent.h>
#include <sched.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace machine {

inline std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  line.erase(line.find_last_not_of(" \t\r\n") + 1);
  return line;
}

inline std::optional<double> number_in(const std::string& path) {
  std::istringstream line(first_line(path));
  double value;
  if (line >> value) return value;
  return std::nullopt;
}

inline std::vector<std::string> entries(const std::string& folder) {
  std::vector<std::string> names;
  if (DIR* dir = opendir(folder.c_str())) {
    while (const dirent* entry = readdir(dir)) names.push_back(entry->d_name);
    closedir(dir);
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::string architecture() {
  utsname names{};
  return uname(&names) == 0 ? names.machine : "unknown";
}

// x86 has "model name"; Arm boards have "Model" or "Hardware", or only the core's part number.
inline std::string processor() {
  std::map<std::string, std::string> fields;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || colon + 2 > line.size()) continue;
    std::string key = line.substr(0, colon);
    key.erase(key.find_last_not_of(" \t") + 1);
    fields.emplace(key, line.substr(std::min(colon + 2, line.size())));
  }
  for (const char* key : {"model name", "Model", "Hardware"}) {
    if (!fields[key].empty()) return fields[key];
  }
  if (!fields["CPU part"].empty()) return architecture() + " part " + fields["CPU part"];
  return architecture();
}

// The processors that this thread, and threads that it starts, may run on.
inline std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
  return cpus;
}

inline bool pin(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

inline std::string cpu_folder(int cpu) {
  return "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
}

// MHz now, the mean over the processors we may run on.
inline std::optional<double> frequency_mhz() {
  double sum = 0;
  int count = 0;
  for (const int cpu : allowed_cpus()) {
    if (const auto khz = number_in(cpu_folder(cpu) + "/cpufreq/scaling_cur_freq")) {
      sum += *khz / 1000;
      ++count;
    }
  }
  if (count) return sum / count;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("cpu MHz", 0) != 0) continue;
    std::istringstream value(line.substr(line.find(':') + 1));
    double mhz;
    if (value >> mhz) return mhz;
  }
  return std::nullopt;
}

inline std::string governor() {
  const auto cpus = allowed_cpus();
  return cpus.empty() ? "" : first_line(cpu_folder(cpus[0]) + "/cpufreq/scaling_governor");
}

inline bool on_processor(std::string sensor) {
  std::transform(sensor.begin(), sensor.end(), sensor.begin(), ::tolower);
  for (const char* word : {"cpu", "soc", "x86_pkg", "coretemp", "k10temp"}) {
    if (sensor.find(word) != std::string::npos) return true;
  }
  return false;
}

// The hottest processor sensor, degrees Celsius: thermal zones first, as boards and phones have them.
inline std::optional<double> temperature_c() {
  std::optional<double> hottest;
  const auto take = [&](const std::string& path) {
    const auto value = number_in(path);
    // Some phones give degrees, most give thousandths; what no processor survives is no reading.
    if (!value) return;
    const double celsius = std::abs(*value) > 1000 ? *value / 1000 : *value;
    if (celsius > 0 && celsius < 150) hottest = std::max(hottest.value_or(celsius), celsius);
  };
  const std::string zones = "/sys/class/thermal/", sensors = "/sys/class/hwmon/";
  for (const auto& zone : entries(zones)) {
    if (zone.rfind("thermal_zone", 0) == 0 && on_processor(first_line(zones + zone + "/type"))) {
      take(zones + zone + "/temp");
    }
  }
  if (hottest) return hottest;
  for (const auto& chip : entries(sensors)) {
    if (!on_processor(first_line(sensors + chip + "/name"))) continue;
    for (const auto& name : entries(sensors + chip)) {
      if (name.rfind("temp", 0) == 0 && name.find("_input") != std::string::npos) {
        take(sensors + chip + "/" + name);
      }
    }
  }
  return hottest;
}

// How often processors were slowed down for heat since boot (x86 counts it), where it is counted.
inline std::optional<double> throttle_events() {
  std::optional<double> sum;
  for (const int cpu : allowed_cpus()) {
    if (const auto n = number_in(cpu_folder(cpu) + "/thermal_throttle/core_throttle_count")) {
      sum = sum.value_or(0) + *n;
    }
  }
  return sum;
}

inline std::optional<double> load() { return number_in("/proc/loadavg"); }

// A field of /proc/self/status, bytes.
inline std::optional<double> memory_bytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name + ":", 0) != 0) continue;
    std::istringstream value(line.substr(name.size() + 1));
    double kilobytes;
    if (value >> kilobytes) return kilobytes * 1024;
  }
  return std::nullopt;
}

// Start the high-water mark of resident memory anew (proc_pid_clear_refs(5)).
inline void reset_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

inline std::string date() {
  const time_t now = time(nullptr);
  tm utc{};
  gmtime_r(&now, &utc);
  char out[32];
  strftime(out, sizeof out, "%Y-%m-%dT%H:%M:%S+00:00", &utc);
  return out;
}

}  // namespace machine
