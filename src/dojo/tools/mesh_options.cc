#include "dojo/tools/mesh_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string_view>
#include <vector>

#include "dojo/base/text.h"
#include "dojo/machine/description.h"
#include "dojo/tools/api_error.h"

namespace dojo::tools {
namespace {

using machine::Site;

// ROW,COLUMN.
Site site_of(const std::string& option, const std::string& text) {
  const std::size_t at = text.find(',');
  const auto number = [&](const std::string& digits) {
    const auto value = parse_int(digits);
    if (!value.has_value() || *value < 0 || *value > mesh::Topology::kMaximumRouters) {
      throw ApiError(fmt::format("{} {}: expected ROW,COLUMN", option, dojo::quoted(text)));
    }
    return static_cast<int>(*value);
  };
  if (at == std::string::npos) {
    throw ApiError(fmt::format("{} {}: expected ROW,COLUMN", option, dojo::quoted(text)));
  }
  const int row = number(text.substr(0, at));
  return {row, number(text.substr(at + 1))};
}

// ROW,COLUMN and the side behind it: n, e, s or w.
mesh::DeadLink dead_link_of(const std::string& text) {
  static constexpr std::string_view kLetters = "nesw";
  const std::size_t side = text.empty() ? std::string::npos : kLetters.find(text.back());
  if (side == std::string::npos) {
    throw ApiError(fmt::format("--dead-link {}: expected ROW,COLUMN and n, e, s or w, as in 3,4e",
                               dojo::quoted(text)));
  }
  return {site_of("--dead-link", text.substr(0, text.size() - 1)), machine::kSides[side]};
}

machine::Shape rectangle_of(const std::string& size) {
  const std::size_t cross = size.find('x');
  if (cross == std::string::npos) {
    throw ApiError(fmt::format("--size {}: expected ROWSxCOLUMNS", dojo::quoted(size)));
  }
  const auto rows = value_of(parse_int(size.substr(0, cross)));
  const auto columns = value_of(parse_int(size.substr(cross + 1)));
  constexpr std::int64_t kLongest = 65536;  // of the engine
  if (rows < 1 || columns < 1 || rows > kLongest || columns > kLongest) {
    throw ApiError(fmt::format("--size {}: sides must be 1..{}", size, kLongest));
  }
  if (rows * columns > kLongest) {
    throw ApiError(fmt::format("--size {}: at most {} routers", size, kLongest));
  }
  return {.rows = static_cast<std::int32_t>(rows), .columns = static_cast<std::int32_t>(columns)};
}

}  // namespace

void add_shape_options(CLI::App& command, NetworkShape& shape) {
  CLI::Option* const size =
      command.add_option("--size", shape.size, "Routers of a plain rectangle (default: 8x8)")
          ->type_name("ROWSxCOLUMNS");
  command.add_option("--machine", shape.machine, "The network of a machine, NAME or FILE")
      ->excludes(size);
  command.add_flag("--dead-sites-are-routers", shape.machine_routers_dead,
                   "The machine's dead sites do not forward");
  command.add_flag("--torus", shape.torus, "Close every row and column");
  command.add_flag("--opposed", shape.opposed,
                   "Two unidirectional tori, each with half of the load: plane 0 east and south, "
                   "plane 1 west and north");
  command.add_option("--dead-core", shape.dead_cores, "No node; its router forwards")
      ->type_name("ROW,COLUMN");
  command.add_option("--dead-router", shape.dead_routers, "Gone with its links")
      ->type_name("ROW,COLUMN");
  command.add_option("--dead-link", shape.dead_links, "Both directions, as in 3,4e")
      ->type_name("ROW,COLUMN,SIDE");
  command.add_option("--routing", shape.routing, "How packets choose their way")
      ->check(CLI::IsMember(
          {"x-first", "y-first", "west-first", "north-last", "negative-first", "up-down"}));
}

mesh::TopologySpec topology_spec_of(const NetworkShape& shape) {
  mesh::TopologySpec spec;
  if (!shape.machine.empty()) {
    spec =
        value_of(mesh::topology_spec(value_of(machine::load_machine(shape.machine)),
                                     shape.machine_routers_dead ? mesh::DeadSites::RoutersDead
                                                                : mesh::DeadSites::RoutersForward));
  } else {
    spec.die = rectangle_of(shape.size);
  }
  spec.wrap = shape.torus || shape.opposed ? mesh::Wrap::Torus : spec.wrap;
  spec.planes = shape.opposed ? mesh::Planes::Opposed : spec.planes;
  for (const std::string& text : shape.dead_cores) {
    spec.dead_cores.push_back(site_of("--dead-core", text));
  }
  for (const std::string& text : shape.dead_routers) {
    spec.dead_routers.push_back(site_of("--dead-router", text));
  }
  for (const std::string& text : shape.dead_links) {
    spec.dead_links.push_back(dead_link_of(text));
  }
  return spec;
}

mesh::RoutingKind routing_kind_of(const NetworkShape& shape) {
  return *mesh::routing_kind_named(shape.routing);  // the parser knows the names
}

void add_router_option(CLI::App& command, std::string& preset) {
  std::vector<std::string_view> names;
  for (const mesh::RouterPreset& each : mesh::router_presets()) {
    names.push_back(each.name);
  }
  command.add_option(
      "--router", preset,
      fmt::format("Preset: {}; default: the machine's own, else d1", fmt::join(names, ", ")));
}

mesh::RouterConfig mesh_router(const std::string& preset, const std::string& machine) {
  if (preset.empty() && !machine.empty()) {
    return mesh::router_of(value_of(machine::load_machine(machine)));
  }
  return value_of(mesh::router_preset(preset.empty() ? "d1" : preset));
}

}  // namespace dojo::tools
