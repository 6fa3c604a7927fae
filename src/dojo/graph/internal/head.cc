#include "dojo/graph/internal/head.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "dojo/base/text.h"
#include "dojo/graph/internal/words.h"

namespace dojo::graph {
namespace {

std::vector<std::string> print_bias(const BiasPolicy& bias) {
  std::vector<std::string> out{fmt::format("bias=\"{}\"", dojo::name_of(bias.rule))};
  if (bias.rule == BiasRule::Fixed) {
    for (const FormatInfo& row : kFormats) {
      if (has_bias(row.format)) {
        out.push_back(fmt::format("bias_{}={}", row.name, bias.fixed_bias(row.format)));
      }
    }
    return out;
  }
  out.push_back(fmt::format("bias_grid={}", bias.grid));
  out.push_back(fmt::format("bias_margin={}", bias.margin));
  if (bias.rule == BiasRule::Delayed) {
    out.push_back(fmt::format("bias_window={}", bias.window));
  }
  return out;
}

template <class Number>
std::string set_number(const std::string& name, const Attribute& value, int least, int most,
                       Number& target) {
  const auto* number = std::get_if<std::int64_t>(&value);
  if (number == nullptr || *number < least || *number > most) {
    return fmt::format("{} is not an integer from {} to {}", name, least, most);
  }
  target = static_cast<Number>(*number);
  return "";
}

template <class Words, class Enum>
std::string set_word(const std::string& name, const Attribute& value, const Words& words,
                     Enum& target) {
  const auto* word = std::get_if<std::string>(&value);
  const auto found = word == nullptr ? std::nullopt : find_word(words, *word);
  if (!found.has_value()) {
    const std::vector<std::string> names(words.begin(), words.end());
    return fmt::format("{} is none of \"{}\"{}", name, fmt::join(names, "\", \""),
                       word == nullptr ? "" : suggestion(*word, names));
  }
  target = static_cast<Enum>(*found);
  return "";
}

}  // namespace

std::string print_head_attributes(const Lowering& lowering) {
  return fmt::format("{}, denormals=\"{}\", sum_order=\"{}\"",
                     fmt::join(print_bias(lowering.bias), ", "),
                     kDenormalsWords[static_cast<std::size_t>(lowering.denormals)],
                     dojo::name_of(lowering.sum_order));
}

std::string set_head_attribute(Lowering& lowering, const std::string& name,
                               const Attribute& value) {
  if (name == "bias") {
    return set_word(name, value, kBiasRuleNames, lowering.bias.rule);
  }
  if (name == "bias_window") {
    return set_number(name, value, 1, BiasPolicy::kMaxWindow, lowering.bias.window);
  }
  if (name == "bias_margin") {
    return set_number(name, value, 0, kMaxBias, lowering.bias.margin);
  }
  if (name == "bias_grid") {
    return set_number(name, value, 1, kMaxBias, lowering.bias.grid);
  }
  if (name == "denormals") {
    return set_word(name, value, kDenormalsWords, lowering.denormals);
  }
  if (name == "sum_order") {
    return set_word(name, value, kSumOrderNames, lowering.sum_order);
  }
  std::vector<std::string> names{"bias",        "bias_grid", "bias_margin",
                                 "bias_window", "denormals", "sum_order"};
  for (const FormatInfo& row : kFormats) {
    if (has_bias(row.format)) {
      names.push_back(fmt::format("bias_{}", row.name));
      if (name == names.back()) {
        return set_number(name, value, 0, kMaxBias,
                          lowering.bias.fixed[static_cast<std::size_t>(row.format)]);
      }
    }
  }
  return fmt::format("the head has no attribute {}{}", name, suggestion(name, names));
}

}  // namespace dojo::graph
