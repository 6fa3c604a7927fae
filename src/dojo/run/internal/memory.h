// Memory that an executor owns, and checks of memory that it is handed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "dojo/base/result.h"
#include "dojo/graph/graph.h"
#include "dojo/run/executor.h"

namespace dojo::run::internal {

// Zeroed, at the alignment of the memory plan.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::int64_t size);
  std::byte* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
};

// Aligned bytes of FP32 values.
inline std::span<const float> as_floats(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)};
}

// "input", "weight", ...
std::string_view name_of(graph::ValueKind kind);

// "f32[2,3]".
std::string show(Format format, std::span<const std::int64_t> shape);

// The tensor has the leaf's format, shape, size and alignment, or an error that names the leaf.
Result<void> expect_type(const TensorInput& tensor, const graph::Value& leaf);

// The bias that a leaf takes with what is written to it: the one that came with it, or what the
// rule says for FP32 values without one; 0 if the leaf's format has none. Errors: codes without
// their bias; a bias out of range.
Result<int> bias_of_written(const TensorInput& tensor, const graph::Value& leaf,
                            const BiasPolicy& policy);

}  // namespace dojo::run::internal
