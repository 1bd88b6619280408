// A .pte in ExecuTorch's runtime: loaded, with inputs that it owns, executed.
#pragma once

#include <executorch/devtools/etdump/etdump_flatcc.h>
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/runtime.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "json.h"

// The wheel's libraries export the thread pool; its header is not among those the wheel carries.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
  size_t get_thread_count() const;
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool

namespace et = executorch::runtime;
using executorch::aten::ScalarType;

// Something the user can mend; the message goes into the answer.
struct CannotRun : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Before anything is loaded: delegates take the pool as they find it.
inline void use_threads(int threads) {
  auto* pool = executorch::extension::threadpool::get_threadpool();
  const bool set = pool && pool->_unsafe_reset_threadpool(threads);
  if (!set || static_cast<int>(pool->get_thread_count()) != threads) {
    throw CannotRun("the runtime's thread pool cannot be set to " + std::to_string(threads));
  }
}

inline const char* dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Byte: return "uint8";
    case ScalarType::Char: return "int8";
    case ScalarType::Short: return "int16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Half: return "float16";
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Bool: return "bool";
    default: return nullptr;
  }
}

class Program {
 public:
  explicit Program(const std::string& path, bool traced = false)
      : path_(path),
        module_(
            path,
            executorch::extension::Module::LoadMode::File,
            traced ? std::make_unique<executorch::etdump::ETDumpGen>() : nullptr) {
    // Full verification turns most damage of the file into an error instead of a crash.
    must(module_.load(et::Program::Verification::InternalConsistency), "load");
    const auto names = module_.method_names();
    if (!names.ok() || names->empty()) throw CannotRun(path_ + " has no method");
    name_ = names->count("forward") ? "forward" : *names->begin();
    must(module_.load_method(name_), "prepare");
    method_ = taken(module_.method(name_), "find the method of");
    const auto meta = method_->method_meta();
    for (size_t i = 0; i < meta.num_inputs(); ++i) add_input(meta, i);
    for (size_t i = 0; i < meta.num_outputs(); ++i) add_output(meta, i);
  }

  // Normal numbers for floats; 0 and 1 are valid whatever integers mean (tokens, masks, pixels).
  void fill_randomly(uint64_t seed) {
    std::mt19937_64 bits(seed);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      auto& tensor = *inputs_[i];
      const auto count = static_cast<size_t>(tensor.numel());
      char* const data = buffers_[i].data();
      for (size_t k = 0; k < count; ++k) {
        switch (tensor.scalar_type()) {
          case ScalarType::Float: reinterpret_cast<float*>(data)[k] = normal(bits); break;
          case ScalarType::Double: reinterpret_cast<double*>(data)[k] = normal(bits); break;
          case ScalarType::Half:
            reinterpret_cast<executorch::aten::Half*>(data)[k] =
                executorch::aten::Half(normal(bits));
            break;
          default:  // little-endian integers of any width, and bool
            data[k * tensor.element_size()] = static_cast<char>(bits() & 1);
        }
      }
    }
    set_inputs();
  }

  size_t inputs() const { return inputs_.size(); }
  size_t input_bytes(size_t i) const { return buffers_[i].size(); }

  void fill(size_t i, const char* data) { std::copy_n(data, buffers_[i].size(), buffers_[i].data()); }

  // Inputs in our memory are set once and read in place. Planned ones live in the program's arena,
  // where a run overwrites them, so they are copied in at every execution.
  void set_inputs() {
    must(method_->set_inputs({values_.data(), values_.size()}), "set the inputs of");
  }
  bool planned_inputs() const { return planned_inputs_; }

  void execute() {
    if (planned_inputs_) set_inputs();
    must(method_->execute(), "execute");
  }

  size_t outputs() const { return method_->outputs_size(); }
  const executorch::aten::Tensor& output(size_t i) const {
    const auto& value = method_->get_output(i);
    if (!value.isTensor()) throw CannotRun(path_ + ": output " + std::to_string(i) + " is no tensor");
    return value.toTensor();
  }

  // What the event tracer wrote of all executions since loading.
  void write_trace(const std::string& path) {
    auto* tracer = static_cast<executorch::etdump::ETDumpGen*>(module_.event_tracer());
    const auto data = tracer->get_etdump_data();
    std::ofstream file(path, std::ios::binary);
    file.write(static_cast<const char*>(data.buf), static_cast<std::streamsize>(data.size));
    const bool written = file.good();
    std::free(data.buf);
    if (!written) throw CannotRun("cannot write " + path);
  }

  static std::string described(const executorch::aten::Tensor& tensor) {
    const char* dtype = dtype_name(tensor.scalar_type());
    return json::Object()
        .add("dtype", json::text(dtype ? dtype : "unknown"))
        .add("shape", json::numbers(std::vector<int64_t>(tensor.sizes().begin(), tensor.sizes().end())))
        .str();
  }
  const executorch::aten::Tensor& input(size_t i) const { return *inputs_[i]; }

 private:
  void must(et::Error error, const char* what) const {
    if (error != et::Error::Ok) {
      throw CannotRun(
          std::string("the runtime cannot ") + what + " " + path_ + ": " + et::to_string(error));
    }
  }

  template <typename T>
  T taken(et::Result<T> result, const char* what) const {
    must(result.error(), what);
    return std::move(*result);
  }

  void add_input(const et::MethodMeta& meta, size_t i) {
    const auto info = taken(meta.input_tensor_meta(i), "find the inputs of");
    if (!dtype_name(info.scalar_type())) {
      throw CannotRun(path_ + ": input " + std::to_string(i) + " has a type that we cannot make");
    }
    planned_inputs_ = planned_inputs_ || info.is_memory_planned();
    buffers_.emplace_back(info.nbytes());
    inputs_.push_back(executorch::extension::make_tensor_ptr(
        {info.sizes().begin(), info.sizes().end()},
        buffers_.back().data(),
        {info.dim_order().begin(), info.dim_order().end()},
        {},
        info.scalar_type()));
    values_.emplace_back(*inputs_.back());
  }

  // Outputs that the program does not plan memory for need ours.
  void add_output(const et::MethodMeta& meta, size_t i) {
    const auto tag = meta.output_tag(i);
    if (!tag.ok() || *tag != et::Tag::Tensor) return;
    const auto info = taken(meta.output_tensor_meta(i), "find the outputs of");
    if (info.is_memory_planned() || info.nbytes() == 0) return;
    results_.emplace_back(info.nbytes());
    must(
        method_->set_output_data_ptr(results_.back().data(), results_.back().size(), i),
        "set the outputs of");
  }

  std::string path_;
  executorch::extension::Module module_;
  std::string name_;
  et::Method* method_ = nullptr;
  bool planned_inputs_ = false;
  std::vector<std::vector<char>> buffers_, results_;
  std::vector<executorch::extension::TensorPtr> inputs_;
  std::vector<et::EValue> values_;
};
