#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <unordered_map>

#include "dojo/base/text.h"
#include "dojo/graph/internal/head.h"
#include "dojo/graph/internal/lexer.h"
#include "dojo/graph/internal/words.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"
#include "dojo/graph/verify.h"

namespace dojo::graph {
namespace {

class Parser {
 public:
  Parser(std::string_view text, const std::string& file) : lexer_(text), file_(file) {}

  Result<Graph> parse() {
    DOJO_TRY_VOID(parse_head());
    DOJO_TRY_VOID(expect('{'));
    while (!lexer_.is('}')) {
      DOJO_TRY_VOID(parse_statement());
      if (graph_.values.size() > TextLimits::kValues) {
        return error_at(lexer_.peek().offset,
                        fmt::format("more than {} values", TextLimits::kValues));
      }
    }
    lexer_.take();
    if (lexer_.peek().kind != TokenKind::End) {
      return unexpected("the end of the text after the closing }");
    }
    if (std::optional<Problem> problem = find_problem(graph_)) {
      if (problem->op.has_value() || problem->value.has_value()) {
        const std::size_t offset = problem->op.has_value() ? op_offsets_[problem->op->index]
                                                           : value_offsets_[problem->value->index];
        problem->error.where = lexer_.location(offset, file_);
      } else {
        problem->error.where = Location{file_, 1, 0};
      }
      return std::move(problem->error);
    }
    return std::move(graph_);
  }

 private:
  // --- messages ---
  Error error_at(std::size_t offset, std::string message) const {
    return Error{ErrorKind::InvalidInput, std::move(message), lexer_.location(offset, file_)};
  }
  Error unexpected(std::string_view expected) const {
    return error_at(lexer_.peek().offset,
                    fmt::format("found {}, expected {}", describe(lexer_.peek()), expected));
  }

  // --- tokens ---
  Result<void> expect(char punctuation) {
    if (!lexer_.is(punctuation)) {
      return unexpected(fmt::format("{}", punctuation));
    }
    lexer_.take();
    return {};
  }
  Result<void> expect(std::string_view word) {
    if (!lexer_.is(word)) {
      return unexpected(word);
    }
    lexer_.take();
    return {};
  }
  Result<std::string_view> take_word(std::string_view expected) {
    if (lexer_.peek().kind != TokenKind::Word) {
      return unexpected(expected);
    }
    return lexer_.take().text;
  }
  Result<std::string> take_string(std::string_view expected) {
    if (lexer_.peek().kind != TokenKind::String) {
      return unexpected(expected);
    }
    const Token token = lexer_.take();
    Result<std::string> text = unescaped(token.text);
    if (!text) {
      return error_at(token.offset, text.error().message);
    }
    if (text->size() > TextLimits::kNameLength) {
      return error_at(token.offset,
                      fmt::format("a string of more than {} characters", TextLimits::kNameLength));
    }
    return text;
  }
  Result<std::int64_t> take_integer(std::string_view expected) {
    if (lexer_.peek().kind != TokenKind::Number) {
      return unexpected(expected);
    }
    const Token token = lexer_.take();
    std::int64_t value = 0;
    const char* end = token.text.data() + token.text.size();
    const auto [stop, error] = std::from_chars(token.text.data(), end, value);
    if (error == std::errc::result_out_of_range) {
      return error_at(token.offset, fmt::format("{} does not fit 64 bits", describe(token)));
    }
    if (error != std::errc{} || stop != end) {
      return error_at(token.offset,
                      fmt::format("found {}, expected {}", describe(token), expected));
    }
    return value;
  }
  Result<ValueId> take_value(std::string_view expected) {
    if (lexer_.peek().kind != TokenKind::Value) {
      return unexpected(expected);
    }
    const Token token = lexer_.take();
    const auto found = by_name_.find(token.text);
    if (found == by_name_.end()) {
      return error_at(token.offset,
                      fmt::format("{} is not defined before this line", describe(token)));
    }
    return found->second;
  }

  // --- head ---
  Result<void> parse_head() {
    DOJO_TRY_VOID(expect("graph"));
    DOJO_TRY(graph_.name, take_string("the Graph's name in quotes"));
    if (lexer_.is('{')) {
      return {};
    }
    if (!lexer_.is("recipe")) {
      return unexpected("{, or recipe (of a lowered Graph)");
    }
    lexer_.take();
    Lowering lowering;
    DOJO_TRY(lowering.recipe, take_string("the recipe's name in quotes"));
    DOJO_TRY_VOID(expect("machine"));
    DOJO_TRY(lowering.machine, take_string("the machine's name in quotes"));
    const std::size_t offset = lexer_.peek().offset;
    DOJO_TRY(const auto attributes, parse_attributes());
    for (const auto& [name, value] : attributes) {
      if (const std::string problem = set_head_attribute(lowering, name, value); !problem.empty()) {
        return error_at(offset, problem);
      }
    }
    graph_.lowering = std::move(lowering);
    return {};
  }

