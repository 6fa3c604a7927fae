#include "dojo/run/internal/map_program.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <tuple>

#include "dojo/base/check.h"
#include "dojo/run/internal/block_kernels.h"
#include "dojo/run/internal/function_table.h"
#include "dojo/run/internal/move_elements.h"

namespace dojo::run::internal {
namespace {

template <class From, class To>
void widen(const void* from, std::int64_t count, To* to) {
  const From* values = static_cast<const From*>(from);
  for (std::int64_t i = 0; i < count; ++i) {
    to[i] = static_cast<To>(values[i]);
  }
}

// Integers and bools to either lane; a float is rounded to nearest even.
template <class To>
void widen_integers(Format format, const void* from, std::int64_t count, To* to) {
  switch (format) {
    case Format::U8:
    case Format::Bool:
      return widen<std::uint8_t>(from, count, to);
    case Format::I32:
      return widen<std::int32_t>(from, count, to);
    case Format::I64:
      return widen<std::int64_t>(from, count, to);
    default:
      DOJO_CHECK(false);
  }
}

template <class To>
void narrow(const std::int64_t* from, std::int64_t count, void* to) {
  To* values = static_cast<To*>(to);
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<To>(from[i]);
  }
}

void narrow_integers(Format format, const std::int64_t* from, std::int64_t count, void* to) {
  switch (format) {
    case Format::U8:
      return narrow<std::uint8_t>(from, count, to);
    case Format::Bool:
      for (std::int64_t i = 0; i < count; ++i) {
        static_cast<std::uint8_t*>(to)[i] = from[i] != 0 ? 1 : 0;
      }
      return;
    case Format::I32:
      return narrow<std::int32_t>(from, count, to);
    case Format::I64:
      return narrow<std::int64_t>(from, count, to);
    default:
      DOJO_CHECK(false);
  }
}

// The function of each code, times the factor if there is one.
template <class Code>
void look_up_codes(const Code* codes, const float* table, const float* factor, std::int64_t count,
                   float* out) {
  if (factor == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) {
      out[i] = table[codes[i]];
    }
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = factor[i] * table[codes[i]];
  }
}

bool is_lane_type(Lane lane, Format format) {
  return lane == Lane::Float ? format == Format::F32 : format == Format::I64;
}

}  // namespace

// Virtual registers first, one per block value; then as few real ones as lifetimes allow.
class MapProgram::Compiler {
 public:
  Compiler(MapProgram& program, std::span<const Buffer> buffers, FunctionTables& tables)
      : program_(program), buffers_(buffers), tables_(tables) {}

  void add(const MapStep& step) {
    DOJO_CHECK(step.kernel != nullptr && step.in.size() == step.kernel->in.size() &&
               step.out.size() == step.kernel->out.size());
    if (is_tabulated(*step.kernel) && has_codes(step.in.back())) {
      look_up(step);
      return;
    }
    Instruction compute;
    compute.kernel = step.kernel;
    compute.params = step.params;
    for (std::size_t i = 0; i < step.in.size(); ++i) {
      DOJO_CHECK(step.in[i].elements() == program_.elements_);
      compute.in.push_back(operand(step.in[i], BlockKernel::lane(step.kernel->in[i])));
    }
    std::vector<Instruction> stores;
    for (std::size_t i = 0; i < step.out.size(); ++i) {
      compute.out.push_back(result(step.out[i], BlockKernel::lane(step.kernel->out[i]), stores));
    }
    push(std::move(compute), stores);
  }

  void assign_registers() {
    std::vector<std::size_t> last_use(static_cast<std::size_t>(virtual_), 0);
    for_each_register(
        [&](std::size_t at, int& reg) { last_use[static_cast<std::size_t>(reg)] = at; });
    std::vector<int> real(static_cast<std::size_t>(virtual_), -1);
    std::vector<int> free;
    int used = 0;
    for (Instruction& load : program_.constant_) {  // kept in their registers throughout
      const auto v = static_cast<std::size_t>(load.reg);
      real[v] = used++;
      load.reg = real[v];
      last_use[v] = program_.instructions_.size();
    }
    std::size_t previous = 0;
    std::vector<int> dying;  // at the previous instruction
    for_each_register([&](std::size_t at, int& reg) {
      if (at != previous) {
        free.insert(free.end(), dying.begin(), dying.end());
        dying.clear();
        previous = at;
      }
      const auto v = static_cast<std::size_t>(reg);
      if (real[v] < 0) {
        if (free.empty()) {
          real[v] = used++;
        } else {
          real[v] = free.back();
          free.pop_back();
        }
      }
      if (last_use[v] == at && std::find(dying.begin(), dying.end(), real[v]) == dying.end()) {
        dying.push_back(real[v]);
      }
      reg = real[v];
    });
    program_.registers_ = static_cast<std::size_t>(used);
  }

