#include "dojo/run/internal/expansions.h"

#include <algorithm>

namespace dojo::run::internal {

const std::vector<ExpansionRow>& all_expansions() {
  static const std::vector<ExpansionRow> rows = [] {
    std::vector<ExpansionRow> made;
    add_elementwise_expansions(made);
    add_movement_expansions(made);
    add_matrix_expansions(made);
    add_reduction_expansions(made);
    add_softmax_expansions(made);
    add_norm_expansions(made);
    add_pool_expansions(made);
    add_resize_expansions(made);
    add_indexing_expansions(made);
    add_loss_expansions(made);
    add_make_expansions(made);
    add_update_expansions(made);
    return made;
  }();
  return rows;
}

std::int64_t dim_of(std::int64_t dim, std::size_t rank) {
  return dim < 0 ? dim + std::max<std::int64_t>(static_cast<std::int64_t>(rank), 1) : dim;
}

std::vector<std::int64_t> dims_of(const graph::Op& op, std::size_t rank) {
  std::vector<std::int64_t> dims =
      graph::optional_ints_attr(op, "dim").value_or(std::vector<std::int64_t>{});
  if (dims.empty()) {
    return other_dims(rank, {});
  }
  for (std::int64_t& dim : dims) {
    dim = dim_of(dim, rank);
  }
  std::sort(dims.begin(), dims.end());
  if (rank == 0) {
    dims.clear();
  }
  return dims;
}

}  // namespace dojo::run::internal
