#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include "dojo/base/text.h"
#include "dojo/program/internal/problem.h"
#include "dojo/program/program_text.h"

namespace dojo::program {
namespace {

// Reads the text from front to back; every take_* skips spaces, newlines and comments first.
class Reader {
 public:
  Reader(std::string_view text, std::string file) : text_(text), file_(std::move(file)) {}

  Error expected(std::string_view what) const {
    std::string_view found = text_.substr(at_, 24);
    found = found.substr(0, found.find('\n'));
    return error(fmt::format("expected {}, found {}", what,
                             at_ >= text_.size() ? "the end of the text" : quoted(found)));
  }
  Error error(std::string message) const {
    int line = 1;
    std::size_t start = 0;
    for (std::size_t i = 0; i < at_ && i < text_.size(); ++i) {
      if (text_[i] == '\n') {
        ++line;
        start = i + 1;
      }
    }
    return Error{ErrorKind::InvalidInput, std::move(message),
                 Location{file_, line, static_cast<int>(at_ - start) + 1}};
  }

  // Of what comes next.
  int line() {
    skip();
    for (; counted_ < at_; ++counted_) {
      line_ += text_[counted_] == '\n' ? 1 : 0;
    }
    return line_;
  }
  bool at_end() {
    skip();
    return at_ >= text_.size();
  }
  bool peek(std::string_view literal) {
    skip();
    return text_.substr(at_).starts_with(literal);
  }
  // Punctuation (the x of 4x5 too), or a word that ends where its letters end.
  bool take(std::string_view literal) {
    if (!peek(literal)) {
      return false;
    }
    const std::size_t end = at_ + literal.size();
    const bool is_word = literal.size() > 1 && literal.front() >= 'a' && literal.front() <= 'z';
    if (is_word && end < text_.size() && is_name(text_[end])) {
      return false;
    }
    at_ = end;
    return true;
  }
  Result<void> expect(std::string_view literal) {
    if (!take(literal)) {
      return expected(quoted(literal));
    }
    return {};
  }
  // A whole number, not negative.
  Result<std::int64_t> integer() {
    skip();
    std::int64_t value = 0;
    const auto [end, code] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (code != std::errc{} || value < 0) {
      return expected("a whole number");
    }
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }
  // KEY INTEGER
  Result<std::int64_t> integer(std::string_view key) {
    DOJO_TRY_VOID(expect(key));
    return integer();
  }
  Result<std::int64_t> at_least_one() {
    const std::size_t before = at_;
    DOJO_TRY(const std::int64_t value, integer());
    if (value < 1) {
      at_ = before;
      return expected("a number above zero");
    }
    return value;
  }
  Result<int> small_integer() {
    const std::size_t before = at_;
    DOJO_TRY(const std::int64_t value, integer());
    if (value > std::numeric_limits<int>::max()) {
      at_ = before;
      return expected("a number that fits in 31 bits");
    }
    return static_cast<int>(value);
  }
  Result<std::string> string() {
    DOJO_TRY_VOID(expect("\""));
    std::string out;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n') {
      if (text_[at_] != '\\') {
        out += text_[at_++];
        continue;
      }
      DOJO_TRY(const char escaped, escape());
      out += escaped;
    }
    DOJO_TRY_VOID(expect("\""));
    return out;
  }
  Result<std::string> name() {
    const std::size_t start = at_;
    while (at_ < text_.size() && is_name(text_[at_])) {
      ++at_;
    }
    if (at_ == start) {
      return expected("a name");
    }
    return std::string(text_.substr(start, at_ - start));
  }
  Result<std::string> value_name() {
    DOJO_TRY_VOID(expect("%"));
    return name();
  }
  Result<std::string> word() {
    skip();
    return name();
  }
  // Up to a character of `ends`, which stays.
  std::string_view until(std::string_view ends) {
    skip();
    const std::size_t start = at_;
    at_ = std::min(text_.find_first_of(ends, at_), text_.size());
    return text_.substr(start, at_ - start);
  }
  Result<machine::Region> region() {
    skip();
    const std::size_t start = at_;
    const std::size_t first = text_.find(']', at_);
    const std::size_t second = first == std::string_view::npos ? first : text_.find(']', first + 1);
    if (!peek("@") || second == std::string_view::npos) {
      return expected("a region");
    }
    at_ = second + 1;
    Result<machine::Region> region = machine::parse_region(text_.substr(start, at_ - start));
    if (!region) {
      at_ = start;
      return error(region.error().message);
    }
    return region;
  }
  Result<machine::Pattern> pattern() {
    skip();
    const std::size_t start = at_;
    std::string_view body = until(",]\n");
    Result<machine::Pattern> pattern = machine::parse_pattern(body);
    if (!pattern) {
      at_ = start;
      return error(pattern.error().message);
    }
    return pattern;
  }
  // "[" item { "," item } "]"
  template <class Item>
  Result<void> list(std::string_view open, std::string_view close, Item item) {
    DOJO_TRY_VOID(expect(open));
    for (std::size_t count = 0; !take(close); ++count) {
      if (count >= ProgramLimits::kListLength) {
        return error(fmt::format("a list of more than {} entries", ProgramLimits::kListLength));
      }
      if (count > 0) {
        DOJO_TRY_VOID(expect(","));
      }
      DOJO_TRY_VOID(item());
    }
    return {};
  }

