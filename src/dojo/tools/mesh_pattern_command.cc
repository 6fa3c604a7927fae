// dojo mesh pattern PATTERN | trace FILE
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "dojo/base/text.h"
#include "dojo/machine/description.h"
#include "dojo/mesh/pattern_messages.h"
#include "dojo/mesh/run_messages.h"
#include "dojo/mesh/trace.h"
#include "dojo/mesh/traffic_load.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"
#include "dojo/tools/mesh_options.h"
#include "dojo/tools/output.h"

namespace dojo::tools {
namespace {

using mesh::MessageTrace;
using mesh::RoutingTable;
using mesh::Topology;
using nlohmann::ordered_json;

struct NetworkOptions {
  NetworkShape shape;
  std::string router;
  std::int64_t vcs = 0;  // 0: as the preset has it
  std::int64_t threads = 1;
  std::string json_path;
};

struct PatternOptions {
  NetworkOptions network;
  std::string pattern;
  std::string region;
  // None: the machine's, or PatternTiming's.
  std::optional<std::int64_t> alpha;
  std::optional<std::int64_t> add;
  std::optional<double> pace;
  bool unpaced = false;
  std::string multicast = "forward";
  std::string write_path;
};

struct TraceOptions {
  NetworkOptions network;
  std::string path;
};

// A network with its routers and its proved table.
struct Network {
  explicit Network(const NetworkOptions& options)
      : config(config_of(options)),
        topology(value_of(Topology::make(topology_spec_of(options.shape)))),
        routing(
            value_of(RoutingTable::make(topology, routing_kind_of(options.shape), config.vcs))) {}
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  static mesh::RouterConfig config_of(const NetworkOptions& options) {
    mesh::RouterConfig config = mesh_router(options.router, options.shape.machine);
    config.vcs = options.vcs == 0 ? config.vcs : static_cast<int>(options.vcs);
    return config;
  }

  mesh::RouterConfig config;
  Topology topology;
  RoutingTable routing;
};

// Flits over the links of each class, and the busiest of them.
struct ClassUse {
  std::string name;
  std::int64_t flits = 0;
  std::int64_t busiest = 0;
  double share = 0;  // of the cycles that the busiest could have moved a flit in
};

std::vector<ClassUse> use_by_class(const Topology& topology, const mesh::MessagesOutcome& outcome) {
  std::vector<ClassUse> uses;
  for (const mesh::LinkClass& link : topology.link_classes()) {
    uses.push_back({.name = link.name});
  }
  for (std::uint32_t i = 0; i < topology.links().size(); ++i) {
    ClassUse& use = uses[static_cast<std::size_t>(topology.link({i}).link_class)];
    use.flits += outcome.link_flits[i];
    use.busiest = std::max(use.busiest, outcome.link_flits[i]);
  }
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const mesh::FlitRate rate = topology.link_classes()[i].rate;
    const double cycles = static_cast<double>(std::max<std::int64_t>(1, outcome.end.count()));
    uses[i].share = static_cast<double>(uses[i].busiest) * rate.den / (rate.num * cycles);
  }
  return uses;
}

void report(const NetworkOptions& options, const Network& network, const MessageTrace& trace) {
  const mesh::MessagesOutcome outcome =
      value_of(run_messages(network.topology, network.routing, network.config, trace,
                            {.threads = static_cast<int>(options.threads)}));
  if (!outcome.trap.empty()) {
    throw ApiError(fmt::format("after cycle {}, {} of {} flits arrived: {}", outcome.end.count(),
                               outcome.flits, trace.flits(), outcome.trap));
  }
  const std::vector<ClassUse> uses = use_by_class(network.topology, outcome);
  const std::int64_t ports =
      load_of(trace, network.topology, network.routing).busy_cycles_of_ports();
  if (!options.json_path.empty()) {
    ordered_json links = ordered_json::object();
    for (const ClassUse& use : uses) {
      links[use.name] = {{"flits", use.flits},
                         {"bytes", use.flits * network.topology.spec().flit.count()},
                         {"busiest_flits", use.busiest},
                         {"busiest_share", use.share}};
    }
    ordered_json phases = ordered_json::array();
    for (const Cycles cycles : outcome.phases) {
      phases.push_back(cycles.count());
    }
    write_json({{"messages", trace.messages.size()},
                {"flits", outcome.flits},
                {"cycles", outcome.end.count()},
                {"phase_cycles", phases},
                {"busiest_port_flits", ports},
                {"links", links}},
               options.json_path);
    return;
  }
  Table table({{"measure"}, {"value", Align::Right}});
  table.add_row({"messages", with_commas(static_cast<std::int64_t>(trace.messages.size()))});
  table.add_row({"flits", with_commas(outcome.flits)});
  table.add_row({"cycles until the last arrived", with_commas(outcome.end.count())});
  for (std::size_t i = 0; outcome.phases.size() > 1 && i < outcome.phases.size(); ++i) {
    table.add_row({fmt::format("- phase {}", i), with_commas(outcome.phases[i].count())});
  }
  table.add_row({"flits of the busiest port", with_commas(ports)});
  for (const ClassUse& use : uses) {
    table.add_row({fmt::format("{}: flits", use.name), with_commas(use.flits)});
    table.add_row({"- of the busiest", fmt::format("{} ({:.0f} % of its rate)",
                                                   with_commas(use.busiest), 100 * use.share)});
  }
  table.print();
}

mesh::NodeGrid grid_of(const PatternOptions& options, const Topology& topology) {
  if (options.network.shape.machine.empty()) {
    return value_of(mesh::NodeGrid::of_sites(topology));
  }
  const machine::MachineModel machine =
      value_of(machine::load_machine(options.network.shape.machine));
  const machine::Region region = options.region.empty()
                                     ? machine::whole_machine(machine)
                                     : value_of(machine::parse_region(options.region));
  return value_of(mesh::NodeGrid::of_region(region, machine, topology));
}

void run_pattern(const PatternOptions& options) {
  const Network network(options.network);
  const machine::Pattern pattern = value_of(machine::parse_pattern(options.pattern));
  mesh::PatternTiming timing;
  if (!options.network.shape.machine.empty()) {
    timing = mesh::pattern_timing(value_of(machine::load_machine(options.network.shape.machine)));
  }
  timing.packet = network.topology.spec().flit;
  timing.alpha = options.alpha.has_value() ? Cycles{*options.alpha} : timing.alpha;
  timing.add = options.add.has_value() ? Cycles{*options.add} : timing.add;
  timing.pace = options.pace.has_value() ? options.pace : timing.pace;
  timing.pace = options.unpaced ? std::nullopt : timing.pace;
  timing.multicast =
      options.multicast == "replicate" ? mesh::Multicast::Replicate : mesh::Multicast::Forward;
  const mesh::NodeGrid grid = grid_of(options, network.topology);
  const MessageTrace trace =
      value_of(pattern_messages(pattern, {network.topology, network.routing, grid}, timing));
  if (!options.write_path.empty()) {
    value_of(write_file_atomically(options.write_path, to_string(trace, network.topology)));
  }
  report(options.network, network, trace);
}

void run_trace(const TraceOptions& options) {
  const Network network(options.network);
  report(options.network, network, value_of(mesh::load_trace(options.path, network.topology)));
}

void add_network_options(CLI::App* command, NetworkOptions& options) {
  add_shape_options(*command, options.shape);
  add_router_option(*command, options.router);
  command->add_option("--vcs", options.vcs, "Virtual channels, instead of the preset's")
      ->check(CLI::Range(1, mesh::kMaxVcs));
  command->add_option("--threads", options.threads, "Same results for any number")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{256}));
  command->add_option("--json", options.json_path, "Write the results as JSON; - is stdout")
      ->type_name("FILE");
}

}  // namespace

