#include "dojo/graph/recipe.h"

#include <fmt/format.h>

#include "dojo/base/text.h"
#include "dojo/graph/internal/head.h"

namespace dojo::graph {
namespace {

constexpr StoredAs kF32{};
constexpr StoredAs kBf16{Format::Bf16};
constexpr StoredAs kForward{Format::Cf8_1_4_3};
constexpr StoredAs kBackward{Format::Cf8_1_5_2};

constexpr StoredAs stochastic(Format format) { return {format, true}; }

// A recipe's line for each role. Roles that are not listed (statistics, loss, weight gradients) are
// FP32 in every recipe.
struct RecipeTable {
  StoredAs weight_operand;
  StoredAs matrix_operand;
  StoredAs gradient_operand;
  StoredAs other;  // every other stored activation and gradient
  StoredAs master_weight;
  StoredAs master_parameter;
  StoredAs first_moment;
  StoredAs second_moment;
};

Recipe recipe_of(std::string_view name, Format first_and_last, const RecipeTable& table) {
  Recipe recipe;
  recipe.name = name;
  recipe.first_and_last = first_and_last;
  recipe.formats = {{Role::WeightOperand, table.weight_operand},
                    {Role::MatrixOperand, table.matrix_operand},
                    {Role::PreNorm, table.other},
                    {Role::Residual, table.other},
                    {Role::Activation, table.other},
                    {Role::GradientOperand, table.gradient_operand},
                    {Role::GradientPreNorm, table.other},
                    {Role::GradientResidual, table.other},
                    {Role::Gradient, table.other},
                    {Role::MasterWeight, table.master_weight},
                    {Role::MasterParameter, table.master_parameter},
                    {Role::FirstMoment, table.first_moment},
                    {Role::SecondMoment, table.second_moment}};
  return recipe;
}

// Masters and moments in FP32.
Recipe with_fp32_masters(std::string_view name, StoredAs forward, StoredAs backward) {
  return recipe_of(name, Format::Bf16, {forward, forward, backward, kBf16, kF32, kF32, kF32, kF32});
}

Recipe fp32() {
  return recipe_of("fp32", Format::F32, {kF32, kF32, kF32, kF32, kF32, kF32, kF32, kF32});
}
Recipe bf16() { return with_fp32_masters("bf16", kBf16, kBf16); }
Recipe cfloat8() { return with_fp32_masters("cfloat8", kForward, kBackward); }

// No copy of a weight but the codes that products read; the moments stay FP32, so that this and the
// next recipe show what the rounding of weights does, and nothing else.
Recipe no_master(std::string_view name, bool is_stochastic) {
  const StoredAs weight{Format::Cf8_1_4_3, is_stochastic};
  const StoredAs parameter{Format::Bf16, is_stochastic};
  return recipe_of(name, Format::Bf16,
                   {kForward, kForward, kBackward, kBf16, weight, parameter, kF32, kF32});
}
Recipe cfloat8_no_master() { return no_master("cfloat8_no_master", true); }
Recipe cfloat8_no_master_nearest() { return no_master("cfloat8_no_master_nearest", false); }

// The Dojo-like one: no FP32 lives from step to step. SHP has a bias, so masters and first moments
// are rounded stochastically within their range; UHP is for what has no sign.
Recipe cfloat8_shp() {
  return recipe_of("cfloat8_shp", Format::Bf16,
                   {kForward, kForward, kBackward, kBf16, stochastic(Format::Shp),
                    stochastic(Format::Shp), stochastic(Format::Shp), stochastic(Format::Uhp)});
}

// The formats of today's GPUs, scaled by a power of two per tensor.
Recipe ocp_fp8() { return with_fp32_masters("ocp_fp8", {Format::E4m3}, {Format::E5m2}); }

// As OCP's FP8 without a scale.
Recipe cfloat8_fixed_bias() {
  Recipe recipe = cfloat8();
  recipe.name = "cfloat8_fixed_bias";
  recipe.bias.rule = BiasRule::Fixed;
  return recipe;
}

struct NamedRecipe {
  std::string_view name;
  Recipe (*make)();
};
constexpr std::array kRecipes{
    NamedRecipe{"fp32", fp32},
    NamedRecipe{"bf16", bf16},
    NamedRecipe{"cfloat8", cfloat8},
    NamedRecipe{"cfloat8_shp", cfloat8_shp},
    NamedRecipe{"cfloat8_no_master", cfloat8_no_master},
    NamedRecipe{"cfloat8_no_master_nearest", cfloat8_no_master_nearest},
    NamedRecipe{"cfloat8_fixed_bias", cfloat8_fixed_bias},
    NamedRecipe{"ocp_fp8", ocp_fp8},
};

}  // namespace

StoredAs Recipe::stored_as(Role role) const {
  for (const RoleFormat& row : formats) {
    if (row.role == role) {
      return row.stored;
    }
  }
  return kF32;
}

bool Recipe::has_masters() const {
  return stored_as(Role::MasterWeight).format != stored_as(Role::WeightOperand).format;
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

namespace {

Result<Role> override_role(std::string_view text, std::string_view name) {
  const std::optional<Role> role = role_named(name);
  if (role.has_value() && *role != Role::None) {
    return *role;
  }
  std::vector<std::string> names;
  for (const RoleInfo& row : roles()) {
    names.emplace_back(row.name);
  }
  return Error{ErrorKind::NotFound,
               fmt::format("recipe override {}: unknown role {}{}", quoted(text), quoted(name),
                           suggestion(name, names))};
}

Result<StoredAs> override_format(std::string_view text, std::string_view name) {
  StoredAs stored;
  const auto colon = name.find(':');
  if (colon != std::string_view::npos) {
    if (name.substr(colon + 1) != "stochastic") {
      return Error{ErrorKind::InvalidInput,
                   fmt::format("recipe override {}: expected nothing or :stochastic after the "
                               "format, not {}",
                               quoted(text), quoted(name.substr(colon)))};
    }
    stored.is_stochastic = true;
    name = name.substr(0, colon);
  }
  const std::optional<Format> format = format_named(name);
  if (!format.has_value() || !is_float(*format)) {
    std::vector<std::string> names;
    for (const FormatInfo& row : kFormats) {
      if (is_float(row.format)) {
        names.emplace_back(row.name);
      }
    }
    return Error{ErrorKind::NotFound,
                 fmt::format("recipe override {}: unknown float format {}; there are {}",
                             quoted(text), quoted(name), fmt::join(names, ", "))};
  }
  if (*format == Format::F32 && stored.is_stochastic) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("recipe override {}: f32 is never rounded", quoted(text))};
  }
  stored.format = *format;
  return stored;
}

}  // namespace

