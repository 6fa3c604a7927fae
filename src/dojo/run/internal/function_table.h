// Functions of the codes of a format as tables: what takes longer to compute than to look up, and
// is applied to tensors of far more elements than there are codes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "dojo/numerics/isa.h"
#include "dojo/numerics/storage.h"
#include "dojo/run/internal/map_program.h"

namespace dojo::run::internal {

// A function of one operand, or a first operand times a function of the second.
bool is_tabulated(const BlockKernel& kernel);

// values[code] = that function of each code of a format of 8 or 16 bits; 2^bits values.
void tabulate(const BlockKernel& kernel, const Params& params, const numerics::StorageFormat& type,
              numerics::Isa isa, std::span<float> values);

// Tables of 16-bit formats without a bias, each made once.
class FunctionTables {
 public:
  std::shared_ptr<const std::vector<float>> of(const BlockKernel& kernel, const Params& params,
                                               Format format);

 private:
  using Key =
      std::tuple<const BlockKernel*, std::array<float, 8>, std::array<std::int64_t, 4>, Format>;
  std::map<Key, std::shared_ptr<const std::vector<float>>> tables_;
};

}  // namespace dojo::run::internal
