#include "dojo/run/internal/memory.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "dojo/base/text.h"
#include "dojo/numerics/bias.h"
#include "dojo/run/memory_plan.h"

namespace dojo::run::internal {

AlignedBytes::AlignedBytes(std::int64_t size)
    : data_(static_cast<std::byte*>(
          ::operator new(static_cast<std::size_t>(std::max<std::int64_t>(size, 1)),
                         std::align_val_t{kArenaAlignment}))) {
  std::memset(data_.get(), 0, static_cast<std::size_t>(std::max<std::int64_t>(size, 1)));
}

void AlignedBytes::Free::operator()(std::byte* data) const {
  ::operator delete(data, std::align_val_t{kArenaAlignment});
}

std::string_view name_of(graph::ValueKind kind) {
  switch (kind) {
    case graph::ValueKind::Input:
      return "input";
    case graph::ValueKind::Weight:
      return "weight";
    case graph::ValueKind::Buffer:
      return "buffer";
    case graph::ValueKind::State:
      return "state";
    case graph::ValueKind::Op:
      break;
  }
  return "value";
}

std::string show(Format format, std::span<const std::int64_t> shape) {
  return fmt::format("{}[{}]", info(format).name, fmt::join(shape, ","));
}

Result<void> expect_type(const TensorInput& tensor, const graph::Value& leaf) {
  const std::string what = fmt::format("{} {}", name_of(leaf.kind), quoted(leaf.label));
  if (tensor.format != leaf.format ||
      !std::equal(tensor.shape.begin(), tensor.shape.end(), leaf.shape.begin(), leaf.shape.end())) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("{} is {}, but {} was given", what, show(leaf.format, leaf.shape),
                             show(tensor.format, tensor.shape))};
  }
  const std::int64_t size = graph::element_count(leaf.shape) * bytes_of(leaf.format);
  if (static_cast<std::int64_t>(tensor.bytes.size()) != size) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("{} needs {} bytes, {} were given", what, size, tensor.bytes.size())};
  }
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.bytes.data());
  if (address % static_cast<std::uintptr_t>(bytes_of(leaf.format)) != 0) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("{} is not aligned to its elements: give a copy", what)};
  }
  return {};
}

Result<int> bias_of_written(const TensorInput& tensor, const graph::Value& leaf,
                            const BiasPolicy& policy) {
  if (!has_bias(leaf.format)) {
    return 0;
  }
  if (tensor.bias.has_value()) {
    if (*tensor.bias < 0 || *tensor.bias > kMaxBias) {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("{}: bias {} is outside of 0..{}", quoted(leaf.label), *tensor.bias,
                               kMaxBias)};
    }
    return *tensor.bias;
  }
  if (tensor.format != Format::F32) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("{}: codes of {} need the bias they were made with",
                             quoted(leaf.label), info(leaf.format).name)};
  }
  float amax = 0;
  for (const float x : as_floats(tensor.bytes)) {
    amax = std::isfinite(x) ? std::max(amax, std::fabs(x)) : amax;
  }
  return numerics::choose_bias(policy, leaf.format, {}, amax);
}

}  // namespace dojo::run::internal
