#include "dojo/graph/recipe.h"

#include <fmt/format.h>

#include "dojo/base/text.h"

namespace dojo::graph {
namespace {

struct RecipeRow {
  Role role;
  Format bf16;
  Format cfloat8;
};

// Roles that are not listed (statistics, loss, weight gradients, the weights themselves) are FP32
// in every recipe.
constexpr std::array kRecipeTable{
    RecipeRow{Role::WeightOperand, Format::Bf16, Format::Cf8_1_4_3},
    RecipeRow{Role::MatrixOperand, Format::Bf16, Format::Cf8_1_4_3},
    RecipeRow{Role::PreNorm, Format::Bf16, Format::Bf16},
    RecipeRow{Role::Residual, Format::Bf16, Format::Bf16},
    RecipeRow{Role::Activation, Format::Bf16, Format::Bf16},
    RecipeRow{Role::GradientOperand, Format::Bf16, Format::Cf8_1_5_2},
    RecipeRow{Role::GradientPreNorm, Format::Bf16, Format::Bf16},
    RecipeRow{Role::GradientResidual, Format::Bf16, Format::Bf16},
    RecipeRow{Role::Gradient, Format::Bf16, Format::Bf16},
};

Recipe fp32() {
  Recipe recipe;
  recipe.name = "fp32";
  return recipe;
}

Recipe bf16() {
  Recipe recipe;
  recipe.name = "bf16";
  recipe.first_and_last = Format::Bf16;
  for (const RecipeRow& row : kRecipeTable) {
    recipe.formats.push_back({row.role, row.bf16});
  }
  return recipe;
}

Recipe cfloat8() {
  Recipe recipe;
  recipe.name = "cfloat8";
  recipe.first_and_last = Format::Bf16;
  for (const RecipeRow& row : kRecipeTable) {
    recipe.formats.push_back({row.role, row.cfloat8});
  }
  return recipe;
}

struct NamedRecipe {
  std::string_view name;
  Recipe (*make)();
};
constexpr std::array kRecipes{NamedRecipe{"fp32", fp32}, NamedRecipe{"bf16", bf16},
                              NamedRecipe{"cfloat8", cfloat8}};

}  // namespace

Format Recipe::format_of(Role role) const {
  for (const RoleFormat& row : formats) {
    if (row.role == role) {
      return row.format;
    }
  }
  return Format::F32;
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const NamedRecipe& row : kRecipes) {
    names.emplace_back(row.name);
  }
  return names;
}

Result<Recipe> recipe_named(std::string_view name) {
  for (const NamedRecipe& row : kRecipes) {
    if (row.name == name) {
      return row.make();
    }
  }
  const std::vector<std::string> names = recipe_names();
  return Error{ErrorKind::NotFound, fmt::format("unknown recipe {}; there are {}{}", quoted(name),
                                                fmt::join(names, ", "), suggestion(name, names))};
}

Result<RecipeOverride> parse_override(std::string_view text) {
  const auto equals = text.find('=');
  const auto colon = text.find(':', equals == std::string_view::npos ? 0 : equals);
  if (equals == std::string_view::npos || colon == std::string_view::npos) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("recipe override {}: expected MODULE=ROLE:FORMAT, for example "
                             "\"trunk.0=matrix_operand:bf16\"",
                             quoted(text))};
  }
  const std::string_view role_text = text.substr(equals + 1, colon - equals - 1);
  const std::string_view format_text = text.substr(colon + 1);
  const std::optional<Role> role = role_named(role_text);
  if (!role.has_value() || *role == Role::None) {
    std::vector<std::string> names;
    for (const RoleInfo& row : roles()) {
      names.emplace_back(row.name);
    }
    return Error{ErrorKind::NotFound,
                 fmt::format("recipe override {}: unknown role {}{}", quoted(text),
                             quoted(role_text), suggestion(role_text, names))};
  }
  const std::optional<Format> format = format_named(format_text);
  if (!format.has_value() || !is_float(*format)) {
    std::vector<std::string> names;
    for (const FormatInfo& row : kFormats) {
      if (is_float(row.format)) {
        names.emplace_back(row.name);
      }
    }
    return Error{ErrorKind::NotFound,
                 fmt::format("recipe override {}: unknown float format {}; there are {}",
                             quoted(text), quoted(format_text), fmt::join(names, ", "))};
  }
  return RecipeOverride{std::string(text.substr(0, equals)), *role, *format};
}

bool matches(std::string_view pattern, std::string_view path) {
  // Greedy with one point to come back to: linear for the patterns people write.
  std::size_t p = 0;
  std::size_t s = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (s < path.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = s;
    } else if (p < pattern.size() && pattern[p] == path[s]) {
      ++p;
      ++s;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      s = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') {
    ++p;
  }
  return p == pattern.size();
}

}  // namespace dojo::graph
