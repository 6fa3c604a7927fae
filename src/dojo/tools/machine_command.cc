// dojo machine list | show NAME|FILE | check FILE
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "dojo/base/text.h"
#include "dojo/machine/description.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"
#include "dojo/tools/output.h"

namespace dojo::tools {
namespace {

using machine::Description;
using machine::FactLine;
using machine::LevelModel;
using machine::LevelTotals;
using machine::LinkClass;
using machine::LinkModel;
using machine::MachineModel;
using machine::Shape;
using nlohmann::ordered_json;

std::string text_of(Shape shape) { return fmt::format("{}x{}", shape.rows, shape.columns); }

std::string flops(FlopsPerSecond rate) { return with_prefix(rate.value(), "FLOPS"); }
std::string bytes(Bytes size) { return with_prefix(static_cast<double>(size.count()), "B"); }
std::string rate(BytesPerSecond value) { return with_prefix(value.value(), "B/s"); }

void list_machines() {
  std::vector<MachineModel> machines;
  for (const std::string& name : machine::shipped_machines()) {
    machines.push_back(value_of(machine::load_machine(name)));
  }
  std::stable_sort(machines.begin(), machines.end(),
                   [](const auto& a, const auto& b) { return a.live_nodes() < b.live_nodes(); });
  Table table({{"name"},
               {"dies", Align::Right},
               {"nodes", Align::Right},
               {"BF16, CFloat8", Align::Right},
               {"SRAM", Align::Right},
               {"what it is"}});
  for (const MachineModel& machine : machines) {
    const LevelTotals totals = machine.totals(machine.top());
    table.add_row({machine.name, with_commas(machine.dies().count()),
                   with_commas(totals.live_nodes), flops(totals.peak_matrix), bytes(totals.sram),
                   machine.title});
  }
  table.print();
}

// The machine of a name or path, with the facts that "FACT=VALUE" texts change.
Description load_changed(const std::string& name, const std::vector<std::string>& changes) {
  Description description = value_of(machine::load_description(name));
  for (const std::string& change : changes) {
    const std::size_t equals = change.find('=');
    if (equals == std::string::npos) {
      throw ApiError(
          fmt::format("--what-if {}: expected FACT=VALUE, as in node.t0=16", dojo::quoted(change)));
    }
    description = value_of(
        machine::with_fact(description, change.substr(0, equals), change.substr(equals + 1)));
  }
  return description;
}

void print_levels(const MachineModel& machine) {
  Table table({{"one"},
               {"dies", Align::Right},
               {"nodes", Align::Right},
               {"logical", Align::Right},
               {"BF16, CFloat8", Align::Right},
               {"FP32", Align::Right},
               {"SRAM", Align::Right},
               {"bisection", Align::Right},
               {"edge", Align::Right},
               {"power", Align::Right}});
  for (const LevelModel& level : machine.levels) {
    const LevelTotals totals = machine.totals(level.level);
    table.add_row({std::string(name(level.level)), text_of(totals.dies),
                   with_commas(totals.live_nodes), with_commas(totals.logical_nodes),
                   flops(totals.peak_matrix), flops(totals.peak_vector), bytes(totals.sram),
                   rate(totals.bisection), rate(totals.edge),
                   with_prefix(totals.power.count(), "W")});
  }
  table.print();
  fmt::print("Bisection and edge: one way. Power: at full load, with processors and hosts.\n");
}

void print_die(const MachineModel& machine) {
  std::string dead;
  for (const machine::Site site : machine.dead_sites) {
    dead += fmt::format(" {},{}", site.row, site.column);
  }
  fmt::print("Die: {} sites, {} dead{}{}; logical grid {} = {} of {} live nodes.\n",
             text_of(machine.sites()), machine.dead_sites.size(), dead.empty() ? "" : ":", dead,
             text_of(machine.logical), machine.logical.count(), machine.live_nodes_per_die());
  fmt::print(
      "Node: {} GHz, matrix unit {}x{}x{}, {} FP32 lanes, SRAM {} of which {} for tensors.\n",
      static_cast<double>(machine.clock.hertz()) * 1e-9, machine.node.matrix_m,
      machine.node.matrix_n, machine.node.matrix_k, machine.node.fp32_lanes(),
      bytes(machine.node.sram), bytes(machine.node.tensor_sram()));
}

void print_interface(const MachineModel& machine) {
  const LevelTotals totals = machine.totals(machine.top());
  if (machine.dram.has_value()) {
    fmt::print("Inputs: {} of DRAM at {}.\n", bytes(machine.dram->size),
               rate(machine.per_second(machine.link(machine::LinkClass::Hbm).rate)));
    return;
  }
  if (totals.processors == 0) {
    fmt::print("Interface: none; nothing feeds this machine.\n");
    return;
  }
  fmt::print(
      "Interface: {} on {}; together HBM {} at {}, links {}, Ethernet {}, PCIe "
      "{}.\n",
      counted(totals.processors, "processor"), counted(machine.hosts.count, "host"),
      bytes(totals.hbm), rate(totals.hbm_rate), rate(totals.processor_link_rate),
      rate(totals.ethernet_rate), rate(totals.pcie_rate));
}

void print_links(const MachineModel& machine) {
  Table table(
      {{"link"}, {"B/cycle", Align::Right}, {"rate", Align::Right}, {"latency", Align::Right}});
  for (std::size_t i = 0; i < machine::kLinkClassCount; ++i) {
    const auto link_class = static_cast<LinkClass>(i);
    if (machine.has(link_class)) {
      const LinkModel& link = machine.link(link_class);
      table.add_row({std::string(name(link_class)), shortest(link.rate.value()),
                     rate(machine.per_second(link.rate)), counted(link.latency.count(), "cycle")});
    }
  }
  table.print();
}

std::string sweep_of(const FactLine& fact) {
  std::vector<std::string> parts;
  if (fact.range.has_value()) {
    parts.push_back(fmt::format("{} .. {}", fact.range->low, fact.range->high));
  }
  for (const std::string& alternative : fact.alternatives) {
    parts.push_back(fmt::format("or {}", alternative.empty() ? "none" : alternative));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

// One row per fact; what can be swept stands in a row below it.
void print_facts(const Description& description) {
  Table table({{"fact"}, {"value"}, {"status"}, {"source"}});
  for (const FactLine& fact : list_facts(description)) {
    table.add_row({fact.path, fact.value.empty() ? "none" : fact.value,
                   std::string(name(fact.provenance)), fact.source});
    const std::string sweep = sweep_of(fact);
    if (!sweep.empty()) {
      table.add_row({"", "", "  sweep", sweep});
    }
  }
  table.print();
}

void print_fact_counts(const Description& description) {
  int counts[3] = {0, 0, 0};
  for (const FactLine& fact : list_facts(description)) {
    ++counts[static_cast<std::size_t>(fact.provenance)];
  }
  fmt::print("Facts: {} published, {} inferred, {} assumed (list them with --facts).\n", counts[0],
             counts[1], counts[2]);
}

void print_cautions(const MachineModel& machine) {
  for (const std::string& caution : cautions(machine)) {
    fmt::print("Note: {}.\n", caution);
  }
}

ordered_json to_json(Shape shape) { return ordered_json::array({shape.rows, shape.columns}); }

ordered_json to_json(const LevelTotals& totals) {
  return {{"level", name(totals.level)},
          {"dies", to_json(totals.dies)},
          {"live_nodes", totals.live_nodes},
          {"logical_nodes", totals.logical_nodes},
          {"peak_matrix_flops_per_second", totals.peak_matrix.value()},
          {"peak_vector_flops_per_second", totals.peak_vector.value()},
          {"sram_bytes", totals.sram.count()},
          {"bisection_bytes_per_second", totals.bisection.value()},
          {"edge_bytes_per_second", totals.edge.value()},
          {"processors", totals.processors},
          {"hbm_bytes", totals.hbm.count()},
          {"hbm_bytes_per_second", totals.hbm_rate.value()},
          {"processor_link_bytes_per_second", totals.processor_link_rate.value()},
          {"ethernet_bytes_per_second", totals.ethernet_rate.value()},
          {"pcie_bytes_per_second", totals.pcie_rate.value()},
          {"watts", totals.power.count()}};
}

ordered_json to_json(const FactLine& fact) {
  constexpr const char* kAffects[] = {"time", "energy", "nothing"};
  ordered_json json{{"path", fact.path},
                    {"value", fact.value},
                    {"status", name(fact.provenance)},
                    {"source", fact.source},
                    {"alternatives", fact.alternatives},
                    {"affects", kAffects[static_cast<std::size_t>(fact.affects)]},
                    {"meaning", fact.meaning}};
  if (fact.range.has_value()) {
    json["range"] = ordered_json::array({fact.range->low, fact.range->high});
  }
  return json;
}

ordered_json to_json(const Description& description, const MachineModel& machine) {
  ordered_json json{{"name", machine.name},
                    {"title", machine.title},
                    {"digest", machine.digest},
                    {"clock_hertz", machine.clock.hertz()},
                    {"sites_per_die", to_json(machine.sites())},
                    {"logical_grid", to_json(machine.logical)},
                    {"levels", ordered_json::array()},
                    {"links", ordered_json::object()},
                    {"facts", ordered_json::array()},
                    {"cautions", cautions(machine)}};
  for (const LevelModel& level : machine.levels) {
    json["levels"].push_back(to_json(machine.totals(level.level)));
  }
  for (std::size_t i = 0; i < machine::kLinkClassCount; ++i) {
    const auto link_class = static_cast<LinkClass>(i);
    if (machine.has(link_class)) {
      const LinkModel& link = machine.link(link_class);
      json["links"][std::string(name(link_class))] = {
          {"bytes_per_cycle", link.rate.value()},
          {"bytes_per_second", machine.per_second(link.rate).value()},
          {"latency_cycles", link.latency.count()}};
    }
  }
  for (const FactLine& fact : list_facts(description)) {
    json["facts"].push_back(to_json(fact));
  }
  return json;
}

struct ShowOptions {
  std::string machine;
  std::vector<std::string> changes;
  bool facts = false;
  std::string json_path;
};

void show_machine(const ShowOptions& options) {
  const Description description = load_changed(options.machine, options.changes);
  const MachineModel machine = resolve(description);
  if (!options.json_path.empty()) {
    write_json(to_json(description, machine), options.json_path);
    return;
  }
  fmt::print("{}: {}\n\n", machine.name, machine.title);
  print_levels(machine);
  fmt::print("\n");
  print_die(machine);
  print_interface(machine);
  fmt::print("\n");
  print_links(machine);
  fmt::print("\n");
  if (options.facts) {
    print_facts(description);
  } else {
    print_fact_counts(description);
  }
  print_cautions(machine);
}

void check_machine(const std::string& file) {
  const MachineModel machine = value_of(machine::load_machine(file));
  const LevelTotals totals = machine.totals(machine.top());
  fmt::print("{}: ok. {}: {}, {}, {}\n", file, machine.name, counted(machine.dies().count(), "die"),
             counted(totals.live_nodes, "node"), flops(totals.peak_matrix));
  print_cautions(machine);
}

}  // namespace

void add_machine_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("machine", "Machine descriptions: list, show, check");
  command->require_subcommand(1);

  command->add_subcommand("list", "The machines that come with the program")
      ->callback(list_machines);

  const auto show = std::make_shared<ShowOptions>();
  CLI::App* show_command =
      command->add_subcommand("show", "What a machine has, and where each number is from");
  show_command->add_option("machine", show->machine, "A shipped machine, or a machine file")
      ->type_name("NAME|FILE")
      ->required();
  show_command->add_flag("--facts", show->facts, "Every fact with its status and source");
  show_command
      ->add_option("--what-if", show->changes, "Change a fact first, as in node.t0=16; repeatable")
      ->type_name("FACT=VALUE")
      ->allow_extra_args(false);
  show_command->add_option("--json", show->json_path, "Write all of it as JSON; - is stdout")
      ->type_name("FILE");
  show_command->callback([show] { show_machine(*show); });

  const auto file = std::make_shared<std::string>();
  CLI::App* check = command->add_subcommand("check", "Read a machine file as a simulation would");
  check->add_option("file", *file, "The file (or the name of a shipped machine)")
      ->type_name("FILE")
      ->required();
  check->callback([file] { check_machine(*file); });
}

}  // namespace dojo::tools