Result<RecipeOverride> parse_override(std::string_view text) {
  const auto equals = text.find('=');
  const auto colon = text.find(':', equals == std::string_view::npos ? 0 : equals);
  if (equals == std::string_view::npos || colon == std::string_view::npos) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("recipe override {}: expected MODULE=ROLE:FORMAT, for example "
                             "\"trunk.0=matrix_operand:bf16\"",
                             quoted(text))};
  }
  DOJO_TRY(const Role role, override_role(text, text.substr(equals + 1, colon - equals - 1)));
  DOJO_TRY(const StoredAs stored, override_format(text, text.substr(colon + 1)));
  return RecipeOverride{std::string(text.substr(0, equals)), role, stored};
}

Result<void> change(Recipe& recipe, std::string_view text) {
  const auto equals = text.find('=');
  if (equals == std::string_view::npos || text.find(':', equals) != std::string_view::npos) {
    DOJO_TRY(RecipeOverride row, parse_override(text));
    recipe.overrides.push_back(std::move(row));
    return {};
  }
  const std::string_view value = text.substr(equals + 1);
  const Result<std::int64_t> number = parse_int(value);
  Lowering lowering{recipe.name, "", recipe.denormals, recipe.bias, recipe.sum_order};
  const std::string problem =
      set_head_attribute(lowering, std::string(text.substr(0, equals)),
                         number.has_value() ? Attribute(*number) : Attribute(std::string(value)));
  if (!problem.empty()) {
    return Error{ErrorKind::InvalidInput,
                 fmt::format("recipe override {}: {}; an override of a format is "
                             "MODULE=ROLE:FORMAT",
                             quoted(text), problem)};
  }
  recipe.denormals = lowering.denormals;
  recipe.bias = lowering.bias;
  recipe.sum_order = lowering.sum_order;
  return {};
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