  // --- statements ---
  Result<void> parse_statement() {
    if (lexer_.is("update")) {
      return parse_update();
    }
    if (lexer_.is("output")) {
      return parse_output();
    }
    if (lexer_.peek().kind != TokenKind::Value && !lexer_.is("_")) {
      return unexpected("a statement (%name = ..., update, output) or }");
    }
    return parse_definition();
  }

  Result<void> parse_update() {
    lexer_.take();
    DOJO_TRY(const ValueId target, take_value("the leaf that is updated"));
    DOJO_TRY_VOID(expect('='));
    DOJO_TRY(const ValueId value, take_value("the value it takes"));
    graph_.updates.push_back({target, value});
    return {};
  }

  Result<void> parse_output() {
    lexer_.take();
    DOJO_TRY(const ValueId value, take_value("the value that is an output"));
    DOJO_TRY(std::string label, take_string("the output's label in quotes"));
    graph_.outputs.push_back({value, std::move(label)});
    return {};
  }

  // nullopt: `_`.
  struct Target {
    std::optional<std::string_view> name;
    std::size_t offset = 0;
  };

  Result<std::vector<Target>> parse_targets() {
    std::vector<Target> targets;
    while (true) {
      const Token token = lexer_.take();
      const bool is_absent = token.kind == TokenKind::Word && token.text == "_";
      if (token.kind != TokenKind::Value && !is_absent) {
        return error_at(token.offset,
                        fmt::format("found {}, expected %name or _", describe(token)));
      }
      targets.push_back({is_absent ? std::nullopt : std::optional(token.text), token.offset});
      if (targets.size() > TextLimits::kListLength) {
        return error_at(token.offset, fmt::format("more than {} targets", TextLimits::kListLength));
      }
      if (!lexer_.is(',')) {
        return targets;
      }
      lexer_.take();
    }
  }

  Result<void> parse_definition() {
    const std::size_t offset = lexer_.peek().offset;
    DOJO_TRY(const std::vector<Target> targets, parse_targets());
    DOJO_TRY_VOID(expect('='));
    const Token head = lexer_.peek();
    DOJO_TRY(const std::string_view word,
             take_word("input, weight, buffer, state or the name of an op"));
    if (const auto leaf = find_word(kLeafWords, word)) {
      return parse_leaf(targets, static_cast<ValueKind>(*leaf + 1));
    }
    Op op;
    op.info = find_op(word);
    if (op.info == nullptr) {
      return error_at(head.offset,
                      fmt::format("unknown op {}{}; docs/ops.md lists all", describe(head),
                                  suggestion(word.substr(0, 100), op_names())));
    }
    return parse_op(targets, std::move(op), offset);
  }

  Result<void> add_value(const Target& target, Value value) {
    value.name = std::string(*target.name);
    const ValueId id{static_cast<std::uint32_t>(graph_.values.size())};
    if (!by_name_.emplace(*target.name, id).second) {
      return error_at(target.offset,
                      fmt::format("%{} is defined twice", target.name->substr(0, 60)));
    }
    graph_.add(std::move(value));
    value_offsets_.push_back(target.offset);
    return {};
  }

  Result<void> parse_leaf(const std::vector<Target>& targets, ValueKind kind) {
    if (targets.size() != 1 || !targets[0].name.has_value()) {
      return error_at(targets[0].offset, "a leaf defines one value with a name");
    }
    Value value;
    value.kind = kind;
    DOJO_TRY_VOID(parse_type(value));
    DOJO_TRY(value.label, take_string("the leaf's label in quotes"));
    return add_value(targets[0], std::move(value));
  }

