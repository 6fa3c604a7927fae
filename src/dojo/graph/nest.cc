#include "dojo/graph/nest.h"

#include <algorithm>
#include <limits>

#include "dojo/base/check.h"
#include "dojo/graph/internal/saturating.h"

namespace dojo::graph {
namespace {

const StageLoop* find_loop(const Stage& stage, int loop) {
  for (const StageLoop& each : stage.loops) {
    if (each.loop == loop) {
      return &each;
    }
  }
  return nullptr;
}

// The tensor extent that counts for a loop, if an operand of the stage says so.
std::optional<std::int64_t> counted_extent(const Stage& stage, int loop) {
  for (const Operand& operand : stage.operands) {
    for (std::size_t dim = 0; dim < operand.access.size(); ++dim) {
      const auto* affine = std::get_if<Affine>(&operand.access[dim]);
      if (affine != nullptr && affine->counted_loop == loop) {
        return operand.shape[dim];
      }
    }
  }
  return std::nullopt;
}

// The share of `total` that falls to `part` of `extent` points, rounded up.
std::int64_t share(std::int64_t total, std::int64_t part, std::int64_t extent) {
  __extension__ using Wide = __int128;
  return extent == 0
             ? 0
             : static_cast<std::int64_t>((static_cast<Wide>(total) * part + extent - 1) / extent);
}

void add_scaled(PointCost& total, const PointCost& cost, std::int64_t count) {
  const auto add = [count](std::int64_t& sum, std::int64_t each) {
    sum = saturating_add(sum, saturating_multiply(each, count));
  };
  add(total.macs, cost.macs);
  add(total.vector_ops, cost.vector_ops);
  add(total.special_ops, cost.special_ops);
  add(total.conversions, cost.conversions);
}

}  // namespace

std::optional<int> LoopNest::loop_named(std::string_view name) const {
  for (std::size_t i = 0; i < loops.size(); ++i) {
    if (loops[i].name == name) {
      return static_cast<int>(i);
    }
  }
  return std::nullopt;
}

Slice whole_slice(const LoopNest& nest) {
  Slice slice;
  for (const Loop& loop : nest.loops) {
    slice.push_back({0, loop.extent});
  }
  return slice;
}

Work work(const LoopNest& nest, const Stage& stage) { return work(nest, stage, whole_slice(nest)); }

Work work(const LoopNest& nest, const Stage& stage, const Slice& slice) {
  const auto picks = [&stage](int loop) {
    return std::any_of(stage.loops.begin(), stage.loops.end(),
                       [loop](const StageLoop& each) { return each.picks == loop; });
  };
  Work result{.points = 1, .results = 1, .total = {}};
  for (const StageLoop& each : stage.loops) {
    const std::int64_t extent = nest.loops[each.loop].extent;
    const std::int64_t length = slice[each.loop].length();
    if (each.kind == LoopKind::Parallel) {
      result.results = saturating_multiply(result.results, length);
    }
    if (picks(each.loop)) {
      continue;
    }
    std::int64_t counted = length;
    if (const auto tensor_extent = counted_extent(stage, each.loop)) {
      counted = share(*tensor_extent, length, extent);
    }
    if (each.picks.has_value()) {
      counted = share(counted, slice[*each.picks].length(), nest.loops[*each.picks].extent);
    }
    result.points = saturating_multiply(result.points, counted);
  }
  add_scaled(result.total, stage.per_point, result.points);
  add_scaled(result.total, stage.per_result, result.results);
  return result;
}

Flops flops(const LoopNest& nest) {
  std::int64_t macs = 0;
  for (const Stage& stage : nest.stages) {
    macs = saturating_add(macs, work(nest, stage).total.macs);
  }
  return Flops(saturating_multiply(2, macs));
}

namespace {

// The least and greatest value of the numerator of an affine map over a slice without empty loops.
struct Range {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

Range numerator_range(const Affine& affine, const Slice& slice) {
  Range range{affine.offset, affine.offset};
  for (const Term& term : affine.terms) {
    const Interval& loop = slice[term.loop];
    const std::int64_t first = saturating_multiply(term.stride, loop.begin);
    const std::int64_t last = saturating_multiply(term.stride, loop.end - 1);
    range.low += std::min(first, last);
    range.high += std::max(first, last);
  }
  if (affine.ratio.has_value()) {
    const Ratio& ratio = *affine.ratio;
    const Interval& loop = slice[ratio.loop];
    range.low += floor_divide(ratio.multiplier * loop.begin + ratio.addend, ratio.divisor);
    range.high += floor_divide(ratio.multiplier * (loop.end - 1) + ratio.addend, ratio.divisor);
  }
  return range;
}

bool is_empty(const Affine& affine, const Slice& slice) {
  const bool has_empty_term =
      std::any_of(affine.terms.begin(), affine.terms.end(),
                  [&slice](const Term& term) { return slice[term.loop].is_empty(); });
  return has_empty_term || (affine.ratio.has_value() && slice[affine.ratio->loop].is_empty());
}

bool contains(const Affine& affine, int loop) {
  const bool has_term = std::any_of(affine.terms.begin(), affine.terms.end(),
                                    [loop](const Term& term) { return term.loop == loop; });
  return has_term || (affine.ratio.has_value() && affine.ratio->loop == loop);
}

// Whether some point of the whole nest reads outside of the tensor, or where nothing divides.
bool can_miss(const Affine& affine, const Slice& slice, std::int64_t extent) {
  const Range range = numerator_range(affine, slice);
  return affine.divisor != 1 || range.low < 0 || range.high >= extent;
}

// A dimension of an operand whose index can fall outside.
struct Constraint {
  const Affine* affine;
  std::int64_t extent;
};

// How many i in [0, count) have 0 <= (base + stride i) / divisor < extent, dividing exactly.
std::int64_t count_hits(std::int64_t base, std::int64_t stride, std::int64_t count,
                        std::int64_t divisor, std::int64_t extent) {
  if (stride < 0) {  // count from the other end
    base += stride * (count - 1);
    stride = -stride;
  }
  if (stride == 0) {
    const bool hits = base >= 0 && base % divisor == 0 && base / divisor < extent;
    return hits ? count : 0;
  }
  const std::int64_t first = std::max<std::int64_t>(0, ceil_divide(-base, stride));
  const std::int64_t last =
      std::min(count - 1, floor_divide((extent - 1) * divisor - base, stride));
  // Indices that divide recur with a period of at most the divisor.
  std::int64_t hits = 0;
  for (std::int64_t i = first; i <= last && i < first + divisor; ++i) {
    if ((base + stride * i) % divisor == 0) {
      hits += (last - i) / divisor + 1;
    }
  }
  return hits;
}

// Points of the loops of one constraint that hit; the longest loop is counted in closed form.
std::int64_t points_inside(const LoopNest& nest, const Constraint& constraint) {
  std::vector<Term> terms = constraint.affine->terms;
  std::sort(terms.begin(), terms.end(), [&nest](const Term& a, const Term& b) {
    return nest.loops[a.loop].extent < nest.loops[b.loop].extent;
  });
  if (terms.empty()) {
    return count_hits(constraint.affine->offset, 0, 1, constraint.affine->divisor,
                      constraint.extent);
  }
  const Term longest = terms.back();
  terms.pop_back();
  std::vector<std::int64_t> at(terms.size(), 0);
  std::int64_t total = 0;
  while (true) {
    std::int64_t base = constraint.affine->offset;
    for (std::size_t t = 0; t < terms.size(); ++t) {
      base += terms[t].stride * at[t];
    }
    total += count_hits(base, longest.stride, nest.loops[longest.loop].extent,
                        constraint.affine->divisor, constraint.extent);
    std::size_t t = 0;
    while (t < terms.size() && ++at[t] == nest.loops[terms[t].loop].extent) {
      at[t++] = 0;
    }
    if (t == terms.size()) {
      return total;
    }
  }
}

std::int64_t stage_macs_inside(const LoopNest& nest, const Stage& stage) {
  const Slice all = whole_slice(nest);
  std::vector<Constraint> constraints;
  for (const Operand& operand : stage.operands) {
    for (std::size_t dim = 0; dim < operand.access.size(); ++dim) {
      const auto* affine = std::get_if<Affine>(&operand.access[dim]);
      if (operand.use == OperandUse::Read && affine != nullptr &&
          can_miss(*affine, all, operand.shape[dim])) {
        DOJO_CHECK(!affine->ratio.has_value());  // no matrix row resizes
        constraints.push_back({affine, operand.shape[dim]});
      }
    }
  }
  std::int64_t points = 1;
  for (const StageLoop& each : stage.loops) {
    const auto owners =
        std::count_if(constraints.begin(), constraints.end(),
                      [&each](const Constraint& one) { return contains(*one.affine, each.loop); });
    DOJO_CHECK(owners <= 1);  // so constraints are independent and their counts multiply
    if (owners == 0) {
      points = saturating_multiply(points, nest.loops[each.loop].extent);
    }
  }
  for (const Constraint& constraint : constraints) {
    points = saturating_multiply(points, points_inside(nest, constraint));
  }
  return saturating_multiply(points, stage.per_point.macs);
}

}  // namespace

std::int64_t macs_inside(const LoopNest& nest) {
  std::int64_t macs = 0;
  for (const Stage& stage : nest.stages) {
    if (stage.per_point.macs > 0) {
      macs = saturating_add(macs, stage_macs_inside(nest, stage));
    }
  }
  return macs;
}

Interval footprint(const Access& access, const Slice& slice, std::int64_t extent) {
  const auto* affine = std::get_if<Affine>(&access);
  if (affine == nullptr) {
    return {0, extent};
  }
  if (is_empty(*affine, slice)) {
    return {0, 0};
  }
  const Range range = numerator_range(*affine, slice);
  const std::int64_t low = ceil_divide(range.low, affine->divisor);
  const std::int64_t high = floor_divide(range.high, affine->divisor);
  const Interval clipped{std::max<std::int64_t>(low, 0), std::min(high, extent - 1) + 1};
  return clipped.is_empty() ? Interval{0, 0} : clipped;
}

std::vector<Interval> footprint(const Operand& operand, const Slice& slice) {
  std::vector<Interval> out;
  for (std::size_t dim = 0; dim < operand.access.size(); ++dim) {
    out.push_back(footprint(operand.access[dim], slice, operand.shape[dim]));
  }
  return out;
}

Halo halo(const Interval& owned, const Interval& needed) {
  if (needed.is_empty()) {
    return {};
  }
  return {std::max<std::int64_t>(0, owned.begin - needed.begin),
          std::max<std::int64_t>(0, needed.end - owned.end)};
}

Bytes bytes(const Stage& stage, const Operand& operand, const Slice& slice, Format format) {
  const std::vector<Interval> intervals = footprint(operand, slice);
  std::int64_t elements = 1;
  std::int64_t indexed = 1;
  std::vector<int> index_loops;  // of all index operands, each once
  for (std::size_t dim = 0; dim < operand.access.size(); ++dim) {
    if (const auto* by = std::get_if<Indexed>(&operand.access[dim])) {
      indexed = saturating_multiply(indexed, intervals[dim].length());
      for (const StageLoop& each : stage.loops) {
        if (contains(stage, stage.operands[by->by], each.loop) &&
            std::find(index_loops.begin(), index_loops.end(), each.loop) == index_loops.end()) {
          index_loops.push_back(each.loop);
        }
      }
    } else {
      elements = saturating_multiply(elements, intervals[dim].length());
    }
  }
  std::int64_t picks = 1;
  for (const int loop : index_loops) {
    picks = saturating_multiply(picks, slice[loop].length());
  }
  const bool has_indexed =
      std::any_of(operand.access.begin(), operand.access.end(),
                  [](const Access& access) { return std::holds_alternative<Indexed>(access); });
  if (has_indexed) {
    elements = saturating_multiply(elements, std::min(indexed, picks));
  }
  return Bytes(saturating_multiply(elements, bytes_of(format)));
}

bool contains(const Stage& stage, const Operand& operand, int loop) {
  return std::any_of(operand.access.begin(), operand.access.end(), [&](const Access& access) {
    if (const auto* affine = std::get_if<Affine>(&access)) {
      return contains(*affine, loop);
    }
    const auto* indexed = std::get_if<Indexed>(&access);
    return indexed != nullptr && contains(stage, stage.operands[indexed->by], loop);
  });
}

bool is_shared_along(const Stage& stage, const Operand& operand, int loop) {
  return operand.use == OperandUse::Read && !contains(stage, operand, loop);
}

bool is_partial_along(const Stage& stage, int loop) {
  const std::optional<LoopKind> kind = kind_of(stage, loop);
  return kind == LoopKind::Reduce || kind == LoopKind::Indexed;
}

std::optional<LoopKind> kind_of(const Stage& stage, int loop) {
  const StageLoop* found = find_loop(stage, loop);
  return found == nullptr ? std::nullopt : std::optional(found->kind);
}

std::vector<int> reduce_loops(const LoopNest& nest) {
  std::vector<int> out;
  for (int loop = 0; loop < static_cast<int>(nest.loops.size()); ++loop) {
    const bool is_reduced = std::any_of(
        nest.stages.begin(), nest.stages.end(),
        [loop](const Stage& stage) { return kind_of(stage, loop) == LoopKind::Reduce; });
    if (is_reduced) {
      out.push_back(loop);
    }
  }
  return out;
}

MatrixRoles matrix_roles(const Stage& stage) {
  DOJO_CHECK(stage.body == BodyClass::Matrix && stage.operands.size() >= 3);
  MatrixRoles roles;
  for (const StageLoop& each : stage.loops) {
    if (each.kind != LoopKind::Parallel) {
      roles.k.push_back(each.loop);
      continue;
    }
    const bool in_left = contains(stage, stage.operands[0], each.loop);
    const bool in_right = contains(stage, stage.operands[1], each.loop);
    (in_left && in_right ? roles.batch : in_left ? roles.m : roles.n).push_back(each.loop);
  }
  return roles;
}

}  // namespace dojo::graph
