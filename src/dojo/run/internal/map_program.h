// Element-wise work in blocks. A MapStep applies one BlockKernel to whole tensors; a MapProgram is
// a list of steps over one index space, compiled so that each block of elements is loaded, decoded,
// computed and encoded in one pass, with intermediates in registers (blocks of scratch memory).
//
// Invariant: the bits of an element depend on the operands alone, not on the block it falls into,
// on the thread, or on whether an intermediate was stored or kept in a register.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "dojo/base/philox.h"
#include "dojo/base/thread_pool.h"
#include "dojo/numerics/encode.h"
#include "dojo/numerics/isa.h"
#include "dojo/numerics/product_unit.h"
#include "dojo/numerics/storage.h"
#include "dojo/run/internal/view.h"

namespace dojo::run::internal {

// PERF: a chain of ten registers of 1,024 floats stays in a 48 KiB L1 cache.
inline constexpr std::int64_t kBlock = 1024;

// How a block holds its elements: float, or int64 for integers and bools.
enum class Lane : std::uint8_t { Float, Int };

// Attributes of an op, resolved once.
struct Params {
  std::array<float, 8> f{};
  std::array<std::int64_t, 4> i{};
};

struct BlockCall {
  std::int64_t count = 0;  // elements, at most kBlock
  std::int64_t first = 0;  // index in the tensor of the block's first element
  const void* const* in = nullptr;
  void* const* out = nullptr;
  const Params* params = nullptr;
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  numerics::Isa isa = numerics::Isa::Plain;

  const float* floats(std::size_t i) const { return static_cast<const float*>(in[i]); }
  const std::int64_t* ints(std::size_t i) const { return static_cast<const std::int64_t*>(in[i]); }
  float* float_out(std::size_t i) const { return static_cast<float*>(out[i]); }
  std::int64_t* int_out(std::size_t i) const { return static_cast<std::int64_t*>(out[i]); }
};

using BlockFunction = void (*)(const BlockCall&);

// One element-wise function of blocks. An output may be an input's block: every element is read
// before its own is written. All functions give equal bits.
struct BlockKernel {
  std::string_view in;   // lanes of the operands: "ff"
  std::string_view out;  // and of the results
  BlockFunction plain = nullptr;
  BlockFunction avx2 = nullptr;
  BlockFunction avx512 = nullptr;

  BlockFunction function(numerics::Isa isa) const {
    switch (isa) {
      case numerics::Isa::Plain:
        return plain;
      case numerics::Isa::Avx2:
        return avx2;
      case numerics::Isa::Avx512:
        return avx512;
    }
    return plain;
  }
  static constexpr Lane lane(char letter) { return letter == 'f' ? Lane::Float : Lane::Int; }
};

struct MapStep {
  const BlockKernel* kernel = nullptr;
  Params params;
  std::vector<View> in;   // of the outputs' shape
  std::vector<View> out;  // contiguous
};

// A piece of a buffer that is not stored whole: elements from `first` on lie at `data`.
struct Piece {
  BufferId buffer;
  float* data = nullptr;
  std::int64_t first = 0;
};
// Those of one pass: at most a kernel's result, its operand, and what that was made of.
using Pieces = std::span<const Piece>;

// What a step needs to know of the running executor.
struct StepContext {
  ThreadPool* pool = nullptr;
  numerics::Isa isa = numerics::Isa::Plain;
  numerics::ProductUnit unit = numerics::ProductUnit::Fma;
  numerics::DenormalScale denormals = numerics::DenormalScale::Paper;
  std::uint64_t seed = 0;
  std::uint32_t step = 0;                 // completed steps before this one
  const Buffer* buffers = nullptr;        // by BufferId
  std::byte* const* data = nullptr;       // by BufferId
  int* bias = nullptr;                    // by BufferId, of configurable floats
  const std::uint32_t* stream = nullptr;  // by BufferId: the tensor id that random bits hang on
  Pieces pieces;