  Result<void> parse_op(const std::vector<Target>& targets, Op op, std::size_t offset) {
    DOJO_TRY_VOID(parse_operands(op));
    if (lexer_.is('{')) {
      const std::size_t attributes_offset = lexer_.peek().offset;
      DOJO_TRY(op.attributes, parse_attributes());
      if (const auto normal = normalise_attributes(op); !normal) {
        return error_at(attributes_offset,
                        fmt::format("{}: {}", op.info->name, normal.error().message));
      }
    }
    DOJO_TRY_VOID(expect(':'));
    bool is_first = true;
    std::vector<Value> values;
    for (const Target& target : targets) {
      if (!target.name.has_value()) {
        continue;
      }
      if (!is_first && !lexer_.is(',')) {
        return unexpected("a comma and one type for each target with a name");
      }
      if (!is_first) {
        lexer_.take();
      }
      is_first = false;
      Value value;
      DOJO_TRY_VOID(parse_type(value));
      DOJO_TRY_VOID(parse_words(value));
      values.push_back(std::move(value));
    }
    DOJO_TRY_VOID(expect('@'));
    DOJO_TRY(op.module, take_string("the module's path in quotes"));
    const auto phase = lexer_.peek().kind == TokenKind::Word
                           ? find_word(kPhaseWords, lexer_.peek().text)
                           : std::nullopt;
    if (!phase.has_value()) {
      return unexpected("fwd, bwd or upd");
    }
    lexer_.take();
    op.phase = static_cast<Phase>(*phase);
    if (lexer_.is("k_parts")) {
      DOJO_TRY_VOID(parse_cuts(op));
    }
    std::size_t next = 0;
    for (const Target& target : targets) {
      op.outputs.push_back(std::nullopt);
      if (target.name.has_value()) {
        op.outputs.back() = ValueId{static_cast<std::uint32_t>(graph_.values.size())};
        DOJO_TRY_VOID(add_value(target, std::move(values[next++])));
      }
    }
    graph_.ops.push_back(std::move(op));
    op_offsets_.push_back(offset);
    return {};
  }

  Result<void> parse_operands(Op& op) {
    DOJO_TRY_VOID(expect('('));
    while (!lexer_.is(')')) {
      if (!op.inputs.empty()) {
        DOJO_TRY_VOID(expect(','));
      }
      if (lexer_.is("none")) {
        lexer_.take();
        op.inputs.push_back(std::nullopt);
      } else {
        DOJO_TRY(const ValueId id, take_value("an operand (%name or none) or )"));
        op.inputs.push_back(id);
      }
      if (op.inputs.size() > TextLimits::kListLength) {
        return unexpected(fmt::format("at most {} operands", TextLimits::kListLength));
      }
    }
    lexer_.take();
    return {};
  }

  Result<void> parse_type(Value& value) {
    const Token token = lexer_.peek();
    DOJO_TRY(const std::string_view name, take_word("a type such as f32[2,3]"));
    const std::optional<Format> format = format_named(name);
    if (!format.has_value()) {
      std::vector<std::string> names;
      for (const FormatInfo& row : kFormats) {
        names.emplace_back(row.name);
      }
      return error_at(token.offset, fmt::format("unknown format {}, expected one of {}",
                                                describe(token), fmt::join(names, ", ")));
    }
    value.format = *format;
    DOJO_TRY_VOID(expect('['));
    while (!lexer_.is(']')) {
      if (!value.shape.empty()) {
        DOJO_TRY_VOID(expect(','));
      }
      const std::size_t offset = lexer_.peek().offset;
      DOJO_TRY(const std::int64_t extent, take_integer("an extent or ]"));
      if (extent < 1 || extent > kMaxExtent || value.shape.size() == kMaxRank) {
        return error_at(
            offset, fmt::format("a type has at most {} extents, each from 1 to 2^40", kMaxRank));
      }
      value.shape.push_back(extent);
    }
    lexer_.take();
    if (element_count(value.shape) > kMaxElements) {
      return error_at(token.offset, "a tensor has at most 2^48 elements");
    }
    return {};
  }

  Result<void> parse_words(Value& value) {
    while (lexer_.peek().kind == TokenKind::Word) {
      const std::string_view word = lexer_.peek().text;
      bool& flag = word == "fused" ? value.is_fused : value.is_stochastic;
      if (word == "again_of" && !value.again_of.has_value()) {
        lexer_.take();
        DOJO_TRY(value.again_of, take_value("the value that is computed again"));
        continue;
      }
      if (word == "fused" || word == "stochastic") {
        if (flag) {
          return unexpected("this word once");
        }
        flag = true;
      } else if (const std::optional<Role> role = role_named(word);
                 role.has_value() && role != Role::None && value.role == Role::None) {
        value.role = *role;
      } else {
        std::vector<std::string> names{"fused", "stochastic", "again_of"};
        for (const RoleInfo& row : roles()) {
          names.emplace_back(row.name);
        }
        return unexpected(fmt::format("one role, fused, stochastic, again_of %name or @{}",
                                      suggestion(word.substr(0, 100), names)));
      }
      lexer_.take();
    }
    return {};
  }