 private:
  // Codes as they were before this program, few enough for a table.
  bool has_codes(const View& view) const {
    const Format format = buffers_[view.buffer.index].format;
    const bool is_small = bytes_of(format) == 1 || (bytes_of(format) == 2 && !has_bias(format));
    return is_float(format) && is_small && view.is_contiguous() &&
           std::find(stored_.begin(), stored_.end(), view.buffer) == stored_.end();
  }

  void look_up(const MapStep& step) {
    const View& codes = step.in.back();
    const Format format = buffers_[codes.buffer.index].format;
    Instruction look_up;
    look_up.kind = Kind::LookUp;
    look_up.buffer = codes.buffer;
    look_up.offset = codes.offset;
    if (bytes_of(format) == 2) {
      look_up.table = tables_.of(*step.kernel, step.params, format);
    } else {
      Instruction table;
      table.kind = Kind::FillTable;
      table.kernel = step.kernel;
      table.params = step.params;
      table.buffer = codes.buffer;
      table.reg = look_up.reg = virtual_++;
      program_.constant_.push_back(std::move(table));
    }
    if (step.in.size() > 1) {
      look_up.in.push_back(operand(step.in.front(), Lane::Float));
    }
    std::vector<Instruction> stores;
    look_up.out.push_back(result(step.out.front(), Lane::Float, stores));
    push(std::move(look_up), stores);
  }

  void push(Instruction instruction, std::vector<Instruction>& stores) {
    program_.instructions_.push_back(std::move(instruction));
    for (Instruction& store : stores) {
      stored_.push_back(store.buffer);
      program_.instructions_.push_back(std::move(store));
    }
  }

  Place operand(const View& view, Lane lane) {
    const Buffer& buffer = buffers_[view.buffer.index];
    Place place;
    if (buffer.place == internal::Place::Register) {
      DOJO_CHECK(lane == Lane::Float && view.is_contiguous() && view.offset == 0);
      place.reg = written_.at(view.buffer.index);
      return place;
    }
    if (view.is_contiguous() && is_lane_type(lane, buffer.format)) {
      return {.is_direct = true, .reg = 0, .buffer = view.buffer, .offset = view.offset};
    }
    Instruction load;
    load.kind = Kind::Load;
    load.buffer = view.buffer;
    load.lane = lane;
    load.offset = view.offset;
    load.is_contiguous = view.is_contiguous();
    if (!load.is_contiguous) {
      load.runs = runs_of(view);
    }
    const auto key = std::tuple(view.buffer.index, view.offset, view.shape, view.strides, lane);
    const auto [found, is_new] = loaded_.try_emplace(key, virtual_);
    if (is_new) {
      load.reg = virtual_++;
      const bool is_constant =
          !load.is_contiguous && std::all_of(load.runs.begin(), load.runs.end(),
                                             [](const Run& run) { return run.stride == 0; });
      (is_constant ? program_.constant_ : program_.instructions_).push_back(std::move(load));
    }
    place.reg = found->second;
    return place;
  }

  Place result(const View& view, Lane lane, std::vector<Instruction>& stores) {
    const Buffer& buffer = buffers_[view.buffer.index];
    DOJO_CHECK(view.is_contiguous() && view.elements() == program_.elements_);
    const bool is_internal =
        buffer.place == internal::Place::Register || buffer.place == internal::Place::Nowhere;
    if (!is_internal && is_lane_type(lane, buffer.format)) {
      return {.is_direct = true, .reg = 0, .buffer = view.buffer, .offset = view.offset};
    }
    Place place;
    place.reg = virtual_++;
    if (is_internal) {
      written_[view.buffer.index] = place.reg;
      return place;
    }
    DOJO_CHECK((lane == Lane::Float) == is_float(buffer.format));
    Instruction store;
    store.kind = Kind::Store;
    store.buffer = view.buffer;
    store.lane = lane;
    store.offset = view.offset;
    store.reg = place.reg;
    if (lane == Lane::Float) {
      store.encoded = static_cast<int>(program_.encoded_.size());
      program_.encoded_.push_back(view.buffer);
    }
    stores.push_back(std::move(store));
    return place;
  }

