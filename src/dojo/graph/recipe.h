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

// How a tensor is stored, and rounded on its way there.
struct StoredAs {
  Format format = Format::F32;
  bool is_stochastic = false;  // else to nearest; never of F32
  friend bool operator==(const StoredAs&, const StoredAs&) = default;
};

// One line of a recipe's table.
struct RoleFormat {
  Role role = Role::None;
  StoredAs stored;
};

// "module=ROLE:FORMAT" or "module=ROLE:FORMAT:stochastic": how the tensors of that role in modules
// that match the pattern are stored. A pattern is a module path in which * stands for any text.
struct RecipeOverride {
  std::string module_pattern;
  Role role = Role::None;
  StoredAs stored;
};

struct Recipe {
  std::string name;
  std::vector<RoleFormat> formats;  // a role that is absent stays FP32
  // Operands, and their gradients, of the layers with no matrix operation before or after them.
  Format first_and_last = Format::F32;
  Denormals denormals = Denormals::Paper;
  BiasPolicy bias;
  SumOrder sum_order = SumOrder::Sequential;
  // Second moments in UHP are kept multiplied by it, a power of two. UHP has nothing between 0 and
  // 2^-30, and nothing finite from 2^32 on; so squares of gradients from 2^-54 to 2^8 are kept.
  double second_moment_scale = 0x1p24;
  std::vector<RecipeOverride> overrides;

  StoredAs stored_as(Role role) const;
  // Whether weights are kept in another format than products read them in.
  bool has_masters() const;
};

// Names of the built-in recipes, in the order of the documentation.
std::vector<std::string> recipe_names();

// The built-in recipe of that name; an unknown name is an error with the nearest names.
Result<Recipe> recipe_named(std::string_view name);

// Reads "trunk.0=matrix_operand:bf16" or "trunk.*=master_weight:bf16:stochastic".
Result<RecipeOverride> parse_override(std::string_view text);

// Changes the recipe by one text: an override as above, or a setting, which is an attribute of the
// lowered Graph's head: "bias=learnt", "bias_grid=8", "denormals=gradual", "sum_order=tile4".
// Errors name what was meant and the nearest names.
Result<void> change(Recipe& recipe, std::string_view text);

// Whether the path matches the pattern (* = any text, also none).
bool matches(std::string_view pattern, std::string_view path);

}  // namespace dojo::graph