void add_mesh_pattern_command(CLI::App& mesh_command) {
  const auto pattern = std::make_shared<PatternOptions>();
  CLI::App* pattern_command =
      mesh_command.add_subcommand("pattern", "A transfer pattern as packets, timed");
  add_network_options(pattern_command, pattern->network);
  pattern_command
      ->add_option("PATTERN", pattern->pattern,
                   "As in a Program, e.g. \"all_gather rows bytes=8192\"")
      ->required();
  pattern_command->add_option("--region", pattern->region,
                              "Nodes of the machine (default: all), e.g. @die[0,0].logical[18x19]");
  constexpr std::int64_t kLong = 1'000'000;
  pattern_command->add_option("--alpha", pattern->alpha, "Cycles from arrival to sending on")
      ->check(CLI::Range(std::int64_t{0}, kLong));
  pattern_command->add_option("--add", pattern->add, "Cycles more where a partial is added")
      ->check(CLI::Range(std::int64_t{0}, kLong));
  auto* pace = pattern_command
                   ->add_option("--pace", pattern->pace,
                                "Share of its fair share at which a "
                                "message is sent")
                   ->check(CLI::Range(0.01, 1.0));
  pattern_command->add_flag("--unpaced", pattern->unpaced, "Send as fast as it goes")
      ->excludes(pace);
  pattern_command
      ->add_option("--multicast", pattern->multicast,
                   "What several nodes need: handed on by nodes (forward), or copied by routers "
                   "(replicate)")
      ->check(CLI::IsMember({"forward", "replicate"}));
  pattern_command
      ->add_option("--write-trace", pattern->write_path, "Write the messages as a trace file")
      ->type_name("FILE");
  pattern_command->callback([pattern] { run_pattern(*pattern); });

  const auto trace = std::make_shared<TraceOptions>();
  CLI::App* trace_command = mesh_command.add_subcommand("trace", "Messages of a trace file, timed");
  add_network_options(trace_command, trace->network);
  trace_command->add_option("FILE", trace->path, "Format: docs/mesh.md")->required();
  trace_command->callback([trace] { run_trace(*trace); });
}

}  // namespace dojo::tools
