#include "dojo/graph/internal/rows.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "dojo/base/check.h"

namespace dojo::graph {

AttributeInfo required(std::string_view name, AttributeType type) {
  return {name, type, Presence::Required, std::int64_t{0}};
}
AttributeInfo optional(std::string_view name, AttributeType type) {
  return {name, type, Presence::Optional, std::int64_t{0}};
}
AttributeInfo defaulted(std::string_view name, std::int64_t value) {
  return {name, AttributeType::Int, Presence::Defaulted, value};
}
AttributeInfo defaulted(std::string_view name, double value) {
  return {name, AttributeType::Float, Presence::Defaulted, value};
}
AttributeInfo defaulted(std::string_view name, bool value) {
  return {name, AttributeType::Bool, Presence::Defaulted, value};
}
AttributeInfo defaulted(std::string_view name, std::string_view value) {
  return {name, AttributeType::String, Presence::Defaulted, std::string(value)};
}
AttributeInfo defaulted_scalar(std::string_view name, std::int64_t value) {
  return {name, AttributeType::Scalar, Presence::Defaulted, value};
}
AttributeInfo per_dimension(std::string_view name, std::vector<std::int64_t> value) {
  return {name, AttributeType::IntsPerDimension, Presence::Defaulted, std::move(value)};
}

std::string show(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

Format float_class(Format format) { return is_float(format) ? Format::F32 : format; }

InferredTypes single(Format format, Shape shape) {
  InferredTypes types;
  types.push_back(TensorType{format, std::move(shape)});
  return types;
}

namespace {

std::string_view operand_name(const OpCall& call, std::size_t index) {
  const std::vector<OperandInfo>& operands = call.info->operands;
  return operands[std::min(index, operands.size() - 1)].name;
}

bool is_integer(Format format) { return info(format).kind == FormatKind::Integer; }

}  // namespace

Result<void> expect_shape(const OpCall& call, std::size_t index, const Shape& shape) {
  if (call.shape(index) != shape) {
    return invalid("{} has shape {}, expected {}", operand_name(call, index),
                   show(call.shape(index)), show(shape));
  }
  return {};
}

Result<void> expect_rank(const OpCall& call, std::size_t index, std::size_t least,
                         std::size_t most) {
  const std::size_t rank = call.shape(index).size();
  if (rank < least || rank > most) {
    const std::string wanted =
        least == most ? fmt::format("{}", least) : fmt::format("{} to {}", least, most);
    return invalid("{} has shape {}, expected {} dimensions", operand_name(call, index),
                   show(call.shape(index)), wanted);
  }
  return {};
}

Result<void> expect_factor(const OpCall& call, std::size_t index) {
  const Format format = call.input(index).format;
  if (!is_float(format) && format != Format::U8) {
    return invalid("{} is {}, expected a float or u8", operand_name(call, index),
                   info(format).name);
  }
  return {};
}

Result<void> expect_float(const OpCall& call, std::size_t index) {
  const Format format = call.input(index).format;
  if (!is_float(format)) {
    return invalid("{} is {}, expected a float", operand_name(call, index), info(format).name);
  }
  return {};
}

Result<void> expect_integer(const OpCall& call, std::size_t index) {
  const Format format = call.input(index).format;
  if (!is_integer(format)) {
    return invalid("{} is {}, expected an integer", operand_name(call, index), info(format).name);
  }
  return {};
}

Result<std::size_t> dimension(std::int64_t dim, std::size_t rank) {
  const auto size = static_cast<std::int64_t>(std::max<std::size_t>(rank, 1));
  if (dim < -size || dim >= size) {
    return invalid("dim {} is out of range for {} dimensions", dim, rank);
  }
  return static_cast<std::size_t>(dim < 0 ? dim + size : dim);
}

std::size_t checked_dimension(std::int64_t dim, std::size_t rank) {
  const Result<std::size_t> checked = dimension(dim, rank);
  DOJO_CHECK(checked.has_value());
  return *checked;
}

Result<std::vector<std::size_t>> dimensions(const std::vector<std::int64_t>& dims,
                                            std::size_t rank) {
  std::vector<std::size_t> out;
  if (dims.empty()) {
    for (std::size_t dim = 0; dim < rank; ++dim) {
      out.push_back(dim);
    }
    return out;
  }
  for (const std::int64_t dim : dims) {
    DOJO_TRY(const std::size_t checked, dimension(dim, rank));
    if (rank > 0) {
      out.push_back(checked);
    }
  }
  std::sort(out.begin(), out.end());
  if (std::adjacent_find(out.begin(), out.end()) != out.end()) {
    return invalid("dim {} names a dimension twice", show(dims));
  }
  return out;
}

std::optional<Format> dtype_attr(const OpCall& call, std::string_view name) {
  if (!has_attribute(call, name)) {
    return std::nullopt;
  }
  const std::optional<Format> format = format_named(string_attr(call, name));
  DOJO_CHECK(format.has_value());  // held by the check of attributes
  return float_class(*format);
}

Result<Shape> broadcast(const OpCall& call) {
  Shape out;
  for (const std::optional<TensorType>& input : call.inputs) {
    if (!input.has_value()) {
      continue;
    }
    const Shape& shape = input->shape;
    if (shape.size() > out.size()) {
      out.insert(out.begin(), shape.size() - out.size(), 1);
    }
    for (std::size_t i = 0; i < shape.size(); ++i) {
      std::int64_t& extent = out[out.size() - shape.size() + i];
      if (extent != shape[i] && extent != 1 && shape[i] != 1) {
        std::vector<std::string> shapes;
        for (const std::optional<TensorType>& each : call.inputs) {
          if (each.has_value()) {
            shapes.push_back(show(each->shape));
          }
        }
        return invalid("shapes {} do not broadcast", fmt::join(shapes, " and "));
      }
      extent = std::max(extent, shape[i]);
    }
  }
  return out;
}

namespace {

int category(Format format) { return is_float(format) ? 2 : format == Format::Bool ? 0 : 1; }

Format promote(Format a, Format b) {
  if (category(a) != category(b)) {
    return category(a) > category(b) ? a : b;
  }
  if (category(a) == 2) {
    return Format::F32;
  }
  return bytes_of(a) >= bytes_of(b) ? a : b;
}

// PyTorch's combine_categories: the later kind counts only if it is of a higher category.
std::optional<Format> combine(std::optional<Format> first, std::optional<Format> later) {
  if (!first.has_value() || !later.has_value()) {
    return first.has_value() ? first : later;
  }
  return category(*later) > category(*first) ? promote(*first, *later) : first;
}

}  // namespace

Format promoted(const OpCall& call) {
  std::optional<Format> dimensioned;
  std::optional<Format> scalars;
  std::optional<Format> attributes;
  const auto join = [](std::optional<Format>& kind, Format format) {
    kind = kind.has_value() ? promote(*kind, float_class(format)) : float_class(format);
  };
  for (std::size_t i = 0; i < call.info->operands.size(); ++i) {
    const std::string_view name = call.info->operands[i].name;
    if (name == "condition") {
      continue;
    }
    if (call.has_input(i)) {
      join(call.shape(i).empty() ? scalars : dimensioned, call.input(i).format);
    } else if (has_attribute(call, name)) {
      join(attributes, is_int_attr(call, name) ? Format::I64 : Format::F32);
    }
  }
  return combine(dimensioned, combine(scalars, attributes)).value_or(Format::F32);
}

Result<void> expect_mask(const OpCall& call, std::string_view name, std::size_t count) {
  const std::vector<std::int64_t> mask = ints_attr(call, name);
  const bool are_bits =
      std::all_of(mask.begin(), mask.end(), [](std::int64_t bit) { return bit == 0 || bit == 1; });
  if (mask.size() != count || !are_bits) {
    return invalid("{} is {}, expected {} numbers, each 0 or 1", name, show(mask), count);
  }
  return {};
}

std::vector<bool> mask_attr(const OpCall& call, std::string_view name, std::size_t count) {
  const std::vector<std::int64_t> mask = ints_attr(call, name);
  DOJO_CHECK(mask.size() == count);
  return {mask.begin(), mask.end()};
}

Result<InferredTypes> infer_like_first(const OpCall& call) {
  return single(float_class(call.input(0).format), call.shape(0));
}

}  // namespace dojo::graph
