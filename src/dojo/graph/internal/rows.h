// What the files of the op table share: the functions that add rows, and helpers to infer shapes.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dojo/base/result.h"
#include "dojo/graph/op_table.h"

namespace dojo::graph {

// One function per file; op_table.cc calls each and sorts.
void add_matrix_rows(std::vector<OpInfo>& rows);
void add_elementwise_rows(std::vector<OpInfo>& rows);
void add_movement_rows(std::vector<OpInfo>& rows);
void add_reduction_rows(std::vector<OpInfo>& rows);
void add_softmax_rows(std::vector<OpInfo>& rows);
void add_norm_rows(std::vector<OpInfo>& rows);
void add_pool_rows(std::vector<OpInfo>& rows);
void add_resize_rows(std::vector<OpInfo>& rows);
void add_indexing_rows(std::vector<OpInfo>& rows);
void add_loss_rows(std::vector<OpInfo>& rows);
void add_make_rows(std::vector<OpInfo>& rows);
void add_update_rows(std::vector<OpInfo>& rows);

// --- attributes of a row ---
AttributeInfo required(std::string_view name, AttributeType type);
AttributeInfo optional(std::string_view name, AttributeType type);
AttributeInfo defaulted(std::string_view name, std::int64_t value);  // Int
AttributeInfo defaulted(std::string_view name, double value);        // Float
AttributeInfo defaulted(std::string_view name, bool value);          // Bool
AttributeInfo defaulted(std::string_view name, std::string_view value);
AttributeInfo defaulted_scalar(std::string_view name, std::int64_t value);
// IntsPerDimension; {} stands for what the row's documentation says.
AttributeInfo per_dimension(std::string_view name, std::vector<std::int64_t> value);

// --- inference ---
template <class... Args>
Error invalid(fmt::format_string<Args...> text, Args&&... args) {
  return Error{ErrorKind::InvalidInput, fmt::format(text, std::forward<Args>(args)...)};
}
template <class... Args>
Error unsupported(fmt::format_string<Args...> text, Args&&... args) {
  return Error{ErrorKind::Unsupported, fmt::format(text, std::forward<Args>(args)...)};
}

std::string show(const Shape& shape);  // "[2,3]"

// The format an output inferred from this one has: F32 for every float, otherwise itself.
Format float_class(Format format);

// One output of that type.
InferredTypes single(Format format, Shape shape);

// Operand `index` has this shape, or an error that names the operand and both shapes.
Result<void> expect_shape(const OpCall& call, std::size_t index, const Shape& shape);
Result<void> expect_rank(const OpCall& call, std::size_t index, std::size_t least,
                         std::size_t most);
// A float, or an 8-bit integer (exact in every format a factor is decoded to).
Result<void> expect_factor(const OpCall& call, std::size_t index);
Result<void> expect_float(const OpCall& call, std::size_t index);
Result<void> expect_integer(const OpCall& call, std::size_t index);

// -rank .. rank-1 brought to 0 .. rank-1; a scalar counts as rank 1.
Result<std::size_t> dimension(std::int64_t dim, std::size_t rank);
// The same for lists, ascending, each once; empty or absent: all dimensions.
Result<std::vector<std::size_t>> dimensions(const std::vector<std::int64_t>& dims,
                                            std::size_t rank);
// Of a checked attribute.
std::size_t checked_dimension(std::int64_t dim, std::size_t rank);

// The format a Dtype attribute names, float formats as F32; nullopt when absent.
std::optional<Format> dtype_attr(const OpCall& call, std::string_view name);

// The common shape of operands that broadcast, by NumPy's rules.
Result<Shape> broadcast(const OpCall& call);

// The format of an element-wise result by PyTorch's promotion: tensors with dimensions come before
// scalars in tensors, those before attributes, unless a later one is of a higher category
// (bool < integer < float).
Format promoted(const OpCall& call);

// bool[3] as 0 and 1.
std::vector<bool> mask_attr(const OpCall& call, std::string_view name, std::size_t count);
Result<void> expect_mask(const OpCall& call, std::string_view name, std::size_t count);

// Same type as operand 0, floats as F32.
Result<InferredTypes> infer_like_first(const OpCall& call);

}  // namespace dojo::graph
