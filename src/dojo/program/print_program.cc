#include <fmt/format.h>
#include <fmt/ranges.h>

#include "dojo/base/text.h"
#include "dojo/program/program_text.h"

namespace dojo::program {
namespace {

constexpr std::array<std::string_view, 3> kPartNames{"fwd", "bwd", "upd"};

std::string values(const std::vector<std::string>& names) {
  std::string text = "[";
  for (std::size_t i = 0; i < names.size(); ++i) {
    text += fmt::format("{}%{}", i == 0 ? "" : ", ", names[i]);
  }
  return text + "]";
}

template <class Ids>
std::string ids(const Ids& list) {
  std::string text = "[";
  for (std::size_t i = 0; i < list.size(); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", list[i].index);
  }
  return text + "]";
}

std::string print_matrix(const std::vector<MatrixWork>& list) {
  std::string text = "[";
  for (std::size_t i = 0; i < list.size(); ++i) {
    const MatrixWork& work = list[i];
    text += fmt::format("{}{}x{}x{} batch {} panel {} bytes {}x{}{}", i == 0 ? "" : ", ", work.m,
                        work.n, work.k, work.batch, work.panel, work.left_bytes, work.right_bytes,
                        work.on_vector_pipe ? " vector" : "");
  }
  return text + "]";
}

std::string print_body(const Compute& compute) {
  const NodeWork& work = compute.work;
  std::string text = fmt::format(
      "compute {} module {} {} ops {} split {} matrix {} vector {} special {} loaded {} stored {} "
      "rounded {} macs {} of {} points {} of {}",
      quoted(compute.kinds), quoted(compute.module),
      kPartNames[static_cast<std::size_t>(compute.part)], ids(compute.ops),
      to_string(compute.split), print_matrix(work.matrix), work.vector_ops, work.special_ops,
      work.loaded.count(), work.stored.count(), work.rounded.count(), work.macs, work.total_macs,
      work.points, work.total_points);
  if (work.is_whole) {
    text += " whole";
  }
  if (!compute.pipelined.empty()) {
    text += " pipelined " + ids(compute.pipelined);
  }
  if (compute.is_recomputed) {
    text += " recomputed";
  }
  return text;
}

std::string print_body(const Transfer& transfer) {
  std::string text = fmt::format("transfer panels {}", transfer.panels);
  if (transfer.is_fallback) {
    text += " fallback";
  }
  text += " moves [";
  for (std::size_t i = 0; i < transfer.moves.size(); ++i) {
    const Move& move = transfer.moves[i];
    text +=
        fmt::format("{}%{} {} reach {} {} {}", i == 0 ? "" : ", ", move.tensor, name(move.scope),
                    move.reach, machine::to_string(move.region), machine::to_string(move.pattern));
  }
  return text + "]";
}

std::string print_body(const Ingest& ingest) {
  return fmt::format("ingest {} bytes {} each {}", values(ingest.tensors), ingest.bytes.count(),
                     ingest.bytes_per_replica.count());
}

std::string print_micro_batches(const Program& program) {
  const MicroBatches& micro = program.micro;
  if (micro.count == 1) {
    return {};
  }
  if (program.stages.empty()) {
    return fmt::format("  micro_batches {} phases {}..{}\n", micro.count, micro.first.index,
                       micro.end.index - 1);
  }
  std::string text =
      fmt::format("  micro_batches {} stages {}\n", micro.count, program.stages.size());
  for (std::size_t i = 0; i < program.stages.size(); ++i) {
    const Stage& stage = program.stages[i];
    text += fmt::format("  stage {} {}", i, machine::to_string(stage.region));
    for (std::size_t part = 0; part < kPartCount; ++part) {
      text += fmt::format(" {} {}", name(static_cast<Part>(part)), stage.begins[part].index);
    }
    text += fmt::format(" end {} after [{}]\n", stage.end.index, fmt::join(stage.after, ", "));
  }
  return text;
}

}  // namespace

std::string print_program(const Program& program) {
  const Replicas& replicas = program.replicas;
  std::string text = fmt::format(
      "program {} {{\n  graph {} recipe {}\n  machine {} {}\n  replicas {} of {} dies {}x{} batch "
      "{} block "
      "{}\n  reserved {}\n",
      quoted(program.name), quoted(program.graph_sha256), quoted(program.recipe),
      quoted(program.machine), quoted(program.machine_digest), replicas.count, replicas.available,
      replicas.dies.rows, replicas.dies.columns, replicas.batch, replicas.block,
      program.reserved.count());
  text += print_micro_batches(program);
  for (std::size_t i = 0; i < program.phases.size(); ++i) {
    const Phase& phase = program.phases[i];
    text += fmt::format("  phase {} {} {} reads {} writes {} after {}{}\n", i,
                        machine::to_string(phase.region),
                        std::visit([](const auto& body) { return print_body(body); }, phase.body),
                        values(phase.reads), values(phase.writes), ids(phase.after),
                        phase.previous.empty() ? "" : " previous " + ids(phase.previous));
  }
  for (const MemoryEntry& entry : program.memory) {
    text += fmt::format("  memory {} at {} bytes {}{} phases {}..{}\n", quoted(entry.tensor),
                        entry.offset.count(), entry.bytes.count(),
                        entry.copies > 1 ? fmt::format(" copies {}", entry.copies) : "",
                        entry.first.index, entry.last.index);
  }
  for (const Remedy& remedy : program.remedies) {
    text += fmt::format("  remedy {} {} freed {}\n", quoted(remedy.what), quoted(remedy.tensor),
                        remedy.freed.count());
  }
  return text + "}\n";
}

}  // namespace dojo::program