 private:
  static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.';
  }
  Result<char> escape() {
    const std::string_view rest = text_.substr(at_);
    if (rest.size() >= 2 && (rest[1] == '"' || rest[1] == '\\')) {
      at_ += 2;
      return rest[1];
    }
    int code = 0;
    const std::string_view digits = rest.size() >= 6 ? rest.substr(2, 4) : std::string_view{};
    if (!rest.starts_with("\\u") || digits.empty() ||
        std::from_chars(digits.data(), digits.data() + digits.size(), code, 16).ptr !=
            digits.data() + digits.size() ||
        code > 0x7f) {
      return error("expected an escape \\\", \\\\ or \\u00XX");
    }
    at_ += 6;
    return static_cast<char>(code);
  }
  void skip() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++at_;
      } else if (text_.substr(at_).starts_with("//")) {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else {
        return;
      }
    }
  }

  std::string_view text_;
  std::string file_;
  std::size_t at_ = 0;
  std::size_t counted_ = 0;  // line_ is that of this offset
  int line_ = 1;
};

Result<std::vector<std::string>> take_values(Reader& reader) {
  std::vector<std::string> names;
  DOJO_TRY_VOID(reader.list("[", "]", [&]() -> Result<void> {
    DOJO_TRY(names.emplace_back(), reader.value_name());
    return {};
  }));
  return names;
}

template <class IdType>
Result<std::vector<IdType>> take_ids(Reader& reader) {
  std::vector<IdType> out;
  DOJO_TRY_VOID(reader.list("[", "]", [&]() -> Result<void> {
    DOJO_TRY(const int index, reader.small_integer());
    out.push_back({static_cast<std::uint32_t>(index)});
    return {};
  }));
  return out;
}

Result<machine::Shape> take_shape(Reader& reader) {
  machine::Shape shape;
  DOJO_TRY(shape.rows, reader.small_integer());
  DOJO_TRY_VOID(reader.expect("x"));
  DOJO_TRY(shape.columns, reader.small_integer());
  return shape;
}

Result<LoopSplit> take_loop_split(Reader& reader) {
  LoopSplit entry;
  DOJO_TRY(entry.loop, reader.word());
  DOJO_TRY_VOID(reader.expect("["));
  DOJO_TRY(entry.extent, reader.integer());
  DOJO_TRY_VOID(reader.expect("]:"));
  while (!reader.peek(",") && !reader.peek("}")) {
    if (entry.cuts.size() >= kAxes.size()) {
      return reader.expected("at most one cut per axis");
    }
    AxisCut axis_cut;
    DOJO_TRY(const std::string word, reader.word());
    const auto axis = axis_named(word);
    if (!axis.has_value()) {
      return reader.error(
          fmt::format("unknown axis {}, expected replica, group, node.y or node.x", quoted(word)));
    }
    axis_cut.axis = *axis;
    DOJO_TRY(axis_cut.parts, reader.at_least_one());
    DOJO_TRY_VOID(reader.expect("x"));
    DOJO_TRY(axis_cut.block, reader.at_least_one());
    entry.cuts.push_back(axis_cut);
  }
  return entry;
}

