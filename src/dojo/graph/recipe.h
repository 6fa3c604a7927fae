// Recipe: the table from a tensor's role to its storage format, and the choices that go with it.
// Sources: docs/numerics.md; "FP8 Formats for Deep Learning" (arXiv 2209.05433) for 1-4-3 forward
// and 1-5-2 gradients; Noune et al. (arXiv 2206.02915) for a bias instead of a scale.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/format.h"
#include "dojo/base/result.h"
#include "dojo/graph/graph.h"

namespace dojo::graph {

// One line of a recipe's table.
struct RoleFormat {
  Role role;
  Format format;
};

// "module=ROLE:FORMAT": the tensors of that role in modules that match the pattern take the format.
// A pattern is a module path in which * stands for any text.
struct RecipeOverride {
  std::string module_pattern;
  Role role = Role::None;
  Format format = Format::F32;
};

struct Recipe {
  std::string name;
  std::vector<RoleFormat> formats;  // a role that is absent stays FP32
  // Operands, and their gradients, of the layers with no matrix operation before or after them.
  Format first_and_last = Format::F32;
  Denormals denormals = Denormals::Paper;
  BiasPolicy bias;
  std::vector<RecipeOverride> overrides;

  Format format_of(Role role) const;
};

// Names of the built-in recipes, in the order of the documentation.
std::vector<std::string> recipe_names();

// The built-in recipe of that name; an unknown name is an error with the nearest names.
Result<Recipe> recipe_named(std::string_view name);

// Reads "trunk.0=matrix_operand:bf16".
Result<RecipeOverride> parse_override(std::string_view text);

// Whether the path matches the pattern (* = any text, also none).
bool matches(std::string_view pattern, std::string_view path);

}  // namespace dojo::graph
