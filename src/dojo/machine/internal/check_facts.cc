// What the facts of one description must satisfy together.
#include <fmt/format.h>

#include <algorithm>

#include "dojo/machine/internal/attach.h"
#include "dojo/machine/internal/fact_text.h"
#include "dojo/machine/internal/facts.h"
#include "dojo/machine/logical_map.h"

namespace dojo::machine::internal {
namespace {

// Bounds that keep every derived total and coordinate inside its type, far above any machine.
constexpr std::int64_t kMaxDies = 1'000'000;
constexpr std::int64_t kMaxRows = 100'000'000;  // of nodes along one side of the machine
constexpr std::int64_t kMaxProcessorsPerRimDie = 4;

Result<void> check_node(const NodeFacts& node) {
  const Bytes reserved = node.code.value + node.buffers.value;
  if (reserved >= node.sram.value) {
    return fact_error(
        "node.sram",
        fmt::format("{} leave nothing for tensors beside node.code and node.buffers, {} together",
                    ValueText<Bytes>::print(node.sram.value), ValueText<Bytes>::print(reserved)),
        node.sram.where);
  }
  if (node.vector.value.count() % 4 != 0) {
    return fact_error("node.vector",
                      fmt::format("found {}, expected a multiple of 4 B, the size of an FP32 lane",
                                  ValueText<Bytes>::print(node.vector.value)),
                      node.vector.where);
  }
  return {};
}

Result<void> check_die_picture(const DieMeshFacts& mesh) {
  const Shape size = mesh.size.value;
  std::vector<Site> dead = mesh.dead.value;
  std::sort(dead.begin(), dead.end());
  for (const Site site : dead) {
    if (site.row >= size.rows || site.column >= size.columns) {
      return fact_error("mesh.die.dead",
                        fmt::format("site {},{} is outside of the die, expected rows 0..{} and "
                                    "columns 0..{}",
                                    site.row, site.column, size.rows - 1, size.columns - 1),
                        mesh.dead.where);
    }
  }
  const auto twice = std::adjacent_find(dead.begin(), dead.end());
  if (twice != dead.end()) {
    return fact_error("mesh.die.dead",
                      fmt::format("site {},{} is given twice", twice->row, twice->column),
                      mesh.dead.where);
  }
  const auto map = map_logical_grid(size, dead);
  if (!map.has_value()) {
    return fact_error("mesh.die.dead", map.error().message, mesh.dead.where);
  }
  return {};
}

// Each level stands on the one below.
Result<void> check_levels(const Facts& facts) {
  if (facts.tray && !facts.tile) {
    return fact_error("tray.tiles", "a tray is made of tiles: expected a section [tile]",
                      facts.tray->tiles.where);
  }
  if (facts.pod && !facts.tray) {
    return fact_error("pod.trays", "a pod is made of trays: expected a section [tray]",
                      facts.pod->trays.where);
  }
  return {};
}

struct Sizes {
  std::int64_t rows = 1;
  std::int64_t columns = 1;
};

// Dies of one carrier and of the machine.
struct DieCounts {
  Sizes carrier;
  Sizes machine;
};

DieCounts count_dies(const Facts& facts) {
  const auto times = [](Sizes sizes, Shape shape) {
    return Sizes{.rows = sizes.rows * shape.rows, .columns = sizes.columns * shape.columns};
  };
  Sizes carrier;
  if (facts.tile) {
    carrier = times(carrier, facts.tile->dies.value);
  }
  if (facts.tray) {
    carrier = times(carrier, facts.tray->tiles.value);
  }
  const Sizes machine = facts.pod ? times(carrier, facts.pod->trays.value) : carrier;
  return {.carrier = carrier, .machine = machine};
}

Result<void> check_size(const Facts& facts) {
  // At most 2^30 along a side (three levels of at most 2^10), so nothing here overflows.
  const Sizes dies = count_dies(facts).machine;
  const Shape sites = facts.mesh_die.size.value;
  if (dies.rows * dies.columns > kMaxDies || dies.rows * sites.rows > kMaxRows ||
      dies.columns * sites.columns > kMaxRows) {
    const Fact<Shape>& top = facts.pod    ? facts.pod->trays
                             : facts.tray ? facts.tray->tiles
                                          : facts.tile->dies;
    return fact_error(
        "machine",
        fmt::format("{}x{} dies of {}x{} sites are more than this program counts: "
                    "expected at most {} dies and {} sites along a side",
                    dies.rows, dies.columns, sites.rows, sites.columns, kMaxDies, kMaxRows),
        top.where);
  }
  return {};
}

Result<void> check_interface(const Facts& facts) {
  if (facts.dram && facts.interface) {
    return fact_error("dram.rate",
                      "inputs come either from [dram] or through [interface] and [host]: expected "
                      "one of them",
                      facts.dram->rate.where);
  }
  if (facts.interface.has_value() != facts.host.has_value()) {
    return facts.interface ? fact_error(
                                 "interface.processors",
                                 "interface processors need hosts: expected a section [host]",
                                 facts.interface->processors.where)
                           : fact_error(
                                 "host.count",
                                 "hosts need interface processors: expected a section [interface]",
                                 facts.host->count.where);
  }
  if (!facts.interface) {
    return {};
  }
  const InterfaceFacts& interface = *facts.interface;
  const Sizes carrier = count_dies(facts).carrier;
  const Shape carrier_shape{.rows = static_cast<int>(carrier.rows),
                            .columns = static_cast<int>(carrier.columns)};
  const std::int64_t rim = rim_dies(carrier_shape, interface.edges.value);
  if (interface.processors.value > rim * kMaxProcessorsPerRimDie) {
    return fact_error(
        "interface.processors",
        fmt::format("found {}, but edges {} have {} rim dies with room for {} each",
                    interface.processors.value,
                    quoted(ValueText<std::vector<Side>>::print(interface.edges.value)), rim,
                    kMaxProcessorsPerRimDie),
        interface.processors.where);
  }
  if (facts.host->count.value > interface.processors.value) {
    return fact_error("host.count",
                      fmt::format("found {}, expected at most one host per interface processor, {}",
                                  facts.host->count.value, interface.processors.value),
                      facts.host->count.where);
  }
  const Shape trays = facts.pod ? facts.pod->trays.value : Shape{};
  for (const Side side : interface.edges.value) {
    const bool is_vertical = side == Side::North || side == Side::South;
    if ((is_vertical ? trays.rows : trays.columns) > 1) {
      return fact_error("interface.edges",
                        fmt::format("the {} edge of a tray joins the next tray (pod.trays is {}), "
                                    "so no interface processor can be attached there",
                                    name(side), ValueText<Shape>::print(trays)),
                        interface.edges.where);
    }
  }
  return {};
}

}  // namespace

Result<void> check_facts(const Facts& facts) {
  std::optional<Error> first;
  visit_facts(facts, [&](const FactKey& key, const auto& fact) {
    const auto checked = check_sweep(key, fact);
    if (!checked.has_value() && !first.has_value()) {
      first = checked.error();
    }
  });
  if (first.has_value()) {
    return *first;
  }
  DOJO_TRY_VOID(check_node(facts.node));
  DOJO_TRY_VOID(check_die_picture(facts.mesh_die));
  DOJO_TRY_VOID(check_levels(facts));
  DOJO_TRY_VOID(check_size(facts));
  DOJO_TRY_VOID(check_interface(facts));
  return {};
}

}  // namespace dojo::machine::internal