  Result<void> parse_cuts(Op& op) {
    lexer_.take();
    DOJO_TRY_VOID(expect('='));
    DOJO_TRY_VOID(expect('{'));
    while (true) {
      ReduceCut cut;
      DOJO_TRY(const std::string_view loop, take_word("the name of a reduce loop"));
      cut.loop = std::string(loop);
      DOJO_TRY_VOID(expect(':'));
      DOJO_TRY(cut.parts, take_integer("PARTSxBLOCK such as 16x8"));
      // The lexer gives "x8" as one word.
      const Token token = lexer_.peek();
      const bool has_x = token.kind == TokenKind::Word && token.text.starts_with('x');
      const Result<std::int64_t> block =
          parse_int(has_x ? token.text.substr(1) : std::string_view());
      if (!block) {
        return unexpected("xBLOCK such as x8 after the number of parts");
      }
      lexer_.take();
      cut.block = *block;
      if (lexer_.is("by")) {
        lexer_.take();
        DOJO_TRY(cut.run, take_integer("how many parts make a run, such as 4"));
      }
      op.k_parts.push_back(std::move(cut));
      if (lexer_.is('}')) {
        lexer_.take();
        return {};
      }
      if (op.k_parts.size() > kMaxRank) {
        return unexpected("}");
      }
      DOJO_TRY_VOID(expect(','));
    }
  }

  // --- attributes ---
  Result<std::map<std::string, Attribute>> parse_attributes() {
    std::map<std::string, Attribute> out;
    DOJO_TRY_VOID(expect('{'));
    while (true) {
      const Token token = lexer_.peek();
      DOJO_TRY(const std::string_view name, take_word("the name of an attribute"));
      DOJO_TRY_VOID(expect('='));
      DOJO_TRY(Attribute value, parse_attribute());
      if (!out.emplace(name, std::move(value)).second) {
        return error_at(token.offset, fmt::format("attribute {} is given twice", describe(token)));
      }
      if (lexer_.is('}')) {
        lexer_.take();
        return out;
      }
      DOJO_TRY_VOID(expect(','));
    }
  }

  Result<Attribute> parse_attribute() {
    if (lexer_.peek().kind == TokenKind::String) {
      DOJO_TRY(std::string text, take_string("a string"));
      return Attribute(std::move(text));
    }
    if (lexer_.is("true") || lexer_.is("false")) {
      return Attribute(lexer_.take().text == "true");
    }
    if (lexer_.is('[')) {
      return parse_list();
    }
    return parse_number();
  }

  // An integer or a float.
  Result<Attribute> parse_number() {
    const Token token = lexer_.peek();
    const bool is_word = lexer_.is("inf") || lexer_.is("nan");
    if (token.kind != TokenKind::Number && !is_word) {
      return unexpected("a number, true, false, a string or a list");
    }
    lexer_.take();
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (token.text == "nan") {
      return Attribute(std::numeric_limits<double>::quiet_NaN());
    }
    if (token.text == "inf" || token.text == "-inf") {
      return Attribute(token.text == "inf" ? kInfinity : -kInfinity);
    }
    if (const auto integer = parse_int(token.text)) {
      return Attribute(*integer);
    }
    const auto number = parse_double(token.text);
    const bool is_float_text = token.text.find_first_of(".eE") != std::string_view::npos;
    if (!number || !is_float_text) {
      return error_at(token.offset, fmt::format("found {}, expected a number that fits 64 bits",
                                                describe(token)));
    }
    return Attribute(*number);
  }

  Result<Attribute> parse_list() {
    lexer_.take();
    std::vector<std::int64_t> integers;
    std::vector<double> floats;
    bool has_float = false;
    while (!lexer_.is(']')) {
      if (!floats.empty()) {
        DOJO_TRY_VOID(expect(','));
      }
      DOJO_TRY(const Attribute number, parse_number());
      if (const auto* integer = std::get_if<std::int64_t>(&number)) {
        integers.push_back(*integer);
        floats.push_back(static_cast<double>(*integer));
      } else {
        has_float = true;
        floats.push_back(std::get<double>(number));
      }
      if (floats.size() > TextLimits::kListLength) {
        return unexpected(fmt::format("a list of at most {} numbers", TextLimits::kListLength));
      }
    }
    lexer_.take();
    return has_float ? Attribute(std::move(floats)) : Attribute(std::move(integers));
  }

  Lexer lexer_;
  const std::string& file_;
  Graph graph_;
  std::unordered_map<std::string_view, ValueId> by_name_;  // views into the text
  std::vector<std::size_t> value_offsets_;
  std::vector<std::size_t> op_offsets_;
};

}  // namespace

Result<Graph> parse_graph(std::string_view text, const std::string& file) {
  if (text.size() > TextLimits::kBytes) {
    return Error{
        ErrorKind::InvalidInput,
        fmt::format("{} bytes of Graph text, at most {} are read", text.size(), TextLimits::kBytes),
        Location{file, 1, 0}};
  }
  return Parser(text, file).parse();
}

Result<Graph> load_graph(const std::string& path) {
  DOJO_TRY(const std::string text, read_file(path));
  return parse_graph(text, path);
}

}  // namespace dojo::graph