Result<MatrixWork> take_matrix(Reader& reader) {
  MatrixWork work;
  DOJO_TRY(work.m, reader.integer());
  DOJO_TRY_VOID(reader.expect("x"));
  DOJO_TRY(work.n, reader.integer());
  DOJO_TRY_VOID(reader.expect("x"));
  DOJO_TRY(work.k, reader.integer());
  DOJO_TRY(work.batch, reader.integer("batch"));
  DOJO_TRY_VOID(reader.expect("panel"));
  DOJO_TRY(work.panel, reader.at_least_one());
  DOJO_TRY_VOID(reader.expect("bytes"));
  DOJO_TRY(work.left_bytes, reader.small_integer());
  DOJO_TRY_VOID(reader.expect("x"));
  DOJO_TRY(work.right_bytes, reader.small_integer());
  work.on_vector_pipe = reader.take("vector");
  return work;
}

Result<void> take_work(Reader& reader, NodeWork& work) {
  DOJO_TRY_VOID(reader.expect("matrix"));
  DOJO_TRY_VOID(reader.list("[", "]", [&]() -> Result<void> {
    DOJO_TRY(work.matrix.emplace_back(), take_matrix(reader));
    return {};
  }));
  DOJO_TRY(work.vector_ops, reader.integer("vector"));
  DOJO_TRY(work.special_ops, reader.integer("special"));
  DOJO_TRY(const std::int64_t loaded, reader.integer("loaded"));
  DOJO_TRY(const std::int64_t stored, reader.integer("stored"));
  DOJO_TRY(const std::int64_t rounded, reader.integer("rounded"));
  work.loaded = Bytes(loaded);
  work.stored = Bytes(stored);
  work.rounded = Bytes(rounded);
  DOJO_TRY(work.macs, reader.integer("macs"));
  DOJO_TRY(work.total_macs, reader.integer("of"));
  DOJO_TRY(work.points, reader.integer("points"));
  DOJO_TRY(work.total_points, reader.integer("of"));
  work.is_whole = reader.take("whole");
  return {};
}

Result<Compute> take_compute(Reader& reader) {
  Compute compute;
  DOJO_TRY(compute.kinds, reader.string());
  DOJO_TRY_VOID(reader.expect("module"));
  DOJO_TRY(compute.module, reader.string());
  if (reader.take("fwd")) {
    compute.part = graph::Phase::Forward;
  } else if (reader.take("bwd")) {
    compute.part = graph::Phase::Backward;
  } else if (reader.take("upd")) {
    compute.part = graph::Phase::Update;
  } else {
    return reader.expected("fwd, bwd or upd");
  }
  DOJO_TRY_VOID(reader.expect("ops"));
  DOJO_TRY(compute.ops, take_ids<OpId>(reader));
  DOJO_TRY_VOID(reader.expect("split"));
  DOJO_TRY_VOID(reader.list("{", "}", [&]() -> Result<void> {
    DOJO_TRY(compute.split.loops.emplace_back(), take_loop_split(reader));
    return {};
  }));
  DOJO_TRY_VOID(take_work(reader, compute.work));
  if (reader.take("pipelined")) {
    DOJO_TRY(compute.pipelined, take_ids<PhaseId>(reader));
  }
  compute.is_recomputed = reader.take("recomputed");
  return compute;
}

