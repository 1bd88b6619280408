// edgeprune_runner: run ExecuTorch programs on this machine and say how long they take.
// What it answers is one JSON document, the same as `edgeprune measure` has from its own workers.

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <thread>

#include "json.h"
#include "machine.h"
#include "program.h"
#include "timing.h"

namespace {

constexpr const char* kUsage = R"(usage: edgeprune_runner time|execute|trace|info [options] PROGRAM.pte...
  time      latency samples of the programs, which take turns
  execute   run one program on inputs from files: --input FILE for each, --outputs PREFIX
  trace     run one program --rounds times under the event tracer: --etdump FILE
  info      the machine and the runtime only
options
  --out FILE         write the answer there instead of stdout
  --threads N        threads of the runtime (1)
  --cpus 2,3         run on these processors only
  --rounds N         samples of each program (20)
  --min-block-ms X   a sample is the mean of a block at least this long (5)
  --warmup-ms X      longest warm-up (1000)
  --seed N           of random inputs (0)
  --input FILE       raw input in the program's own layout, one option for each input; may hold
                     several batches one after the other
  --outputs PREFIX   write PREFIX0.bin, PREFIX1.bin, ...
  --etdump FILE      write the trace there
  --cool-below C     wait until the processor is below C degrees Celsius
  --cool-wait-s S    ... but not longer than this (300)
)";

struct Options {
  std::string task;
  std::map<std::string, std::string> values;
  std::vector<std::string> inputs, programs;

  std::string get(const std::string& key, const std::string& fallback = "") const {
    const auto found = values.find(key);
    return found == values.end() ? fallback : found->second;
  }
  double number(const std::string& key, double fallback) const {
    const std::string given = get(key);
    if (given.empty()) return fallback;
    char* end = nullptr;
    const double value = std::strtod(given.c_str(), &end);
    if (*end != '\0' || !(value >= 0)) throw CannotRun("--" + key + " " + given + " is no number");
    return value;
  }
};

Options parsed(int argc, char** argv) {
  static const char* known[] = {
      "out", "threads", "cpus", "rounds", "min-block-ms", "warmup-ms", "seed", "input", "outputs",
      "etdump", "cool-below", "cool-wait-s"};
  Options options;
  if (argc > 1) options.task = argv[1];
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) != 0) {
      options.programs.push_back(word);
      continue;
    }
    const std::string key = word.substr(2);
    if (std::find(std::begin(known), std::end(known), key) == std::end(known) || i + 1 == argc) {
      throw CannotRun("unknown option " + word + ", or nothing after it");
    }
    if (key == "input") {
      options.inputs.push_back(argv[++i]);
    } else {
      options.values[key] = argv[++i];
    }
  }
  return options;
}

const std::string& only_program(const Options& options) {
  if (options.programs.size() != 1) throw CannotRun(options.task + " takes exactly one program");
  return options.programs[0];
}

std::string state_now() {
  return json::Object()
      .add("temperature_c", json::number(machine::temperature_c()))
      .add("frequency_mhz", json::number(machine::frequency_mhz()))
      .str();
}

