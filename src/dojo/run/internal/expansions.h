// The expansions of each family of ops: rows that expansions.cc puts into one table.
#pragma once

#include <vector>

#include "dojo/run/internal/builder.h"

namespace dojo::run::internal {

void add_elementwise_expansions(std::vector<ExpansionRow>& rows);
void add_movement_expansions(std::vector<ExpansionRow>& rows);
void add_matrix_expansions(std::vector<ExpansionRow>& rows);
void add_reduction_expansions(std::vector<ExpansionRow>& rows);
void add_softmax_expansions(std::vector<ExpansionRow>& rows);
void add_norm_expansions(std::vector<ExpansionRow>& rows);
void add_pool_expansions(std::vector<ExpansionRow>& rows);
void add_resize_expansions(std::vector<ExpansionRow>& rows);
void add_indexing_expansions(std::vector<ExpansionRow>& rows);
void add_loss_expansions(std::vector<ExpansionRow>& rows);
void add_make_expansions(std::vector<ExpansionRow>& rows);
void add_update_expansions(std::vector<ExpansionRow>& rows);

// The dimensions an attribute `dim` names (0 .. rank-1, ascending); all if it is absent or empty.
std::vector<std::int64_t> dims_of(const graph::Op& op, std::size_t rank);
std::int64_t dim_of(std::int64_t dim, std::size_t rank);

}  // namespace dojo::run::internal