  // The address of the view's element 0.
  template <class T>
  T* at(const View& view) const {
    return reinterpret_cast<T*>(data[view.buffer.index]) + view.offset;
  }
  numerics::StorageFormat type(BufferId buffer) const {
    return {buffers[buffer.index].format, bias[buffer.index], denormals};
  }
  numerics::Storage storage(const View& view) const {
    return {data[view.buffer.index], type(view.buffer), view.offset};
  }
  // Element `first` of a contiguous view and those after it, also where the buffer is there in
  // pieces.
  numerics::Storage elements(const View& view, std::int64_t first) const {
    for (const Piece& piece : pieces) {
      if (piece.buffer == view.buffer) {
        return {piece.data, type(view.buffer), view.offset + first - piece.first};
      }
    }
    return {data[view.buffer.index], type(view.buffer), view.offset + first};
  }
  // As many elements as `to` holds, in FP32; on the calling thread.
  void load(const View& view, std::int64_t first, std::span<float> to) const {
    const numerics::Storage from = elements(view, first);
    const auto width = static_cast<std::size_t>(bytes_of(from.type.format));
    const auto* bytes = static_cast<const std::byte*>(from.data);
    numerics::decode({bytes + static_cast<std::size_t>(from.offset) * width, to.size() * width},
                     from.type, to, isa);
  }
};

// Scratch memory and counters of one thread inside a pass.
struct MapScratch {
  std::vector<std::byte*> registers;  // kBlock * 8 bytes each
  std::byte* raw = nullptr;           // kBlock * 8 bytes
  std::vector<numerics::EncodeStats> stats;
};

enum class MapMode : std::uint8_t {
  Store,    // write the outputs
  Measure,  // only take the amax of configurable float outputs, whose bias is not known yet
};

class FunctionTables;

class MapProgram {
 public:
  // The steps in order, all of one element count. Buffers with Place::Register are internal: each
  // is written by one step before it is read, contiguously.
  MapProgram(std::span<const MapStep> steps, std::span<const Buffer> buffers,
             FunctionTables& tables);

  std::int64_t elements() const { return elements_; }
  std::size_t registers() const { return registers_; }
  // The stored float outputs that are rounded; scratch.stats has one entry for each.
  const std::vector<BufferId>& encoded() const { return encoded_; }

  // Elements [begin, end). Adds to scratch.stats.
  void run(const StepContext& context, std::int64_t begin, std::int64_t end, MapMode mode,
           Pieces pieces, MapScratch& scratch) const;

 private:
  // A function of codes is looked up: of 8 bits in a register of its 256 values, for these depend
  // on the bias; of 16 bits in a table made before.
  enum class Kind : std::uint8_t { Load, Compute, Store, FillTable, LookUp };
  // Where a block of a lane lies: a register, or directly in a buffer of the lane's own type.
  struct Place {
    bool is_direct = false;
    int reg = 0;
    BufferId buffer;
    std::int64_t offset = 0;
  };
  struct Instruction {
    Kind kind = Kind::Compute;
    // Load, Store; FillTable, LookUp: of the codes
    BufferId buffer;
    Lane lane = Lane::Float;
    std::int64_t offset = 0;
    bool is_contiguous = true;
    std::vector<Run> runs;  // Load, if not contiguous
    int reg = 0;
    std::shared_ptr<const std::vector<float>> table;  // LookUp, of 16 bits
    int encoded = -1;  // Store: index into encoded_, or -1 if nothing is rounded
    // Compute, FillTable; LookUp: a factor or nothing in, the result out
    const BlockKernel* kernel = nullptr;
    Params params;
    std::vector<Place> in;
    std::vector<Place> out;
  };
  class Compiler;

  void load(const StepContext& context, const Instruction& instruction, std::int64_t first,
            std::int64_t count, MapScratch& scratch) const;
  void compute(const StepContext& context, const Instruction& instruction, std::int64_t first,
               std::int64_t count, Pieces pieces, MapScratch& scratch) const;
  static void look_up(const StepContext& context, const Instruction& instruction,
                      std::int64_t first, std::int64_t count, Pieces pieces, MapScratch& scratch);
  // Where a block of the place lies.
  static std::byte* address(const StepContext& context, const Place& place, std::int64_t first,
                            Pieces pieces, MapScratch& scratch);
  void store(const StepContext& context, const Instruction& instruction, std::int64_t first,
             std::int64_t count, MapMode mode, MapScratch& scratch) const;

  std::int64_t elements_ = 0;
  std::size_t registers_ = 0;
  std::vector<BufferId> encoded_;
  std::vector<Instruction> constant_;  // loads of one number and tables: the same for all blocks
  std::vector<Instruction> instructions_;
};

}  // namespace dojo::run::internal
