#include "dojo/place/internal/refusals.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "dojo/base/text.h"
#include "dojo/place/internal/memory.h"

namespace dojo::place::internal {

using graph::Graph;
using machine::MachineModel;

std::string kilobytes(std::int64_t bytes) { return fmt::format("{} KB", (bytes + 999) / 1000); }

namespace {

std::string in_parts(const Mesh& mesh) {
  std::string text;
  if (mesh.stage_count() > 1) {
    text += fmt::format(" in {} stages", mesh.stage_count());
  }
  return mesh.micro_batches > 1 ? text + fmt::format(" and {} micro-batches", mesh.micro_batches)
                                : text;
}

// The largest of what lives where memory is fullest, as "a 590 KB, b 209 KB".
std::string largest_of(const Plan& plan) {
  constexpr std::size_t kShown = 3;
  const auto fullest = std::max_element(
      plan.drafted.begin(), plan.drafted.end(),
      [](const Drafted& a, const Drafted& b) { return a.fit.plan.peak < b.fit.plan.peak; });
  const Draft& draft = fullest->draft;
  const std::vector<std::optional<Life>> life = lives(draft);
  const std::size_t at = live_peak(draft, life).position;
  std::vector<std::pair<Bytes, std::string>> largest;
  for (BufferId buffer = 0; buffer < draft.buffers.size(); ++buffer) {
    const auto& one = life[buffer];
    if (one.has_value() && one->first <= at && at <= one->last) {
      largest.emplace_back(bytes_of(draft.buffers[buffer], *one), draft.buffers[buffer].name);
    }
  }
  std::stable_sort(largest.begin(), largest.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, largest.size()); ++i) {
    text += fmt::format("{}%{} {}", i > 0 ? ", " : "", largest[i].second,
                        kilobytes(largest[i].first.count()));
  }
  return text;
}

}  // namespace

Error does_not_fit(const Graph& graph, const MachineModel& machine, const Plan& plan, Bytes states,
                   const std::string& nearest) {
  const std::int64_t needs = (plan.peak() + machine.node.code).count();
  const program::Replicas& replicas = plan.mesh.replicas;
  return Error{ErrorKind::DoesNotFit,
               fmt::format("graph {} does not fit machine {}: it needs {} per node with one "
                           "replica on {}x{} dies{} ({} of weights and states; where it is fullest "
                           "{}), a node has {}{}",
                           quoted(graph.name), machine.name, kilobytes(needs), replicas.dies.rows,
                           replicas.dies.columns, in_parts(plan.mesh), kilobytes(states.count()),
                           largest_of(plan), kilobytes(machine.node.sram.count()), nearest)};
}

Error cannot_be_cut(const Graph& graph, std::int64_t stages, const std::string& in_the_way) {
  return Error{
      ErrorKind::DoesNotFit,
      fmt::format("graph {} cannot be cut into {}: {}", quoted(graph.name),
                  stages > 1 ? fmt::format("{} stages", stages) : "micro-batches", in_the_way)};
}

}  // namespace dojo::place::internal
