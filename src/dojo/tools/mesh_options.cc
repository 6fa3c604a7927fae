#include "dojo/tools/mesh_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string_view>
#include <vector>

#include "dojo/machine/description.h"
#include "dojo/tools/api_error.h"

namespace dojo::tools {

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