  template <class Visit>
  void for_each_register(const Visit& visit) {
    for (std::size_t at = 0; at < program_.instructions_.size(); ++at) {
      Instruction& instruction = program_.instructions_[at];
      if (instruction.kind != Kind::Compute && instruction.table == nullptr) {
        visit(at, instruction.reg);
      }
      for (std::vector<Place>* places : {&instruction.in, &instruction.out}) {
        for (Place& place : *places) {
          if (!place.is_direct) {
            visit(at, place.reg);
          }
        }
      }
    }
  }

  MapProgram& program_;
  std::span<const Buffer> buffers_;
  FunctionTables& tables_;
  int virtual_ = 0;
  std::map<std::uint32_t, int> written_;  // register buffers
  std::vector<BufferId> stored_;
  std::map<std::tuple<std::uint32_t, std::int64_t, graph::Shape, std::vector<std::int64_t>, Lane>,
           int>
      loaded_;
};

MapProgram::MapProgram(std::span<const MapStep> steps, std::span<const Buffer> buffers,
                       FunctionTables& tables) {
  DOJO_CHECK(!steps.empty());
  elements_ = steps.front().out.front().elements();
  Compiler compiler(*this, buffers, tables);
  for (const MapStep& step : steps) {
    compiler.add(step);
  }
  compiler.assign_registers();
}

void MapProgram::run(const StepContext& context, std::int64_t begin, std::int64_t end, MapMode mode,
                     Pieces pieces, MapScratch& scratch) const {
  for (const Instruction& instruction : constant_) {
    if (instruction.kind == Kind::FillTable) {
      tabulate(
          *instruction.kernel, instruction.params, context.type(instruction.buffer), context.isa,
          {reinterpret_cast<float*>(scratch.registers[static_cast<std::size_t>(instruction.reg)]),
           256});
    } else {
      load(context, instruction, begin, std::min(kBlock, end - begin), scratch);
    }
  }
  for (std::int64_t first = begin; first < end; first += kBlock) {
    const std::int64_t count = std::min(kBlock, end - first);
    for (const Instruction& instruction : instructions_) {
      switch (instruction.kind) {
        case Kind::Load:
          load(context, instruction, first, count, scratch);
          break;
        case Kind::Compute:
          compute(context, instruction, first, count, pieces, scratch);
          break;
        case Kind::Store:
          store(context, instruction, first, count, mode, scratch);
          break;
        case Kind::LookUp:
          look_up(context, instruction, first, count, pieces, scratch);
          break;
        case Kind::FillTable:
          break;
      }
    }
  }
}

void MapProgram::load(const StepContext& context, const Instruction& instruction,
                      std::int64_t first, std::int64_t count, MapScratch& scratch) const {
  const Format format = context.buffers[instruction.buffer.index].format;
  const std::int64_t width = bytes_of(format);
  void* const target = scratch.registers[static_cast<std::size_t>(instruction.reg)];
  const std::byte* base = context.data[instruction.buffer.index];
  const void* raw = base + (instruction.offset + first) * width;
  if (!instruction.is_contiguous) {
    void* const place = is_lane_type(instruction.lane, format) ? target : scratch.raw;
    gather_bytes(width, base, instruction.offset, instruction.runs, first, count, place);
    if (place == target) {
      return;
    }
    raw = place;
  }
  if (instruction.lane == Lane::Int) {
    widen_integers(format, raw, count, static_cast<std::int64_t*>(target));
  } else if (is_float(format) || format == Format::U8) {
    numerics::decode({static_cast<const std::byte*>(raw), static_cast<std::size_t>(count * width)},
                     context.type(instruction.buffer),
                     {static_cast<float*>(target), static_cast<std::size_t>(count)}, context.isa);
  } else {
    widen_integers(format, raw, count, static_cast<float*>(target));
  }
}