Result<Move> take_move(Reader& reader) {
  Move move;
  DOJO_TRY(move.tensor, reader.value_name());
  DOJO_TRY(const std::string word, reader.word());
  const auto scope = scope_named(word);
  if (!scope.has_value()) {
    return reader.error(
        fmt::format("unknown scope {}, expected inside, across or through", quoted(word)));
  }
  move.scope = *scope;
  DOJO_TRY_VOID(reader.expect("reach"));
  DOJO_TRY(move.reach, reader.small_integer());
  DOJO_TRY(move.region, reader.region());
  DOJO_TRY(move.pattern, reader.pattern());
  return move;
}

Result<Transfer> take_transfer(Reader& reader) {
  Transfer transfer;
  DOJO_TRY_VOID(reader.expect("panels"));
  DOJO_TRY(transfer.panels, reader.at_least_one());
  transfer.is_fallback = reader.take("fallback");
  DOJO_TRY_VOID(reader.expect("moves"));
  DOJO_TRY_VOID(reader.list("[", "]", [&]() -> Result<void> {
    DOJO_TRY(transfer.moves.emplace_back(), take_move(reader));
    return {};
  }));
  return transfer;
}

Result<Ingest> take_ingest(Reader& reader) {
  Ingest ingest;
  DOJO_TRY(ingest.tensors, take_values(reader));
  DOJO_TRY(const std::int64_t bytes, reader.integer("bytes"));
  DOJO_TRY(const std::int64_t each, reader.integer("each"));
  ingest.bytes = Bytes(bytes);
  ingest.bytes_per_replica = Bytes(each);
  return ingest;
}

Result<Phase> take_phase(Reader& reader, std::size_t index) {
  Phase phase;
  DOJO_TRY(const std::int64_t number, reader.integer());
  if (number != static_cast<std::int64_t>(index)) {
    return reader.error(fmt::format("phase {} stands where phase {} is expected", number, index));
  }
  DOJO_TRY(phase.region, reader.region());
  if (reader.take("compute")) {
    DOJO_TRY(phase.body, take_compute(reader));
  } else if (reader.take("transfer")) {
    DOJO_TRY(phase.body, take_transfer(reader));
  } else if (reader.take("ingest")) {
    DOJO_TRY(phase.body, take_ingest(reader));
  } else {
    return reader.expected("compute, transfer or ingest");
  }
  DOJO_TRY_VOID(reader.expect("reads"));
  DOJO_TRY(phase.reads, take_values(reader));
  DOJO_TRY_VOID(reader.expect("writes"));
  DOJO_TRY(phase.writes, take_values(reader));
  DOJO_TRY_VOID(reader.expect("after"));
  DOJO_TRY(phase.after, take_ids<PhaseId>(reader));
  return phase;
}

Result<MemoryEntry> take_memory(Reader& reader) {
  MemoryEntry entry;
  DOJO_TRY(entry.tensor, reader.string());
  DOJO_TRY(const std::int64_t offset, reader.integer("at"));
  DOJO_TRY(const std::int64_t bytes, reader.integer("bytes"));
  entry.offset = Bytes(offset);
  entry.bytes = Bytes(bytes);
  DOJO_TRY_VOID(reader.expect("phases"));
  DOJO_TRY(const int first, reader.small_integer());
  DOJO_TRY_VOID(reader.expect(".."));
  DOJO_TRY(const int last, reader.small_integer());
  entry.first = PhaseId{static_cast<std::uint32_t>(first)};
  entry.last = PhaseId{static_cast<std::uint32_t>(last)};
  return entry;
}

Result<Remedy> take_remedy(Reader& reader) {
  Remedy remedy;
  DOJO_TRY(remedy.what, reader.string());
  DOJO_TRY(remedy.tensor, reader.string());
  DOJO_TRY(const std::int64_t freed, reader.integer("freed"));
  remedy.freed = Bytes(freed);
  return remedy;
}

