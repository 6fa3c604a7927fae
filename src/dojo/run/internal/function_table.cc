#include "dojo/run/internal/function_table.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "dojo/base/check.h"
#include "dojo/numerics/encode.h"
#include "dojo/run/internal/block_kernels.h"

namespace dojo::run::internal {

bool is_tabulated(const BlockKernel& kernel) {
  static constexpr std::array kTabulated{&kernels::gelu,          &kernels::gelu_tanh,
                                         &kernels::silu,          &kernels::sigmoid,
                                         &kernels::tanh,          &kernels::exp,
                                         &kernels::expm1,         &kernels::erf,
                                         &kernels::log,           &kernels::log1p,
                                         &kernels::softplus,      &kernels::elu,
                                         &kernels::gelu_backward, &kernels::gelu_tanh_backward,
                                         &kernels::silu_backward};
  return std::find(kTabulated.begin(), kTabulated.end(), &kernel) != kTabulated.end();
}

void tabulate(const BlockKernel& kernel, const Params& params, const numerics::StorageFormat& type,
              numerics::Isa isa, std::span<float> values) {
  constexpr std::size_t kStep = 256;
  const auto width = static_cast<std::size_t>(bytes_of(type.format));
  DOJO_CHECK(width <= 2 && values.size() == std::size_t{1} << (8 * width));
  std::array<float, kStep> ones{};
  ones.fill(1.0F);
  std::array<float, kStep> decoded{};
  std::array<std::byte, 2 * kStep> codes{};  // low byte first
  for (std::size_t first = 0; first < values.size(); first += kStep) {
    for (std::size_t i = 0; i < kStep; ++i) {
      codes[i * width] = static_cast<std::byte>(i);
      if (width > 1) {
        codes[i * width + 1] = static_cast<std::byte>(first / kStep);
      }
    }
    numerics::decode(std::span(codes).first(kStep * width), type, decoded, isa);
    const bool has_factor = kernel.in.size() > 1;
    const std::array<const void*, 2> in{has_factor ? ones.data() : decoded.data(), decoded.data()};
    void* const out = values.data() + first;
    BlockCall call;
    call.count = kStep;
    call.in = in.data();
    call.out = &out;
    call.params = &params;
    call.isa = isa;
    kernel.function(isa)(call);
  }
}

std::shared_ptr<const std::vector<float>> FunctionTables::of(const BlockKernel& kernel,
                                                             const Params& params, Format format) {
  std::shared_ptr<const std::vector<float>>& table = tables_[{&kernel, params.f, params.i, format}];
  if (table == nullptr) {
    std::vector<float> values(std::size_t{1} << 16);
    tabulate(kernel, params, {format}, numerics::best_isa(), values);
    table = std::make_shared<const std::vector<float>>(std::move(values));
  }
  return table;
}

}  // namespace dojo::run::internal