std::byte* MapProgram::address(const StepContext& context, const Place& place, std::int64_t first,
                               Pieces pieces, MapScratch& scratch) {
  if (!place.is_direct) {
    return scratch.registers[static_cast<std::size_t>(place.reg)];
  }
  for (const Piece& piece : pieces) {
    if (piece.buffer == place.buffer) {
      return reinterpret_cast<std::byte*>(piece.data + (place.offset + first - piece.first));
    }
  }
  const Format format = context.buffers[place.buffer.index].format;
  return context.data[place.buffer.index] + (place.offset + first) * bytes_of(format);
}

void MapProgram::look_up(const StepContext& context, const Instruction& instruction,
                         std::int64_t first, std::int64_t count, Pieces pieces,
                         MapScratch& scratch) {
  const auto floats = [](std::byte* at) { return reinterpret_cast<float*>(at); };
  const std::int64_t width = bytes_of(context.buffers[instruction.buffer.index].format);
  const std::byte* codes =
      context.data[instruction.buffer.index] + (instruction.offset + first) * width;
  float* out = floats(address(context, instruction.out.front(), first, pieces, scratch));
  const float* factor =
      instruction.in.empty()
          ? nullptr
          : floats(address(context, instruction.in.front(), first, pieces, scratch));
  if (instruction.table != nullptr) {
    look_up_codes(reinterpret_cast<const std::uint16_t*>(codes), instruction.table->data(), factor,
                  count, out);
  } else {
    look_up_codes(reinterpret_cast<const std::uint8_t*>(codes),
                  floats(scratch.registers[static_cast<std::size_t>(instruction.reg)]), factor,
                  count, out);
  }
}

void MapProgram::compute(const StepContext& context, const Instruction& instruction,
                         std::int64_t first, std::int64_t count, Pieces pieces,
                         MapScratch& scratch) const {
  constexpr std::size_t kOperands = 16;
  std::array<const void*, kOperands> in{};
  std::array<void*, kOperands> out{};
  DOJO_DCHECK(instruction.in.size() <= kOperands && instruction.out.size() <= kOperands);
  for (std::size_t i = 0; i < instruction.in.size(); ++i) {
    in[i] = address(context, instruction.in[i], first, pieces, scratch);
  }
  for (std::size_t i = 0; i < instruction.out.size(); ++i) {
    out[i] = address(context, instruction.out[i], first, pieces, scratch);
  }
  BlockCall call;
  call.count = count;
  call.first = first;
  call.in = in.data();
  call.out = out.data();
  call.params = &instruction.params;
  call.seed = context.seed;
  call.step = context.step;
  call.isa = context.isa;
  instruction.kernel->function(context.isa)(call);
}

void MapProgram::store(const StepContext& context, const Instruction& instruction,
                       std::int64_t first, std::int64_t count, MapMode mode,
                       MapScratch& scratch) const {
  const Buffer& buffer = context.buffers[instruction.buffer.index];
  const std::int64_t width = bytes_of(buffer.format);
  const void* source = scratch.registers[static_cast<std::size_t>(instruction.reg)];
  std::byte* target = context.data[instruction.buffer.index] + (instruction.offset + first) * width;
  if (instruction.lane == Lane::Int) {
    narrow_integers(buffer.format, static_cast<const std::int64_t*>(source), count, target);
    return;
  }
  numerics::StorageFormat type = context.type(instruction.buffer);
  if (mode == MapMode::Measure) {
    if (!has_bias(buffer.format)) {
      return;
    }
    target = scratch.raw;
    type.bias = 0;
  }
  numerics::RoundingSpec rounding;
  if (buffer.is_stochastic && mode == MapMode::Store) {
    rounding.mode = numerics::Rounding::Stochastic;
    rounding.stream = {context.seed, context.stream[instruction.buffer.index], context.step};
    rounding.first_element = static_cast<std::uint64_t>(instruction.offset + first);
  }
  numerics::encode_and_add({static_cast<const float*>(source), static_cast<std::size_t>(count)},
                           type, rounding, {target, static_cast<std::size_t>(count * width)},
                           scratch.stats[static_cast<std::size_t>(instruction.encoded)],
                           context.isa);
}

}  // namespace dojo::run::internal