Result<void> take_head(Reader& reader, Program& program) {
  DOJO_TRY_VOID(reader.expect("program"));
  DOJO_TRY(program.name, reader.string());
  DOJO_TRY_VOID(reader.expect("{"));
  DOJO_TRY_VOID(reader.expect("graph"));
  DOJO_TRY(program.graph_sha256, reader.string());
  DOJO_TRY_VOID(reader.expect("recipe"));
  DOJO_TRY(program.recipe, reader.string());
  DOJO_TRY_VOID(reader.expect("machine"));
  DOJO_TRY(program.machine, reader.string());
  DOJO_TRY(program.machine_digest, reader.string());
  Replicas& replicas = program.replicas;
  DOJO_TRY(replicas.count, reader.integer("replicas"));
  DOJO_TRY(replicas.available, reader.integer("of"));
  DOJO_TRY_VOID(reader.expect("dies"));
  DOJO_TRY(replicas.dies, take_shape(reader));
  DOJO_TRY(replicas.batch, reader.integer("batch"));
  DOJO_TRY(replicas.block, reader.integer("block"));
  DOJO_TRY(const std::int64_t reserved, reader.integer("reserved"));
  program.reserved = Bytes(reserved);
  return {};
}

Result<void> take_statement(Reader& reader, Program& program, internal::ProgramLines& lines) {
  const int line = reader.line();
  if (reader.take("phase")) {
    lines.phases.push_back(line);
    if (program.phases.size() >= ProgramLimits::kPhases) {
      return reader.error(fmt::format("more than {} phases", ProgramLimits::kPhases));
    }
    DOJO_TRY(Phase phase, take_phase(reader, program.phases.size()));
    program.phases.push_back(std::move(phase));
  } else if (reader.take("memory")) {
    lines.memory.push_back(line);
    if (program.memory.size() >= ProgramLimits::kPhases) {
      return reader.error(fmt::format("more than {} memory entries", ProgramLimits::kPhases));
    }
    DOJO_TRY(program.memory.emplace_back(), take_memory(reader));
  } else if (reader.take("remedy")) {
    if (program.remedies.size() >= ProgramLimits::kPhases) {
      return reader.error(fmt::format("more than {} remedies", ProgramLimits::kPhases));
    }
    DOJO_TRY(program.remedies.emplace_back(), take_remedy(reader));
  } else {
    return reader.expected("phase, memory, remedy or }");
  }
  return {};
}

}  // namespace

namespace internal {

Result<Program> parse_program(std::string_view text, const std::string& file, ProgramLines& lines) {
  if (text.size() > ProgramLimits::kBytes) {
    return Error{
        ErrorKind::InvalidInput,
        fmt::format("{} bytes of text, at most {} are read", text.size(), ProgramLimits::kBytes),
        Location{file, 1, 1}};
  }
  Reader reader(text, file);
  Program program;
  DOJO_TRY_VOID(take_head(reader, program));
  while (!reader.take("}")) {
    DOJO_TRY_VOID(take_statement(reader, program, lines));
  }
  if (!reader.at_end()) {
    return reader.expected("the end of the text");
  }
  return program;
}

}  // namespace internal

Result<Program> parse_program(std::string_view text, const std::string& file) {
  internal::ProgramLines lines;
  return internal::parse_program(text, file, lines);
}

Result<Program> load_program(const std::string& path, const machine::MachineModel& machine) {
  DOJO_TRY(const std::string text, read_file(path));
  internal::ProgramLines lines;
  DOJO_TRY(Program program, internal::parse_program(text, path, lines));
  if (Result<void> is_for = check_machine(program, machine); !is_for) {
    return Error{is_for.error().kind, is_for.error().message, Location{path, 3, 0}};
  }
  if (std::optional<internal::Problem> problem = internal::find_problem(program, machine)) {
    Error error = std::move(problem->error);
    const bool is_of_phase = problem->of == internal::Problem::Of::Phase;
    const int line = problem->of == internal::Problem::Of::Head ? 1
                     : is_of_phase                              ? lines.phases[problem->index]
                                                                : lines.memory[problem->index];
    error.where = Location{path, line, problem->of == internal::Problem::Of::Head ? 1 : 3};
    return error;
  }
  return program;
}

}  // namespace dojo::program
