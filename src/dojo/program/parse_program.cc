#include <fmt/format.h>

#include <array>
#include <utility>

#include "dojo/base/text.h"
#include "dojo/program/internal/problem.h"
#include "dojo/program/internal/reader.h"
#include "dojo/program/program_text.h"

namespace dojo::program {

using internal::Reader;

namespace {

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
      return reader.error(fmt::format(
          "unknown axis {}, expected replica, group, micro, node.y or node.x", quoted(word)));
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
        fmt::format("unknown scope {}, expected inside, across, through or memory", quoted(word)));
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
  if (reader.take("previous")) {
    DOJO_TRY(phase.previous, take_ids<PhaseId>(reader));
  }
  return phase;
}

Result<MemoryEntry> take_memory(Reader& reader) {
  MemoryEntry entry;
  DOJO_TRY(entry.tensor, reader.string());
  DOJO_TRY(const std::int64_t offset, reader.integer("at"));
  DOJO_TRY(const std::int64_t bytes, reader.integer("bytes"));
  entry.offset = Bytes(offset);
  entry.bytes = Bytes(bytes);
  if (reader.take("copies")) {
    DOJO_TRY(entry.copies, reader.at_least_one());
  }
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

Result<Stage> take_stage(Reader& reader, std::size_t index) {
  Stage stage;
  DOJO_TRY(const std::int64_t number, reader.integer("stage"));
  if (number != static_cast<std::int64_t>(index)) {
    return reader.error(fmt::format("stage {} stands where stage {} is expected", number, index));
  }
  DOJO_TRY(stage.region, reader.region());
  for (std::size_t part = 0; part < kPartCount; ++part) {
    DOJO_TRY_VOID(reader.expect(name(static_cast<Part>(part))));
    DOJO_TRY(const int begin, reader.small_integer());
    stage.begins[part] = PhaseId{static_cast<std::uint32_t>(begin)};
  }
  DOJO_TRY_VOID(reader.expect("end"));
  DOJO_TRY(const int end, reader.small_integer());
  stage.end = PhaseId{static_cast<std::uint32_t>(end)};
  DOJO_TRY_VOID(reader.expect("after"));
  DOJO_TRY_VOID(reader.list("[", "]", [&]() -> Result<void> {
    DOJO_TRY(stage.after.emplace_back(), reader.integer());
    return {};
  }));
  return stage;
}

Result<std::vector<Stage>> take_stages(Reader& reader) {
  DOJO_TRY(const std::int64_t count, reader.integer());
  if (count < 2 || count > static_cast<std::int64_t>(ProgramLimits::kListLength)) {
    return reader.error(fmt::format("a pipeline has 2 to {} stages", ProgramLimits::kListLength));
  }
  std::vector<Stage> stages;
  for (std::int64_t i = 0; i < count; ++i) {
    DOJO_TRY(stages.emplace_back(), take_stage(reader, stages.size()));
  }
  return stages;
}

Result<MicroBatches> take_micro_batches(Reader& reader, std::vector<Stage>& stages) {
  MicroBatches micro;
  DOJO_TRY(micro.count, reader.at_least_one());
  if (micro.count == 1) {
    return reader.error("one micro-batch is none: leave the line away, or state two or more");
  }
  if (reader.take("stages")) {
    DOJO_TRY(stages, take_stages(reader));
    return micro;
  }
  DOJO_TRY_VOID(reader.expect("phases"));
  DOJO_TRY(const int first, reader.small_integer());
  DOJO_TRY_VOID(reader.expect(".."));
  DOJO_TRY(const int last, reader.small_integer());
  micro.first = PhaseId{static_cast<std::uint32_t>(first)};
  micro.end = PhaseId{static_cast<std::uint32_t>(last) + 1};
  return micro;
}

Result<void> take_head(Reader& reader, Program& program, internal::ProgramLines& lines) {
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
  lines.micro = reader.line();
  if (reader.take("micro_batches")) {
    DOJO_TRY(program.micro, take_micro_batches(reader, program.stages));
    replicas.stages = std::max<std::int64_t>(1, std::ssize(program.stages));
  }
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
  DOJO_TRY_VOID(take_head(reader, program, lines));
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

namespace {

Location location_of(const internal::Problem& problem, const internal::ProgramLines& lines,
                     const std::string& path) {
  using Of = internal::Problem::Of;
  switch (problem.of) {
    case Of::Head:
      return {path, 1, 1};
    case Of::Micro:
      return {path, lines.micro, 3};
    case Of::Phase:
      return {path, lines.phases[problem.index], 3};
    case Of::Memory:
      return {path, lines.memory[problem.index], 3};
  }
  return {path, 1, 1};
}

}  // namespace

Result<Program> load_program(const std::string& path, const machine::MachineModel& machine) {
  DOJO_TRY(const std::string text, read_file(path));
  internal::ProgramLines lines;
  DOJO_TRY(Program program, internal::parse_program(text, path, lines));
  if (Result<void> is_for = check_machine(program, machine); !is_for) {
    return Error{is_for.error().kind, is_for.error().message, Location{path, 3, 0}};
  }
  if (std::optional<internal::Problem> problem = internal::find_problem(program, machine)) {
    Error error = std::move(problem->error);
    error.where = location_of(*problem, lines, path);
    return error;
  }
  return program;
}

}  // namespace dojo::program
