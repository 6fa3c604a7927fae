// dojo mesh run | sweep
#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "dojo/base/text.h"
#include "dojo/machine/description.h"
#include "dojo/mesh/measure.h"
#include "dojo/mesh/picture.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"
#include "dojo/tools/mesh_options.h"
#include "dojo/tools/output.h"

namespace dojo::tools {
namespace {

using mesh::Measurement;
using mesh::Mesh;
using nlohmann::ordered_json;

struct MeshOptions {
  NetworkShape shape;
  std::string router;
  std::string traffic = "uniform";
  std::string mode = "latency";
  double rate = 0.1;
  std::int64_t packet_flits = 1;
  std::int64_t seed = 1;
  std::int64_t period = 5000;
  std::int64_t cycles = 20000;
  std::int64_t threads = 1;
  std::int64_t vcs = 0;    // 0: as the preset has it
  std::int64_t depth = 0;  // likewise
  std::string speculation;
  std::string allocator;
  std::string json_path;
  std::string heat_map_path;
  // sweep
  std::vector<double> rates;
  std::string plot_path;
};

mesh::RouterConfig router_of(const MeshOptions& options) {
  mesh::RouterConfig router = mesh_router(options.router, options.shape.machine);
  router.vcs = options.vcs != 0 ? static_cast<int>(options.vcs) : router.vcs;
  router.depth = options.depth != 0 ? static_cast<int>(options.depth) : router.depth;
  if (!options.speculation.empty()) {
    router.speculation =
        options.speculation == "on" ? mesh::Speculation::On : mesh::Speculation::Off;
  }
  if (!options.allocator.empty()) {
    router.allocator = *mesh::allocator_named(options.allocator);  // the parser knows the names
  }
  return router;
}

// Topology and table stay where they are while the mesh lives.
struct Network {
  explicit Network(const MeshOptions& options)
      : router(router_of(options)),
        topology(value_of(mesh::Topology::make(topology_spec_of(options.shape)))),
        routing(value_of(
            mesh::RoutingTable::make(topology, routing_kind_of(options.shape), router.vcs))) {}
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  Mesh with_load(const MeshOptions& options, double rate) const {
    mesh::SyntheticTraffic traffic{.pattern = value_of(mesh::parse_pattern(options.traffic)),
                                   .rows = topology.grid().rows,
                                   .columns = topology.grid().columns,
                                   .rate = rate,
                                   .packet_flits = static_cast<int>(options.packet_flits),
                                   .seed = static_cast<std::uint64_t>(options.seed),
                                   .planes = topology.planes()};
    const auto sites = static_cast<std::uint32_t>(traffic.rows * traffic.columns);
    for (std::uint32_t site = 0; site < sites; ++site) {
      if (topology.has_node({site})) {
        traffic.nodes.push_back(site);
      }
    }
    return value_of(Mesh::make(topology, routing, router,
                               value_of(mesh::Traffic::synthetic(traffic)),
                               {.threads = static_cast<int>(options.threads)}));
  }