// Seconds waited until the processor was cool enough; nothing where there is no sensor.
double cooled(const Options& options) {
  const double below = options.number("cool-below", 0), most = options.number("cool-wait-s", 300);
  double waited = 0;
  for (; below > 0 && waited < most; waited += 1) {
    const auto now = machine::temperature_c();
    if (!now || *now < below) break;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  return waited;
}

void add_machine(json::Object& answer) {
  const std::string governor = machine::governor();
  answer.add("machine", json::Object()
      .add("cpu", json::text(machine::processor()))
      .add("architecture", json::text(machine::architecture()))
      .add("cpus", json::numbers(machine::allowed_cpus()))
      .add("governor", governor.empty() ? "null" : json::text(governor))
      .add("load", json::number(machine::load()))
      .add("date", json::text(machine::date()))
      .str());
}

std::string shapes(const Program& program) {
  std::vector<std::string> inputs;
  for (size_t i = 0; i < program.inputs(); ++i) {
    inputs.push_back(Program::described(program.input(i)));
  }
  return json::array(inputs);
}

void time_programs(const Options& options, json::Object& answer) {
  if (options.programs.empty()) throw CannotRun("no program given");
  const int threads = static_cast<int>(options.number("threads", 1));
  const int rounds = static_cast<int>(options.number("rounds", 20));
  machine::reset_peak_memory();
  const auto before = machine::memory_bytes("VmRSS");
  std::vector<std::unique_ptr<Program>> programs;
  std::vector<timing::Execute> executes;
  std::vector<int64_t> executions;
  std::vector<bool> settled;
  for (const auto& path : options.programs) {
    programs.push_back(std::make_unique<Program>(path));
    programs.back()->fill_randomly(static_cast<uint64_t>(options.number("seed", 0)));
    executes.push_back([program = programs.back().get()] { program->execute(); });
    executes.back()();
  }
  answer.add("cooled_s", json::number(cooled(options)));
  for (const auto& execute : executes) {
    executions.push_back(timing::calibrated(execute, options.number("min-block-ms", 5)));
  }
  for (size_t i = 0; i < executes.size(); ++i) {
    const double limit = options.number("warmup-ms", 1000);
    settled.push_back(timing::warmed_up(executes[i], executions[i], limit));
  }
  const auto throttled = machine::throttle_events();
  answer.add("before", state_now());
  const auto blocks = timing::interleaved(executes, executions, rounds);
  answer.add("after", state_now());
  const auto now = machine::throttle_events();
  answer.add("throttled", throttled && now ? json::boolean(*now > *throttled) : "null");
  const auto peak = machine::memory_bytes("VmHWM");
  std::vector<std::string> described;
  for (size_t i = 0; i < programs.size(); ++i) {
    std::vector<double> wall, cpu;
    for (const auto& block : blocks[i]) {
      wall.push_back(block.wall_ms());
      // The runtime's other threads have CPU times of their own.
      if (threads == 1) cpu.push_back(block.cpu_ms());
    }
    described.push_back(json::Object()
        .add("wall_ms", json::numbers(wall))
        .add("cpu_ms", json::numbers(cpu))
        .add("planned_inputs", json::boolean(programs[i]->planned_inputs()))
        .add("settled", json::boolean(settled[i]))
        .add("executions", std::to_string(executions[i]))
        .add("inputs", shapes(*programs[i]))
        .str());
  }
  answer.add("programs", json::array(described));
  answer.add("peak_rss_bytes",
      before && peak ? json::number(std::max(0.0, *peak - *before)) : "null");
}

std::vector<char> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw CannotRun("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void execute_program(const Options& options, json::Object& answer) {
  Program program(only_program(options));
  if (options.inputs.size() != program.inputs()) {
    throw CannotRun("the program takes " + std::to_string(program.inputs()) + " inputs, " +
                    shapes(program) + ", and " + std::to_string(options.inputs.size()) +
                    " were given");
  }
  std::vector<std::vector<char>> inputs;
  size_t batches = 0;
  for (size_t i = 0; i < program.inputs(); ++i) {
    inputs.push_back(bytes_of(options.inputs[i]));
    const size_t size = inputs[i].size(), wanted = program.input_bytes(i);
    const size_t held = wanted ? size / wanted : 0;
    if (held == 0 || size % wanted || (i && held != batches)) {
      throw CannotRun(options.inputs[i] + " has " + std::to_string(size) + " bytes; the program's " +
                      "inputs are " + shapes(program));
    }
    batches = held;
  }
  std::vector<std::ofstream> files;
  for (size_t i = 0; i < program.outputs(); ++i) {
    const std::string path = options.get("outputs", "output") + std::to_string(i) + ".bin";
    files.emplace_back(path, std::ios::binary);
    if (!files.back()) throw CannotRun("cannot write " + path);
  }
  for (size_t batch = 0; batch < batches; ++batch) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      program.fill(i, inputs[i].data() + batch * program.input_bytes(i));
    }
    if (!program.planned_inputs()) program.set_inputs();
    program.execute();
    for (size_t i = 0; i < files.size(); ++i) {
      const auto& tensor = program.output(i);
      files[i].write(static_cast<const char*>(tensor.const_data_ptr()),
                     static_cast<std::streamsize>(tensor.nbytes()));
    }
  }
  std::vector<std::string> outputs;
  for (size_t i = 0; i < files.size(); ++i) outputs.push_back(Program::described(program.output(i)));
  answer.add("batches", std::to_string(batches));
  answer.add("inputs", shapes(program)).add("outputs", json::array(outputs));
}

void trace_program(const Options& options, json::Object& answer) {
  if (options.get("etdump").empty()) throw CannotRun("trace needs --etdump FILE");
  Program program(only_program(options), true);
  program.fill_randomly(static_cast<uint64_t>(options.number("seed", 0)));
  const int rounds = static_cast<int>(options.number("rounds", 20));
  for (int i = 0; i < rounds; ++i) program.execute();
  program.write_trace(options.get("etdump"));
  answer.add("rounds", std::to_string(rounds)).add("after", state_now());
}

// What every answer begins with is all that is asked for.
void tell(const Options&, json::Object& answer) { answer.add("after", state_now()); }

void prepare(const Options& options) {
  std::vector<int> cpus;
  std::istringstream listed(options.get("cpus"));
  for (std::string cpu; std::getline(listed, cpu, ',');) cpus.push_back(std::atoi(cpu.c_str()));
  // Before the thread pool is made: its threads inherit where they may run.
  if (!cpus.empty() && !machine::pin(cpus)) {
    throw CannotRun("cannot run on processors " + options.get("cpus") + ": " + strerror(errno));
  }
  use_threads(static_cast<int>(options.number("threads", 1)));
}

}  // namespace

int main(int argc, char** argv) {
  static const std::map<std::string, void (*)(const Options&, json::Object&)> tasks = {
      {"time", time_programs}, {"execute", execute_program}, {"trace", trace_program}, {"info", tell}};
  et::runtime_init();
  Options options;
  std::string text;
  bool done = false;
  try {
    options = parsed(argc, argv);
    const auto task = tasks.find(options.task);
    if (task == tasks.end()) {
      std::cerr << kUsage;
      return 2;
    }
    json::Object answer;
    answer.add("format", json::text("edgeprune-samples/1"));
    answer.add("runner", json::text("c++")).add("runtime", json::text(EDGEPRUNE_RUNTIME));
    prepare(options);
    add_machine(answer);
    task->second(options, answer);
    answer.add("process_s", json::number(timing::now_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9));
    text = answer.str();
    done = true;
  } catch (const CannotRun& error) {
    text = json::Object().add("error", json::text(error.what())).str();
  }
  const std::string out = options.get("out");
  if (out.empty()) {
    std::cout << text << std::endl;
  } else if (!(std::ofstream(out) << text << std::endl)) {
    std::cerr << "cannot write " << out << std::endl;
    return 2;
  }
  return done ? 0 : 2;
}
