// Tensors made from attributes, and optimisers.
#include <bit>
#include <cmath>

#include "dojo/base/check.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/expansions.h"

namespace dojo::run::internal {
namespace {

using graph::bool_attr;
using graph::float_attr;
using graph::is_int_attr;

Result<void> constant_tensor(Builder& b, std::string_view name) {
  Params params;
  const double value = float_attr(b.op(), name);
  params.f[0] = static_cast<float>(value);
  params.i[0] =
      is_int_attr(b.op(), name) ? graph::int_attr(b.op(), name) : static_cast<std::int64_t>(value);
  const Format format = b.out_value(0).format;
  if (format == Format::Bool) {
    params.i[0] = value != 0 ? 1 : 0;
  }
  b.map(is_float(format) ? kernels::full : kernels::full_int, {}, {b.out(0)}, params);
  return {};
}

Result<void> full(Builder& b) { return constant_tensor(b, "fill_value"); }
Result<void> scalar_tensor(Builder& b) { return constant_tensor(b, "s"); }

Result<void> arange(Builder& b) {
  Params params;
  const double start = float_attr(b.op(), "start");
  const double step = float_attr(b.op(), "step");
  params.f = {static_cast<float>(start), static_cast<float>(step)};
  params.i = {static_cast<std::int64_t>(start), static_cast<std::int64_t>(step)};
  b.map(is_float(b.out_value(0).format) ? kernels::arange : kernels::arange_int, {}, {b.out(0)},
        params);
  return {};
}

// 16 random bits per element: dropped if they are below p 2^16, rounded to an integer.
Result<void> mask(Builder& b) {
  const double p = float_attr(b.op(), "p");
  Params params;
  params.f[0] = static_cast<float>(1 / (1 - p));
  params.i[0] = graph::optional_int_attr(b.op(), "site").value_or(b.tensor_id(0));
  params.i[1] = std::lround(p * 65536);
  b.map(kernels::mask, {}, {b.out(0)}, params);
  return {};
}

Params decay_params(const Builder& b) {
  Params params;
  params.f[0] = static_cast<float>(float_attr(b.op(), "weight_decay"));
  params.f[1] = bool_attr(b.op(), "maximize") ? -1.0F : 1.0F;
  return params;
}

// Where output i goes; a kernel writes all its results.
View written(Builder& b, std::size_t i) {
  return b.has_out(i) ? b.out(i) : b.unread(b.in_shape(0));
}

Result<void> sgd(Builder& b) {
  Params params = decay_params(b);
  if (!b.has_in(2)) {
    b.map(kernels::sgd, {b.in(0), b.in(1), b.in(3)}, {written(b, 0)}, params);
    return {};
  }
  params.f[2] = static_cast<float>(float_attr(b.op(), "momentum"));
  params.f[3] = static_cast<float>(1 - float_attr(b.op(), "dampening"));
  params.i[0] = bool_attr(b.op(), "nesterov") ? 1 : 0;
  b.map(kernels::sgd_momentum, {b.in(0), b.in(1), b.in(2), b.in(3)}, {written(b, 0), written(b, 1)},
        params);
  return {};
}

Result<void> adamw(Builder& b) {
  Params params = decay_params(b);
  const double beta1 = float_attr(b.op(), "beta1");
  const double beta2 = float_attr(b.op(), "beta2");
  params.f[2] = static_cast<float>(beta1);
  params.f[3] = static_cast<float>(1 - beta1);
  params.f[4] = static_cast<float>(beta2);
  params.f[5] = static_cast<float>(1 - beta2);
  params.f[6] = static_cast<float>(float_attr(b.op(), "eps"));
  params.f[7] = static_cast<float>(float_attr(b.op(), "v_scale"));
  params.i[0] = bool_attr(b.op(), "decoupled") ? 1 : 0;
  params.i[1] = std::bit_cast<std::int64_t>(beta1);
  params.i[2] = std::bit_cast<std::int64_t>(beta2);
  View step = b.in(5);
  if (is_float(b.in_format(5))) {
    step = b.temporary({}, Format::I64);
    b.map(kernels::truncate, {b.in(5)}, {step});
  }
  b.map(kernels::adamw, {b.in(0), b.in(1), b.in(2), b.in(3), b.in(4), step},
        {written(b, 0), written(b, 1), written(b, 2)}, params);
  return {};
}

}  // namespace

void add_make_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"aten.full", internal::full},
      {"aten.scalar_tensor", scalar_tensor},
      {"aten.arange", internal::arange},
      {"dojo.mask", internal::mask},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

void add_update_expansions(std::vector<ExpansionRow>& rows) {
  const std::vector<ExpansionRow> made{
      {"dojo.sgd", internal::sgd},
      {"dojo.adamw", internal::adamw},
  };
  rows.insert(rows.end(), made.begin(), made.end());
}

}  // namespace dojo::run::internal