  mesh::RouterConfig router;
  mesh::Topology topology;
  mesh::RoutingTable routing;
};

Measurement measure(const MeshOptions& options, Mesh& mesh) {
  Measurement measured =
      options.mode == "throughput"
          ? measure_throughput(mesh, static_cast<mesh::Cycle>(options.cycles))
          : measure_latency(mesh, {.period = static_cast<mesh::Cycle>(options.period)});
  if (!measured.trap.empty()) {
    throw ApiError(fmt::format("in cycle {}, {}", measured.cycles, measured.trap));
  }
  return measured;
}

// Latencies of a load that the mesh cannot carry mean nothing: null.
ordered_json to_json(const Measurement& measured) {
  const auto latency = [&](auto value) {
    return measured.saturated ? ordered_json(nullptr) : ordered_json(value);
  };
  ordered_json percentiles = ordered_json::object();
  for (const auto& [name, share] : {std::pair{"50", 0.5}, std::pair{"90", 0.9},
                                    std::pair{"99", 0.99}, std::pair{"99.9", 0.999}}) {
    percentiles[name] = latency(measured.histogram.percentile(share));
  }
  return {{"mean_packet_latency", latency(measured.mean_packet_latency)},
          {"max_packet_latency", latency(measured.max_packet_latency)},
          {"packet_latency_percentiles", percentiles},
          {"mean_flit_latency", latency(measured.mean_flit_latency)},
          {"mean_routers_visited", measured.mean_routers_visited},
          {"accepted_flits_per_node_cycle", measured.accepted},
          {"accepted_minimum_node", measured.accepted_minimum},
          {"cycles", measured.cycles},
          {"saturated", measured.saturated},
          {"traversals", measured.traversals}};
}

// What energy is counted by: flits, bytes over the links of each class, warm-up and drain included.
ordered_json moved_by_class(const mesh::Topology& topology, const Mesh& mesh) {
  ordered_json classes = ordered_json::object();
  for (const mesh::LinkClass& of : topology.link_classes()) {
    classes[of.name] = 0;
  }
  for (const mesh::Link& link : topology.links()) {
    const std::string& name =
        topology.link_classes()[static_cast<std::size_t>(link.link_class)].name;
    classes[name] = classes[name].get<std::uint64_t>() +
                    mesh.flits_sent(static_cast<int>(link.from.index), index(link.out));
  }
  ordered_json bytes = ordered_json::object();
  for (const auto& [name, flits] : classes.items()) {
    bytes[name] = flits.get<std::int64_t>() * topology.spec().flit.count();
  }
  return {
      {"flit_bytes", topology.spec().flit.count()}, {"link_flits", classes}, {"link_bytes", bytes}};
}

std::string latency_text(const Measurement& measured, double value) {
  return measured.saturated ? "-" : fmt::format("{:.3f}", value);
}

void print(const Measurement& measured, double wall_seconds) {
  Table table({{"measure"}, {"value", Align::Right}});
  table.add_row(
      {"mean packet latency, cycles", latency_text(measured, measured.mean_packet_latency)});
  table.add_row({"99 % of packets within, cycles",
                 measured.saturated ? "-" : with_commas(measured.histogram.percentile(0.99))});
  table.add_row({"max packet latency, cycles", with_commas(measured.max_packet_latency)});
  table.add_row({"mean flit latency, cycles", latency_text(measured, measured.mean_flit_latency)});
  table.add_row({"routers visited", fmt::format("{:.4f}", measured.mean_routers_visited)});
  table.add_row({"accepted, flits per node and cycle", fmt::format("{:.5f}", measured.accepted)});
  table.add_row({"- of the node with least", fmt::format("{:.5f}", measured.accepted_minimum)});
  table.add_row({"cycles", with_commas(measured.cycles)});
  table.add_row({"cycles per second", with_commas(static_cast<std::int64_t>(
                                          measured.cycles / std::max(wall_seconds, 1e-9)))});
  table.print();
  if (measured.saturated) {
    fmt::print("Saturated: the mesh cannot carry this load; its latency grows without end.\n");
  }
}

void run(const MeshOptions& options) {
  const Network network(options);
  Mesh mesh = network.with_load(options, options.rate);
  const auto start = std::chrono::steady_clock::now();
  const Measurement measured = measure(options, mesh);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
  if (!options.heat_map_path.empty()) {
    value_of(write_file_atomically(options.heat_map_path, heat_map(mesh)));
  }
  if (options.json_path.empty()) {
    print(measured, wall.count());
    return;
  }
  ordered_json json = to_json(measured);
  json["moved"] = moved_by_class(network.topology, mesh);
  json["bytes_per_router"] = mesh.bytes() / static_cast<std::size_t>(mesh.routers());
  json["wall_seconds"] = wall.count();
  write_json(json, options.json_path);
}

void sweep(const MeshOptions& options) {
  const Network network(options);
  std::vector<mesh::LoadPoint> curve;
  ordered_json json = ordered_json::array();
  Table table({{"offered", Align::Right},
               {"accepted", Align::Right},
               {"mean latency", Align::Right},
               {"99 % within", Align::Right},
               {"max", Align::Right}});
  for (const double rate : options.rates) {
    Mesh mesh = network.with_load(options, rate);
    const Measurement measured = measure(options, mesh);
    ordered_json point = to_json(measured);
    point["rate"] = rate;
    json.push_back(point);
    curve.push_back({rate, measured.mean_packet_latency, measured.saturated});
    table.add_row({shortest(rate), fmt::format("{:.5f}", measured.accepted),
                   latency_text(measured, measured.mean_packet_latency),
                   measured.saturated ? "-" : with_commas(measured.histogram.percentile(0.99)),
                   measured.saturated ? "-" : with_commas(measured.max_packet_latency)});
  }
  if (!options.plot_path.empty()) {
    value_of(write_file_atomically(options.plot_path, load_curve(curve)));
  }
  if (options.json_path.empty()) {
    table.print();
  } else {
    write_json(json, options.json_path);
  }
}

void add_options(CLI::App* command, MeshOptions& options) {
  constexpr std::int64_t kMany = 1'000'000'000;
  add_shape_options(*command, options.shape);
  add_router_option(*command, options.router);
  command->add_option("--traffic", options.traffic,
                      fmt::format("Pattern: {}", fmt::join(mesh::pattern_names(), ", ")));
  command->add_option("--packet-flits", options.packet_flits, "Flits of a packet")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{65535}));
  command->add_option("--seed", options.seed, "Of the random traffic");
  command->add_option("--mode", options.mode, "latency, or throughput for a fixed time")
      ->check(CLI::IsMember({"latency", "throughput"}));
  command->add_option("--cycles", options.cycles, "Throughput mode: how long the load is offered")
      ->check(CLI::Range(std::int64_t{10}, kMany));
  command->add_option("--period", options.period, "Latency mode: cycles of a sample period")
      ->check(CLI::Range(std::int64_t{10}, kMany / 100));
  command->add_option("--threads", options.threads, "Same results for any number")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{256}));
  command->add_option("--vcs", options.vcs, "Virtual channels, instead of the preset's")
      ->check(CLI::Range(1, mesh::kMaxVcs));
  command->add_option("--depth", options.depth, "Flits per VC, instead of the preset's")
      ->check(CLI::Range(1, mesh::kMaxDepth));
  command->add_option("--speculation", options.speculation, "on, off: instead of the preset's")
      ->check(CLI::IsMember({"on", "off"}));
  command
      ->add_option("--allocator", options.allocator, "islip, round-robin: instead of the preset's")
      ->check(CLI::IsMember({"islip", "round-robin"}));
  command->add_option("--json", options.json_path, "Write the results as JSON; - is stdout")
      ->type_name("FILE");
}

}  // namespace

void add_mesh_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("mesh", "Networks of routers, cycle by cycle");
  command->require_subcommand(1);

  const auto options = std::make_shared<MeshOptions>();
  CLI::App* run_command = command->add_subcommand("run", "Latency and throughput at one load");
  add_options(run_command, *options);
  run_command->add_option("--rate", options->rate, "Offered load, flits per node and cycle, 0..1");
  run_command
      ->add_option("--heat-map", options->heat_map_path, "Draw the load of every link as SVG")
      ->type_name("FILE");
  run_command->callback([options] { run(*options); });

  CLI::App* sweep_command = command->add_subcommand("sweep", "Latency at several loads");
  add_options(sweep_command, *options);
  sweep_command->add_option("--rates", options->rates, "Offered loads, flits per node and cycle")
      ->delimiter(',')
      ->type_name("RATE,...")
      ->required();
  sweep_command->add_option("--plot", options->plot_path, "Draw latency over load as SVG")
      ->type_name("FILE");
  sweep_command->callback([options] { sweep(*options); });

  add_mesh_pattern_command(*command);
}

}  // namespace dojo::tools
